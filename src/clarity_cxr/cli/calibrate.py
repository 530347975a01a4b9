"""`clarity calibrate`."""

from pathlib import Path

from clarity_cxr.calibration import Method


def calibrate(
    checkpoint: Path,
    /,
    *,
    store: Path,
    out: Path | None = None,
    method: Method = "platt",
    sensitivity: float = 0.9,
    device: str = "cpu",
    batch_size: int = 64,
) -> None:
    """Fit calibrated probabilities and operating points on validation films, and store them in the checkpoint.

    The order of films, and so every AUC, stays as it is. `clarity predict` then gives calibrated probabilities and can
    decide at each operating point: half (the model's own 0.5), youden, sensitive.

    Args:
        checkpoint: weights written by `clarity train` (.safetensors).
        store: folder written by `clarity prepare`, at the checkpoint's image size.
        out: where to write the checkpoint; if not given, it is replaced.
        method: platt (scale and offset per finding) or temperature (scale alone).
        sensitivity: of the operating point sensitive, on the validation films.
        device: where the model runs, e.g. cpu or cuda.
        batch_size: films per forward pass.
    """
    from clarity_cxr.evaluation.calibrate import calibrate as run

    target = out or checkpoint
    fitted = run(
        checkpoint, store, target, method=method, sensitivity=sensitivity, device=device, batch_size=batch_size
    )
    for finding, scale in fitted.scale.items():
        points = ", ".join(
            f"{name} {values[finding]:.3f}" for name, values in fitted.operating_points.items() if finding in values
        )
        print(f"{finding}: scale {scale:.3f}, offset {fitted.offset[finding]:+.3f}; decide from {points}")
    print(f"Written to {target}")
