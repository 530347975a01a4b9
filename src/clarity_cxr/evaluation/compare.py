"""Two runs on the same films: differences with intervals, both resampled with the same patients."""

from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from clarity_cxr.data.store import patient_ids
from clarity_cxr.errors import ClarityError
from clarity_cxr.evaluation.intervals import (
    PatientDraws,
    bootstrap_auc,
    bootstrap_share,
    draw_patients,
    mean_defined,
    percentile_interval,
)
from clarity_cxr.evaluation.protocols import PROTOCOLS
from clarity_cxr.evaluation.run_files import RunFiles
from clarity_cxr.findings import BOXED_FINDINGS, FINDINGS
from clarity_cxr.metrics import MSLI_THRESHOLDS, auc_per_finding

Figure = tuple[float, NDArray[np.float64]]
"""A figure, and (R,) of its replicates."""


def compare_runs(first: RunFiles, second: RunFiles, replicates: int = 1000, seed: int = 0) -> dict[str, dict[str, Any]]:
    """Second minus first, figure by figure.

    A difference whose interval spans 0 is one that other test patients might have turned round. Thresholds and weights
    are held, so that nothing is said about other training seeds.

    Args:
        first: a run with predictions and boxes.
        second: another on the same test films.
        replicates: R.
        seed: of the draws.

    Returns:
        name of the figure -> `first`, `second`, `difference`, `interval`. Figures are `macro_auc`, `auc FINDING`, and
        per protocol `msli`, `iou_accuracy 0.5` and `udp`, as far as both runs have them.

    Raises:
        ClarityError: a run lacks its predictions, or the films are not the same.
    """
    tables = [_test_films(files) for files in (first, second)]
    if not tables[0]["image_id"].equals(tables[1]["image_id"]):
        raise ClarityError(
            f"{first.folder} and {second.folder}: evaluated on different test films; compare runs on one store"
        )
    boxes = [files.boxes if files.boxes is not None else pd.DataFrame() for files in (first, second)]
    patients = patient_ids(tables[0])
    with_boxes = not any(of.empty for of in boxes)
    everyone = np.concatenate([patients, _box_patients(boxes[0], patients)]) if with_boxes else patients
    draws = draw_patients(everyone, replicates, seed)
    figures = [_figures(table, of if with_boxes else None, draws) for table, of in zip(tables, boxes, strict=True)]
    return {name: _difference(figures[0][name], figures[1][name]) for name in figures[0]}


def _test_films(files: RunFiles) -> pd.DataFrame:
    if files.predictions is None:
        raise ClarityError(f"{files.folder}: no evaluation_predictions.npz; `clarity evaluate` writes it")
    stored = files.predictions
    test = stored["split"] == "test"
    table = pd.DataFrame({"image_id": stored["image_id"][test], "patient_id": stored["patient_id"][test]})
    table[[f"p_{name}" for name in FINDINGS]] = stored["probabilities"][test]
    table[[f"y_{name}" for name in FINDINGS]] = stored["labels"][test]
    table[[f"labelled_{name}" for name in FINDINGS]] = stored["labelled"][test]
    return table.sort_values("image_id", ignore_index=True)


def _figures(films: pd.DataFrame, boxes: pd.DataFrame | None, draws: PatientDraws) -> dict[str, Figure]:
    probabilities = films[[f"p_{name}" for name in FINDINGS]].to_numpy()
    labels = films[[f"y_{name}" for name in FINDINGS]].to_numpy(dtype=bool)
    labelled = films[[f"labelled_{name}" for name in FINDINGS]].to_numpy(dtype=bool)
    auc = auc_per_finding(probabilities, labels, labelled)
    resampled = bootstrap_auc(probabilities, labels, patient_ids(films), draws, labelled)
    figures: dict[str, Figure] = {"macro_auc": (float(mean_defined(auc)), mean_defined(resampled))}
    figures |= {f"auc {name}": (float(auc[i]), resampled[:, i]) for i, name in enumerate(FINDINGS)}
    if boxes is None:
        return figures
    for protocol in PROTOCOLS:
        msli = _box_figure(boxes, f"iou_{protocol}", MSLI_THRESHOLDS, draws)
        figures[f"msli {protocol}"] = msli
        figures[f"iou_accuracy 0.5 {protocol}"] = _box_figure(boxes, f"iou_{protocol}", (0.5,), draws)
        macro = figures["macro_auc"]
        figures[f"udp {protocol}"] = ((macro[0] + msli[0]) / 2, (macro[1] + msli[1]) / 2)
    return figures


def _box_figure(boxes: pd.DataFrame, column: str, levels: tuple[float, ...], draws: PatientDraws) -> Figure:
    """Mean accuracy over IoU levels, macro over the findings with a counted box."""
    values, replicates = [], []
    for finding in BOXED_FINDINGS:
        mine = boxes[(boxes["finding"] == finding) & boxes[column].notna()]
        if mine.empty:
            continue
        hits = mine[column].to_numpy()[:, None] > np.asarray(levels)
        values.append(hits.mean())
        replicates.append(bootstrap_share(hits, _box_patients(mine, draws.patients), draws).mean(axis=1))
    if not values:
        return float("nan"), np.full(len(draws.counts), np.nan)
    return float(np.mean(values)), mean_defined(np.stack(replicates, axis=1))


def _box_patients(boxes: pd.DataFrame, like: NDArray[Any]) -> NDArray[Any]:
    """Patients of boxes that were read as text, as numbers where those of the films are."""
    return boxes["patient_id"].to_numpy(dtype=np.str_).astype(like.dtype)


def _difference(first: Figure, second: Figure) -> dict[str, Any]:
    return {
        "first": first[0],
        "second": second[0],
        "difference": second[0] - first[0],
        "interval": percentile_interval(second[1] - first[1]),
    }
