"""A service around a checkpoint, until it is told to stop."""

from pathlib import Path

from clarity_cxr.calibration import OperatingPoint
from clarity_cxr.errors import ClarityError
from clarity_cxr.files import file_digest
from clarity_cxr.inference.loading import load_predictor
from clarity_cxr.inference.runner import OnnxPredictor
from clarity_cxr.serve.answers import ServedModel
from clarity_cxr.serve.limits import Limits


def run_service(model: ServedModel, host: str, port: int, limits: Limits) -> None:
    """Serve until SIGINT or SIGTERM; requests that are being answered are finished first.

    Raises:
        ClarityError: the extra is not installed.
    """
    try:
        import uvicorn

        from clarity_cxr.serve.app import create_app
    except ImportError as error:
        raise ClarityError(
            f'the service needs further packages ({error.name} is missing): pip install "clarity-cxr[serve,dicom]"'
        ) from None
    uvicorn.run(create_app(model, limits), host=host, port=port, timeout_graceful_shutdown=round(limits.seconds))


def served_model(
    checkpoint: Path, device: str, decision_threshold: float, operating_point: OperatingPoint | None
) -> ServedModel:
    """A checkpoint (.safetensors) or exported model (.onnx), ready to be served.

    Raises:
        CheckpointError: the file is missing, unsafe, damaged, or of another finding set.
        ClarityError: the device does not exist here, the threshold is not in [0, 1], or there is no such point.
    """
    predictor = load_predictor(checkpoint, device, decision_threshold, operating_point)
    if isinstance(predictor, OnnxPredictor):
        return ServedModel(predictor, predictor.metadata["config"]["name"], predictor.metadata["checkpoint_sha256"])
    return ServedModel(predictor, predictor.metadata.config.name, file_digest(checkpoint))
