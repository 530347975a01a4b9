"""Does the model serve everyone alike? AUC, sensitivity and false alarms by sex, age, view and follow-up."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from clarity_cxr.data.store import patient_ids
from clarity_cxr.evaluation.intervals import (
    PatientDraws,
    bootstrap_auc,
    bootstrap_share,
    mean_defined,
    percentile_interval,
)
from clarity_cxr.findings import FINDINGS
from clarity_cxr.metrics import auc_per_finding

SMALL = 10
"""A figure of fewer positive (or, for false alarms, negative) films is shown as small and enters no gap."""

MEASURES = ("auc", "sensitivity", "false_positive_rate")


@dataclass(frozen=True)
class Attribute:
    """Something that divides films into groups.

    Attributes:
        column: of a store's index.
        title: for the reader.
        group: the column's values -> the name of each film's group, None where it is not known.
    """

    column: str
    title: str
    group: Callable[[pd.Series], list[str | None]]


def _by_value(names: dict[str, str]) -> Callable[[pd.Series], list[str | None]]:
    return lambda values: [names.get(str(value)) for value in values]


def _by_band(edges: list[float], names: list[str]) -> Callable[[pd.Series], list[str | None]]:
    return lambda values: [
        None if pd.isna(value) else names[int(np.searchsorted(edges, value, side="right"))] for value in values
    ]


ATTRIBUTES = (
    Attribute("sex", "Sex", _by_value({"F": "female", "M": "male"})),
    Attribute("age", "Age", _by_band([18, 40, 60], ["under 18", "18 to 39", "40 to 59", "60 and over"])),
    Attribute("view", "View", _by_value({"PA": "PA", "AP": "AP"})),
    Attribute("follow_up", "Follow-up", _by_band([1, 5], ["first film", "1st to 4th", "5th and later"])),
)


@dataclass(frozen=True)
class _Films:
    """(n,14) probabilities, whether each label is positive, and negative (neither if undefined); (n,) patients."""

    probabilities: NDArray[np.floating]
    positive: NDArray[np.bool_]
    negative: NDArray[np.bool_]
    patients: NDArray[Any]

    def of(self, mine: NDArray[np.bool_]) -> "_Films":
        """Some of the films."""
        return _Films(self.probabilities[mine], self.positive[mine], self.negative[mine], self.patients[mine])


@dataclass(frozen=True)
class _Measured:
    """One measure of one group: (14,) values, (R,14) replicates, (14,) films behind each."""

    values: NDArray[np.float64]
    replicates: NDArray[np.float64]
    films: NDArray[np.int64]

    @property
    def large(self) -> NDArray[np.bool_]:
        """(14,) whether each value has enough films behind it."""
        return np.isfinite(self.values) & (self.films >= SMALL)


def summarise_subgroups(
    index: pd.DataFrame,
    probabilities: NDArray[np.floating],
    labels: NDArray[np.bool_],
    draws: PatientDraws,
    decision_threshold: float,
    labelled: NDArray[np.bool_] | None = None,
) -> dict[str, Any]:
    """Every measure of every group, and the largest gap between two groups of each attribute.

    Args:
        index: (n) films with `patient_id` and, as far as known, the columns of `ATTRIBUTES`.
        probabilities: (n,14).
        labels: (n,14).
        draws: bootstrap replicates that contain these patients.
        decision_threshold: probability from which a finding is predicted positive.
        labelled: (n,14) bool, which labels are defined; None: all.

    Returns:
        attribute -> `title`, `groups` (name -> `films`, `patients`, `macro` and `per_finding`), `unknown` (films
        without a value) and `largest_gap` (measure -> finding, both groups, gap and its interval; None where fewer
        than two groups are large enough). An attribute that no film has is left out.
    """
    defined = np.ones_like(labels) if labelled is None else labelled
    films = _Films(probabilities, labels & defined, ~labels & defined, patient_ids(index))
    return {
        attribute.column: _attribute(attribute, index[attribute.column], films, draws, decision_threshold)
        for attribute in ATTRIBUTES
        if attribute.column in index and any(attribute.group(index[attribute.column]))
    }


def _attribute(
    attribute: Attribute, values: pd.Series, films: _Films, draws: PatientDraws, decision_threshold: float
) -> dict[str, Any]:
    group_of = pd.Series(attribute.group(values), dtype=object)
    measured: dict[str, dict[str, _Measured]] = {}
    groups: dict[str, Any] = {}
    for name in _in_order(attribute, group_of):
        mine = films.of(group_of.eq(name).to_numpy())
        measured[name] = _measure(mine, draws, decision_threshold)
        groups[name] = {
            "films": len(mine.patients),
            "patients": len(np.unique(mine.patients)),
            **_describe(measured[name]),
        }
    return {
        "title": attribute.title,
        "groups": groups,
        "unknown": int(group_of.isna().sum()),
        "largest_gap": {measure: _largest_gap(measure, measured) for measure in MEASURES},
    }


def _in_order(attribute: Attribute, group_of: pd.Series) -> list[str]:
    """Names of the groups that have films, in the order in which the attribute defines them where it has one."""
    present = set(group_of.dropna())
    if attribute.column in ("age", "follow_up"):
        probe = pd.Series([0.0, 1.0, 5.0, 18.0, 40.0, 60.0])
        return [name for name in dict.fromkeys(attribute.group(probe)) if name in present and name is not None]
    return sorted(present)


def _measure(films: _Films, draws: PatientDraws, decision_threshold: float) -> dict[str, _Measured]:
    decided = films.probabilities >= decision_threshold
    with np.errstate(invalid="ignore"):
        rates = {
            name: _Measured(
                (decided & of).sum(axis=0) / of.sum(axis=0),
                bootstrap_share(decided, films.patients, draws, of),
                of.sum(axis=0),
            )
            for name, of in (("sensitivity", films.positive), ("false_positive_rate", films.negative))
        }
    defined = films.positive | films.negative
    auc = auc_per_finding(films.probabilities, films.positive, defined)
    replicates = bootstrap_auc(films.probabilities, films.positive, films.patients, draws, defined)
    return {"auc": _Measured(auc, replicates, films.positive.sum(axis=0)), **rates}


def _describe(measured: dict[str, _Measured]) -> dict[str, Any]:
    """Macro figures over the findings with enough films, and those of every finding."""
    macro: dict[str, Any] = {}
    per_finding: dict[str, Any] = {finding: {} for finding in FINDINGS}
    for measure, found in measured.items():
        large = np.flatnonzero(found.large)
        macro[measure] = float(mean_defined(found.values[large]))
        macro[f"{measure}_interval"] = percentile_interval(mean_defined(found.replicates[:, large]))
        macro[f"{measure}_findings"] = len(large)
        for index, finding in enumerate(FINDINGS):
            per_finding[finding] |= {
                measure: float(found.values[index]),
                f"{measure}_interval": percentile_interval(found.replicates[:, index]),
                f"{measure}_films": int(found.films[index]),
                f"{measure}_small": bool(found.films[index] < SMALL),
            }
    return {"macro": macro, "per_finding": per_finding}


def _largest_gap(measure: str, groups: dict[str, dict[str, _Measured]]) -> dict[str, Any] | None:
    """The finding and the two groups that differ most, among figures with enough films.

    Groups and finding are chosen by the figures themselves, so that the interval is a little too far from zero.
    """
    best: dict[str, Any] | None = None
    for index, finding in enumerate(FINDINGS):
        values = {name: of[measure].values[index] for name, of in groups.items() if of[measure].large[index]}
        if len(values) < 2:
            continue
        high, low = max(values, key=values.__getitem__), min(values, key=values.__getitem__)
        gap = float(values[high] - values[low])
        if best is None or gap > best["gap"]:
            difference = groups[high][measure].replicates[:, index] - groups[low][measure].replicates[:, index]
            interval = percentile_interval(difference)
            best = {"finding": finding, "high": high, "low": low, "gap": gap, "interval": interval}
    return best
