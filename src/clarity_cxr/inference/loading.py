"""Whatever can predict, from its file: a checkpoint in torch, an exported model without it."""

from pathlib import Path

from clarity_cxr.calibration import OperatingPoint
from clarity_cxr.inference.predictor import Predictor, load
from clarity_cxr.inference.runner import OnnxPredictor

AnyPredictor = Predictor | OnnxPredictor


def load_predictor(
    path: Path, device: str = "cpu", decision_threshold: float = 0.5, operating_point: OperatingPoint | None = None
) -> AnyPredictor:
    """Load a `.safetensors` checkpoint or an `.onnx` export; the latter runs on the CPU, whatever the device.

    Raises:
        CheckpointError: the file is missing, unsafe, damaged, or of another finding set.
        ClarityError: the device does not exist here, the threshold is not in [0, 1], there is no such operating point,
            or onnxruntime is not installed.
    """
    if path.suffix == ".onnx":
        return OnnxPredictor(path, decision_threshold=decision_threshold, operating_point=operating_point)
    return load(path, device, decision_threshold=decision_threshold, operating_point=operating_point)
