"""`clarity export`."""

from pathlib import Path


def export(*, checkpoint: Path, out: Path) -> None:
    """Write a checkpoint as one ONNX file, from grey film of any size to calibrated probabilities, maps and heatmaps.

    Thresholds, calibration and provenance are inside. `predict` and `serve` take the file as a checkpoint, and
    `python -m clarity_cxr.inference.runner` runs it where torch is not installed.

    Args:
        checkpoint: weights written by `clarity train` (.safetensors).
        out: file to write, e.g. model.onnx.
    """
    from clarity_cxr.inference.export import export_onnx

    export_onnx(checkpoint, out)
    print(f"Written to {out}")
