"""Calibrate a checkpoint: fit on a store's validation films, and write it with what was fitted."""

import dataclasses
from pathlib import Path

import numpy as np

from clarity_cxr.calibration import Calibration, Method
from clarity_cxr.data.store import open_store
from clarity_cxr.errors import StoreError
from clarity_cxr.evaluation.calibration import SENSITIVITY, fit_calibration
from clarity_cxr.evaluation.evaluate import check_fit
from clarity_cxr.evaluation.predictions import predict_store
from clarity_cxr.models import load_checkpoint, save_checkpoint
from clarity_cxr.models.device import usable_device


def calibrate(
    checkpoint: Path,
    store: Path,
    out: Path,
    *,
    method: Method = "platt",
    sensitivity: float = SENSITIVITY,
    device: str = "cpu",
    batch_size: int = 64,
) -> Calibration:
    """Fit on a store's validation films and write the checkpoint with its calibration.

    Args:
        checkpoint: `.safetensors` written by training.
        store: prepared store of the checkpoint's image size.
        out: where to write the checkpoint; may be the same file.
        method: `platt` or `temperature`.
        sensitivity: of the operating point `sensitive`.
        device: where the model runs.
        batch_size: films per forward pass.

    Raises:
        CheckpointError: the checkpoint cannot be used.
        StoreError: the store does not fit it, or has no validation films.
        ConfigError: the sensitivity is not in (0, 1].
    """
    usable_device(device)
    loaded = load_checkpoint(checkpoint)
    films = open_store(store)
    check_fit(films, checkpoint, loaded)
    rows, nothing = films.rows("val"), np.zeros(0, dtype=np.int64)
    if not len(rows):
        raise StoreError(f"{store}: no validation films to calibrate on; choose a store with films in the split 'val'")
    predictions = predict_store(
        loaded.model, films, rows, map_rows=nothing, mean_rows=nothing, device=device, batch_size=batch_size
    )
    fitted = fit_calibration(
        predictions.probabilities_of(rows),
        films.labels[rows],
        films.labelled[rows],
        method=method,
        sensitivity=sensitivity,
    )
    fitted = dataclasses.replace(fitted, fitted_on=fitted.fitted_on | {"store": films.fingerprint})
    metadata = loaded.metadata
    save_checkpoint(
        out,
        loaded.model,
        thresholds=metadata.thresholds,
        provenance=metadata.provenance,
        calibration=fitted,
    )
    return fitted
