"""Evaluate a checkpoint on a store: `evaluation.json`, `evaluation_predictions.npz` and `evaluation_boxes.csv`."""

import platform
from pathlib import Path
from typing import Any

import numpy as np
import torch

from clarity_cxr import __version__
from clarity_cxr.anatomy.store_priors import verify_priors
from clarity_cxr.data.store import FilmStore, open_store
from clarity_cxr.errors import StoreError
from clarity_cxr.evaluation.predictions import Predictions, load_predictions, predict_store, save_predictions
from clarity_cxr.evaluation.score import EvaluationOptions, score
from clarity_cxr.evaluation.summary import plain
from clarity_cxr.files import atomic_path, file_digest, output_errors, write_json
from clarity_cxr.models import Checkpoint, load_checkpoint
from clarity_cxr.models.device import usable_device
from clarity_cxr.processes import joined_processes, process_rank

RESULT_FILE = "evaluation.json"
PREDICTIONS_FILE = "evaluation_predictions.npz"
BOXES_FILE = "evaluation_boxes.csv"


def evaluate(
    checkpoint: Path,
    store: Path,
    out: Path,
    options: EvaluationOptions | None = None,
    predictions: Path | None = None,
) -> dict[str, Any]:
    """Evaluate a checkpoint and write `evaluation.json`, `evaluation_predictions.npz` and `evaluation_boxes.csv`.

    Args:
        checkpoint: a `.safetensors` file written by training.
        store: a prepared store of the checkpoint's image size.
        out: folder of the results, made if need be.
        options: how to evaluate; None is `EvaluationOptions()`.
        predictions: `evaluation_predictions.npz` of an earlier evaluation of this checkpoint on this store, to score
            again; None runs the model.

    Returns:
        The content of `evaluation.json`. Processes that `torchrun` started share the films; all but the first return
        nothing.

    Raises:
        CheckpointError: the checkpoint cannot be used.
        StoreError: the store cannot be used, does not fit the checkpoint, or has priors of other films.
        ClarityError: the device is not there, the stored predictions cannot be used, or the results cannot be
            written.
    """
    options = options or EvaluationOptions()
    usable_device(options.device)
    loaded = load_checkpoint(checkpoint)
    films = open_store(store)
    check_fit(films, checkpoint, loaded)
    if films.priors is not None:
        verify_priors(films)
    with output_errors(out):  # before hours of prediction, not after
        out.mkdir(parents=True, exist_ok=True)
    with joined_processes(options.device) as device:
        predicted = (
            _predict(loaded, films, options, device) if predictions is None else load_predictions(predictions, films)
        )
        if process_rank() > 0:
            return {}
    scored = score(predicted, films, loaded.model.config.grid, options, loaded.metadata.calibration)
    result = {
        **scored.figures,
        "checkpoint": {
            "file": str(checkpoint),
            "sha256": file_digest(checkpoint),
            "config": loaded.metadata.config.to_dict(),
            "thresholds": loaded.metadata.thresholds,
            "provenance": loaded.metadata.provenance,
        },
        "store": {"folder": str(store), "fingerprint": films.fingerprint, "manifest": films.manifest},
        "versions": {"clarity_cxr": __version__, "torch": torch.__version__, "python": platform.python_version()},
    }
    result = plain(result)
    save_predictions(out / PREDICTIONS_FILE, predicted, films)
    with atomic_path(out / BOXES_FILE) as temporary:
        scored.boxes.to_csv(temporary, index=False)
    write_json(out / RESULT_FILE, result)
    return result


def _predict(checkpoint: Checkpoint, films: FilmStore, options: EvaluationOptions, device: torch.device) -> Predictions:
    return predict_store(
        checkpoint.model,
        films,
        np.concatenate([films.rows("val"), films.rows("test")]),
        map_rows=np.concatenate([films.localization_rows("val"), films.localization_rows("test")]),
        mean_rows=np.union1d(films.rows("val"), films.localization_rows("val")),
        device=device,
        batch_size=options.batch_size,
        bfloat16=options.bfloat16,
    )


def check_fit(store: FilmStore, checkpoint_path: Path, checkpoint: Checkpoint) -> None:
    """Refuse a store whose films or findings are not the checkpoint's.

    Raises:
        StoreError: names both, and what to do.
    """
    needed = checkpoint.metadata.image_size
    if store.size != needed:
        raise StoreError(
            f"{store.path}: films are {store.size} px, but {checkpoint_path} takes {needed} px; "
            f"prepare a store with --size {needed} or choose another checkpoint"
        )
    held = tuple(store.manifest["findings"])
    if held != checkpoint.metadata.findings:
        raise StoreError(
            f"{store.path}: findings are {', '.join(held)}, but {checkpoint_path} was trained for "
            f"{', '.join(checkpoint.metadata.findings)}; choose a store and a checkpoint of one finding set"
        )
