"""Whatever can predict, from its file: a checkpoint in torch, an exported model without it."""

from pathlib import Path
from typing import Any, get_args

from clarity_cxr.calibration import OperatingPoint
from clarity_cxr.errors import ClarityError
from clarity_cxr.inference.engines import Backend, ExportBackend, TorchBackend
from clarity_cxr.inference.predictor import Predictor, load
from clarity_cxr.inference.runner import OnnxPredictor

AnyPredictor = Predictor | OnnxPredictor

CHECKPOINT_BACKEND: TorchBackend = "torch"
EXPORT_BACKEND: ExportBackend = "onnxruntime"
"""What runs a file when nobody chooses: the fastest here that gives the same boxes, see docs/export.md."""


def load_predictor(
    path: Path,
    device: str = "cpu",
    decision_threshold: float = 0.5,
    operating_point: OperatingPoint | None = None,
    backend: Backend | None = None,
    streams: int = 1,
) -> AnyPredictor:
    """Load a `.safetensors` checkpoint or an `.onnx` export; the latter runs on the CPU, whatever the device.

    Args:
        path: the file.
        device: where a checkpoint's model runs.
        decision_threshold: the model's own probability, before calibration, from which a finding is decided positive.
        operating_point: decide at this operating point of the model's calibration instead.
        backend: what computes; None is `CHECKPOINT_BACKEND` or `EXPORT_BACKEND`.
        streams: an export's forward passes at once, see `clarity_cxr.inference.engines.open_engine`.

    Raises:
        CheckpointError: the file is missing, unsafe, damaged, or of another finding set.
        ClarityError: the device does not exist here, the threshold is not in [0, 1], there is no such operating point,
            the backend does not run this kind of file, or its package is not installed.
    """
    exported = path.suffix == ".onnx"
    chosen: Any = backend or (EXPORT_BACKEND if exported else CHECKPOINT_BACKEND)
    if exported and chosen in get_args(TorchBackend):
        raise ClarityError(f"{path}: --backend {chosen} runs .safetensors checkpoints; leave it out or give one")
    if not exported and chosen in get_args(ExportBackend):
        raise ClarityError(
            f"{path}: --backend {chosen} runs .onnx exports; make one with `clarity export --checkpoint {path} --out F`"
        )
    rule: dict[str, Any] = {"decision_threshold": decision_threshold, "operating_point": operating_point}
    if exported:
        return OnnxPredictor(path, backend=chosen, streams=streams, **rule)
    return load(path, device, backend=chosen, **rule)
