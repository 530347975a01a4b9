"""`clarity export`."""

from pathlib import Path
from typing import Literal


def export(*, checkpoint: Path, out: Path, precision: Literal["float32", "int8"] = "float32") -> None:
    """Write a checkpoint as one ONNX file, from grey film of any size to calibrated probabilities, maps and heatmaps.

    Thresholds, calibration and provenance are inside. `predict` and `serve` take the file as a checkpoint, and
    `python -m clarity_cxr.inference.runner` runs it where torch is not installed.

    Args:
        checkpoint: weights written by `clarity train` (.safetensors).
        out: file to write, e.g. model.onnx.
        precision: float32, or int8 weights: smaller and faster; check on your own films what it changes.
    """
    from clarity_cxr.inference.export import export_onnx

    export_onnx(checkpoint, out, precision)
    print(f"Written to {out}")
