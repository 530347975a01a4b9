"""`clarity serve`."""

from pathlib import Path

from clarity_cxr.calibration import OperatingPoint


def serve(
    *,
    checkpoint: Path,
    host: str = "127.0.0.1",
    port: int = 8000,
    device: str = "cpu",
    decision_threshold: float = 0.5,
    operating_point: OperatingPoint | None = None,
    megabytes: int = 64,
    seconds: float = 30.0,
    workers: int = 2,
    waiting: int = 14,
) -> None:
    """Answer films over HTTP, and show a viewer in the browser at `/`.

    POST a PNG, JPEG or DICOM file as the body of /v1/predict; /docs explains the answers, /health says that the
    service is up. Nothing is written to disk. There is no login: beyond this machine, put a proxy with one before it.

    Args:
        checkpoint: weights written by `clarity train` (.safetensors), or a model written by `clarity export` (.onnx).
        host: address to listen on; 127.0.0.1 is this machine alone.
        port: port to listen on.
        device: where a checkpoint's model runs: cpu, cuda, cuda:1, mps.
        decision_threshold: the model's own probability, before calibration, from which a finding is decided positive.
        operating_point: decide at an operating point that `clarity calibrate` stored instead: half, youden, sensitive.
        megabytes: largest film taken.
        seconds: longest time for an upload, and again for its prediction.
        workers: films predicted at once.
        waiting: further requests that may upload or wait; the rest are told to come back.
    """
    from clarity_cxr.serve.limits import Limits
    from clarity_cxr.serve.run import run_service, served_model

    model = served_model(checkpoint, device, decision_threshold, operating_point)
    run_service(model, host, port, Limits(megabytes, seconds, workers, waiting))
