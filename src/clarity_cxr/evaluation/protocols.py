"""The three ways to count a found box, and the scores of a source of maps under each.

The paper scores only films whose finding is predicted positive, and lets any component hit; that flatters a model that
predicts few films positive or marks many places. So every figure is given under three protocols.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from clarity_cxr.data.store import FilmStore
from clarity_cxr.findings import BOXED_FINDINGS, FINDINGS
from clarity_cxr.localization.thresholds import (
    CANDIDATE_THRESHOLDS,
    Overlaps,
    Threshold,
    measure_overlaps,
    search_thresholds,
    stack_overlaps,
)

ProtocolName = Literal["paper", "all", "top"]

MapSource = Callable[[str, NDArray[np.int64]], NDArray[np.float32]]
"""(finding, (k,) rows of the store) -> (k,S,S) heatmaps in [0,1]; the model is one, each control another."""

_MAP_PIXELS_AT_ONCE = 8_000_000


@dataclass(frozen=True)
class Protocol:
    """How true boxes are counted.

    Attributes:
        component: `any` component of the map may hit the box, or only the `top` one, with the most total heat.
        conditioned: boxes of films whose finding is predicted negative are left out (True) or missed (False).
        description: the same for the reader of a report.
    """

    component: Literal["any", "top"]
    conditioned: bool
    description: str


PROTOCOLS: dict[ProtocolName, Protocol] = {
    "paper": Protocol("any", True, "only films whose finding is predicted positive; any component may hit the box"),
    "all": Protocol("any", False, "every box; a finding predicted negative is missed; any component may hit the box"),
    "top": Protocol("top", False, "as `all`, but only the component with the most heat may hit the box"),
}


@dataclass(frozen=True)
class TruthBoxes:
    """The n true boxes of one finding in one localisation half, ordered by film.

    Attributes:
        rows: (n,) film of each box in the store.
        boxes: (n,4) x0, y0, x1, y1 in pixels of the store's films (IoU does not depend on the films' aspect).
        patients: (n,) patient ids.
        positive: (n,) whether the film is predicted positive for the finding.
    """

    rows: NDArray[np.int64]
    boxes: NDArray[np.float64]
    patients: NDArray[np.int64]
    positive: NDArray[np.bool_]


@dataclass(frozen=True)
class FindingScores:
    """The outcome of one finding under one protocol.

    Attributes:
        overlaps: (n,) best IoU of each counted box; 0 for a missed one.
        patients: (n,) their patients.
        missed: number of counted boxes whose film is predicted negative.
        threshold: xi and how it was chosen.
    """

    overlaps: NDArray[np.float64]
    patients: NDArray[np.int64]
    missed: int
    threshold: Threshold


def read_truth(
    store: FilmStore,
    part: Literal["val", "test"],
    probabilities_of: Callable[[NDArray[np.int64]], NDArray[np.float32]],
    decision_threshold: float,
) -> dict[str, TruthBoxes]:
    """The true boxes of a localisation half, for each of the eight boxed findings (some may have none).

    Args:
        store: prepared films.
        part: localisation half.
        probabilities_of: rows (k,) -> probabilities (k,14) of the model.
        decision_threshold: probability from which a finding is predicted positive.
    """
    table = store.boxes[store.boxes["row"].isin(store.localization_rows(part))]
    patients = store.index["patient_id"].to_numpy(dtype=np.int64)
    truth = {}
    for finding in BOXED_FINDINGS:
        mine = table[table["finding"] == finding].sort_values("row", kind="stable")
        rows = mine["row"].to_numpy(dtype=np.int64)
        truth[finding] = TruthBoxes(
            rows=rows,
            boxes=mine[["x0", "y0", "x1", "y1"]].to_numpy(dtype=np.float64) * store.size,
            patients=patients[rows],
            positive=probabilities_of(rows)[:, FINDINGS.index(finding)] >= decision_threshold,
        )
    return truth


def source_overlaps(
    source: MapSource, finding: str, truth: TruthBoxes, size: int, thresholds: NDArray[np.floating]
) -> Overlaps:
    """Best IoU of each of the n boxes with the source's maps at each threshold; flat memory in n.

    Args:
        source: gives the maps.
        finding: whose maps.
        truth: the boxes of that finding.
        size: side of the maps in pixels.
        thresholds: (K,) ascending.
    """
    rows, first = np.unique(truth.rows, return_index=True)
    groups = np.split(truth.boxes, first[1:])
    count = max(1, _MAP_PIXELS_AT_ONCE // size**2)
    parts = [
        measure_overlaps(source(finding, rows[at : at + count]), groups[at : at + count], thresholds)
        for at in range(0, len(rows), count)
    ]
    return stack_overlaps(parts, len(thresholds))


def search_protocols(
    source: MapSource, truth: Mapping[str, TruthBoxes], size: int
) -> tuple[dict[ProtocolName, dict[str, Threshold]], dict[ProtocolName, dict[str, FindingScores]]]:
    """Choose the thresholds of a source of maps under every protocol, on localisation-validation boxes.

    Returns:
        protocol -> finding -> threshold for all 14 findings (those without boxes get the others' best macro threshold),
        and the scores of the boxed findings at these thresholds on the same boxes.
    """
    overlaps = {
        finding: source_overlaps(source, finding, boxes, size, CANDIDATE_THRESHOLDS) for finding, boxes in truth.items()
    }
    positive = {finding: boxes.positive for finding, boxes in truth.items()}
    nothing = np.zeros((0, len(CANDIDATE_THRESHOLDS)))
    thresholds: dict[ProtocolName, dict[str, Threshold]] = {}
    for name, rule in PROTOCOLS.items():
        counted = {key: _component(overlaps[key], rule) if key in overlaps else nothing for key in FINDINGS}
        thresholds[name] = search_thresholds(counted, positive)
    scores: dict[ProtocolName, dict[str, FindingScores]] = {
        name: {
            finding: _count(
                _component(overlaps[finding], rule)[:, _candidate_index(thresholds[name][finding].value)],
                boxes,
                rule,
                thresholds[name][finding],
            )
            for finding, boxes in truth.items()
        }
        for name, rule in PROTOCOLS.items()
    }
    return thresholds, scores


def score_protocols(
    source: MapSource,
    truth: Mapping[str, TruthBoxes],
    size: int,
    thresholds: Mapping[ProtocolName, Mapping[str, Threshold]],
) -> dict[ProtocolName, dict[str, FindingScores]]:
    """Score a source of maps under every protocol, at thresholds that were chosen on other films."""
    scores: dict[ProtocolName, dict[str, FindingScores]] = {name: {} for name in PROTOCOLS}
    for finding, boxes in truth.items():
        chosen = {name: thresholds[name][finding] for name in PROTOCOLS}
        values = np.unique([threshold.value for threshold in chosen.values()])
        overlaps = source_overlaps(source, finding, boxes, size, values)
        for name, rule in PROTOCOLS.items():
            at = int(np.searchsorted(values, chosen[name].value))
            scores[name][finding] = _count(_component(overlaps, rule)[:, at], boxes, rule, chosen[name])
    return scores


def _component(overlaps: Overlaps, rule: Protocol) -> NDArray[np.float64]:
    return overlaps.top_component if rule.component == "top" else overlaps.any_component


def _candidate_index(threshold: float) -> int:
    return int(np.argmin(np.abs(CANDIDATE_THRESHOLDS - threshold)))


def _count(overlaps: NDArray[np.float64], truth: TruthBoxes, rule: Protocol, threshold: Threshold) -> FindingScores:
    if rule.conditioned:
        kept = truth.positive
        return FindingScores(overlaps[kept], truth.patients[kept], 0, threshold)
    found = np.where(truth.positive, overlaps, 0.0)
    return FindingScores(found, truth.patients, int(np.sum(~truth.positive)), threshold)
