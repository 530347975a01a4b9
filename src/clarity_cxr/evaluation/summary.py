"""Scores to figures: macro means, intervals and counts, as the plain values that `evaluation.json` holds.

An undefined figure is NaN here (null in the JSON) and the number of findings behind each mean stands beside it.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from clarity_cxr.evaluation.intervals import (
    PatientDraws,
    bootstrap_auc,
    bootstrap_share,
    mean_defined,
    percentile_interval,
)
from clarity_cxr.evaluation.protocols import PROTOCOLS, FindingScores, ProtocolName
from clarity_cxr.findings import BOXED_FINDINGS, FINDINGS
from clarity_cxr.metrics import MSLI_THRESHOLDS, auc_per_finding, delong

IOU_LEVELS: tuple[float, ...] = (0.1, 0.2, 0.25, 0.3, 0.4, 0.5, 0.6, 0.7, 0.75, 0.9)
"""T(IoU) at which IoU accuracy is reported: those of the published tables and those of MSLI."""

WITHOUT_CARDIOMEGALY: tuple[int, ...] = tuple(i for i, name in enumerate(BOXED_FINDINGS) if name != "Cardiomegaly")


@dataclass(frozen=True)
class Classification:
    """AUC on one split.

    Attributes:
        macro: mean AUC over the findings that have one.
        findings_in_mean: their number.
        macro_replicates: (R,) macro AUC of each bootstrap replicate.
        per_finding: finding -> `auc`, `auc_interval`, `auc_interval_delong`, `n_positive`, `n_negative` and
            `n_undefined`, films that the data set does not label.
    """

    macro: float
    findings_in_mean: int
    macro_replicates: NDArray[np.float64]
    per_finding: dict[str, dict[str, Any]]


@dataclass(frozen=True)
class Localization:
    """Localisation scores of one source of maps under several protocols.

    Attributes:
        msli: protocol -> macro MSLI over the findings with a counted box.
        msli_without_cardiomegaly: the same without Cardiomegaly, whose box is nearly its prior.
        findings_in_mean: protocol -> number of findings in `msli`.
        iou_accuracy: protocol -> T(IoU) -> macro IoU accuracy.
        msli_replicates: protocol -> (R,) macro MSLI of each bootstrap replicate.
        intervals: the 95 % intervals of `msli`, `msli_without_cardiomegaly` and `iou_accuracy`.
        per_finding: finding -> protocol -> `n`, `n_missed`, `msli`, `msli_interval`, `iou_accuracy`,
            `iou_accuracy_interval`, `threshold`, `threshold_source`.
    """

    msli: dict[str, float]
    msli_without_cardiomegaly: dict[str, float]
    findings_in_mean: dict[str, int]
    iou_accuracy: dict[str, dict[str, float]]
    msli_replicates: dict[str, NDArray[np.float64]]
    intervals: dict[str, dict[str, Any]]
    per_finding: dict[str, dict[str, dict[str, Any]]]


def summarise_classification(
    probabilities: NDArray[np.floating],
    labels: NDArray[np.bool_],
    patients: NDArray[Any],
    draws: PatientDraws,
    labelled: NDArray[np.bool_] | None = None,
) -> Classification:
    """AUC per finding and macro, with intervals.

    Args:
        probabilities: (n,14).
        labels: (n,14).
        patients: (n,).
        draws: bootstrap replicates that contain these patients.
        labelled: (n,14) bool, which labels are defined; None: all.
    """
    defined = np.ones_like(labels) if labelled is None else labelled
    auc = auc_per_finding(probabilities, labels, defined)
    replicates = bootstrap_auc(probabilities, labels, patients, draws, defined)
    per_finding = {
        finding: {
            "auc": float(auc[index]),
            "auc_interval": percentile_interval(replicates[:, index]),
            "auc_interval_delong": [*delong(probabilities[mine, index], labels[mine, index])[2:]],
            "n_positive": int(labels[mine, index].sum()),
            "n_negative": int((~labels[mine, index]).sum()),
            "n_undefined": int((~mine).sum()),
        }
        for index, (finding, mine) in enumerate(zip(FINDINGS, defined.T, strict=True))
    }
    return Classification(float(mean_defined(auc)), int(np.isfinite(auc).sum()), mean_defined(replicates), per_finding)


def summarise_localization(scores: Mapping[Any, Mapping[str, FindingScores]], draws: PatientDraws) -> Localization:
    """MSLI and IoU accuracy per finding and macro, with intervals.

    Args:
        scores: protocol -> finding -> counted boxes.
        draws: bootstrap replicates that contain the boxes' patients.
    """
    in_msli = np.isin(IOU_LEVELS, MSLI_THRESHOLDS)
    intervals: dict[str, dict[str, Any]] = {"msli": {}, "msli_without_cardiomegaly": {}, "iou_accuracy": {}}
    result = Localization({}, {}, {}, {}, {}, intervals, {})
    for name in scores:
        accuracy = np.full((len(BOXED_FINDINGS), len(IOU_LEVELS)), np.nan)
        shares = np.full((len(draws.counts), len(BOXED_FINDINGS), len(IOU_LEVELS)), np.nan)
        for index, finding in enumerate(BOXED_FINDINGS):
            mine = scores[name][finding]
            hits = mine.overlaps[:, None] > np.asarray(IOU_LEVELS)
            if len(hits):
                accuracy[index] = hits.mean(axis=0)
                shares[:, index] = bootstrap_share(hits, mine.patients, draws)
            result.per_finding.setdefault(finding, {})[name] = {
                "n": len(hits),
                "n_missed": mine.missed,
                "msli": float(accuracy[index, in_msli].mean()),
                "msli_interval": percentile_interval(shares[:, index, in_msli].mean(axis=1)),
                "iou_accuracy": _by_level(accuracy[index]),
                "iou_accuracy_interval": _intervals_by_level(shares[:, index]),
                "threshold": mine.threshold.value,
                "threshold_source": mine.threshold.source,
            }
        msli, replicates = accuracy[:, in_msli].mean(axis=1), shares[:, :, in_msli].mean(axis=2)
        others = list(WITHOUT_CARDIOMEGALY)
        result.msli[name] = float(mean_defined(msli))
        result.msli_without_cardiomegaly[name] = float(mean_defined(msli[others]))
        result.findings_in_mean[name] = int(np.isfinite(msli).sum())
        result.iou_accuracy[name] = _by_level(mean_defined(accuracy, axis=0))
        result.msli_replicates[name] = mean_defined(replicates)
        result.intervals["msli"][name] = percentile_interval(result.msli_replicates[name])
        result.intervals["msli_without_cardiomegaly"][name] = percentile_interval(mean_defined(replicates[:, others]))
        result.intervals["iou_accuracy"][name] = _intervals_by_level(mean_defined(shares, axis=1))
    return result


def compare_with_controls(model: Localization, controls: Mapping[str, Localization]) -> dict[ProtocolName, Any]:
    """For each protocol, the control with the highest macro MSLI and the model's ratio to it.

    The interval of the ratio is over the same replicates for both; it is null where the control scores zero.
    """
    result: dict[ProtocolName, Any] = {}
    for name in PROTOCOLS:
        known = {key: control for key, control in controls.items() if np.isfinite(control.msli[name])}
        if not known:
            result[name] = {"control": None, "msli": None, "ratio": None, "ratio_interval": None}
            continue
        points = {key: control.msli[name] for key, control in known.items()}
        best = max(points, key=points.__getitem__)
        value, replicates = known[best].msli[name], known[best].msli_replicates[name]
        with np.errstate(divide="ignore", invalid="ignore"):
            ratios = model.msli_replicates[name] / replicates
        result[name] = {
            "control": best,
            "msli": value,
            "ratio": model.msli[name] / value if value > 0 else None,
            "ratio_interval": percentile_interval(ratios) if value > 0 else None,
        }
    return result


def plain(value: Any) -> Any:
    """Nested content as JSON can hold it: NaN becomes null, NumPy values Python's, tuples lists."""
    if isinstance(value, Mapping):
        return {str(key): plain(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [plain(entry) for entry in value]
    if isinstance(value, np.ndarray | np.generic):
        return plain(value.tolist())
    if isinstance(value, float) and not np.isfinite(value):
        return None
    return value


def _by_level(values: NDArray[np.floating]) -> dict[str, float]:
    return {f"{level:g}": float(value) for level, value in zip(IOU_LEVELS, values, strict=True)}


def _intervals_by_level(replicates: NDArray[np.floating]) -> dict[str, list[float] | None]:
    """(R,L) replicates to the interval of each level."""
    return {f"{level:g}": percentile_interval(column) for level, column in zip(IOU_LEVELS, replicates.T, strict=True)}
