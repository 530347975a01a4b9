"""What a run's folder holds, read as far as it is there."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar
from zipfile import BadZipFile

import numpy as np
import pandas as pd

from clarity_cxr.data.store import FilmStore, open_store
from clarity_cxr.errors import ClarityError
from clarity_cxr.inference.predictor import Predictor, load

T = TypeVar("T")


@dataclass(frozen=True)
class RunFiles:
    """What a run's folder holds; a part that is not there is None.

    Attributes:
        folder: the run.
        evaluation: content of `evaluation.json`.
        predictions: `probabilities`, `labels` and `labelled` (n, 14), and (n,) `split`, `image_id`, `patient_id` of
            `evaluation_predictions.npz`.
        boxes: `evaluation_boxes.csv`, one row per localisation-test box.
        explanation: content of `explain.json`.
        ablations: `ablations.csv`, columns `row`, `seed`, `macro_auc`, `msli`, `udp` (Table 6).
        sweep: `sweep.csv`, columns `q`, `p`, `seed`, `macro_auc`, `msli`, `udp` (Figures 10 and 11).
        metrics: `train/metrics.csv`.
        predictor: of `train/best.safetensors`.
        store: `store/`.
    """

    folder: Path
    evaluation: dict[str, Any] | None
    predictions: dict[str, np.ndarray] | None
    boxes: pd.DataFrame | None
    explanation: dict[str, Any] | None
    ablations: pd.DataFrame | None
    sweep: pd.DataFrame | None
    metrics: pd.DataFrame | None
    predictor: Predictor | None
    store: FilmStore | None


def read_run(run: Path) -> RunFiles:
    """Read whatever parts of a run are there.

    Raises:
        ClarityError: see `build_report`.
    """
    if not run.is_dir():
        raise ClarityError(f"{run}: no such folder; expected a run with store/, train/ and evaluation.json")
    best = run / "train" / "best.safetensors"
    files = RunFiles(
        folder=run,
        evaluation=_read(run / "evaluation.json", _read_json),
        predictions=_read(run / "evaluation_predictions.npz", read_predictions),
        boxes=_read(run / "evaluation_boxes.csv", _read_boxes),
        explanation=_read(run / "explain.json", _read_json),
        ablations=_read(run / "ablations.csv", pd.read_csv),
        sweep=_read(run / "sweep.csv", pd.read_csv),
        metrics=_read(run / "train" / "metrics.csv", pd.read_csv),
        predictor=load(best) if best.exists() else None,
        store=open_store(run / "store") if (run / "store").exists() else None,
    )
    parts = (files.evaluation, files.metrics, files.predictor, files.store, files.ablations, files.sweep)
    if all(part is None for part in parts):
        raise ClarityError(
            f"{run}: nothing of a run is here; expected store/, train/metrics.csv, train/best.safetensors, "
            "evaluation.json, ablations.csv or sweep.csv"
        )
    return files


def _read(path: Path, reader: Callable[[Path], T]) -> T | None:
    if not path.exists():
        return None
    try:
        return reader(path)
    except (ValueError, KeyError, OSError, BadZipFile) as error:
        raise ClarityError(f"{path}: cannot be read ({error}); delete it and make it again") from error


def _read_json(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text("utf-8"))


def _read_boxes(path: Path) -> pd.DataFrame:
    try:
        return pd.read_csv(path, dtype={"patient_id": str})
    except pd.errors.EmptyDataError:  # a store without boxes
        return pd.DataFrame()


def read_predictions(path: Path) -> dict[str, np.ndarray]:
    """The arrays of `evaluation_predictions.npz` that `RunFiles.predictions` names."""
    with np.load(path, allow_pickle=False) as arrays:
        names = ("probabilities", "labels", "split", "image_id", "patient_id")
        labelled = arrays.get("labelled", np.ones_like(arrays["labels"]))
        return {name: arrays[name] for name in names} | {"labelled": labelled}
