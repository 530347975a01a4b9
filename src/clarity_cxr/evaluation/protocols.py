"""The ways to count a found box, ours and those of other methods, and the scores of a source of maps under each.

The paper scores only films whose finding is predicted positive, and lets any component hit; that flatters a model that
predicts few films positive or marks many places. So every figure is given under three protocols. Published figures of
other methods follow rules of their own; those that can be told from their code are here too, so that maps can be
scored as theirs were.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

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
from clarity_cxr.metrics import mask_iou

ProtocolName = Literal["paper", "all", "top"]
PeerName = Literal["ham", "rgt", "bas"]

MapSource = Callable[[str, NDArray[np.int64]], NDArray[np.float32]]
"""(finding, (k,) rows of the store) -> (k,S,S) heatmaps in [0,1]; the model is one, each control another."""

_MAP_PIXELS_AT_ONCE = 1_000_000


@dataclass(frozen=True)
class Protocol:
    """How true boxes are counted.

    Attributes:
        hit_by: what may hit a true box: `any` component's box, that of the `top` component (most total heat) or of the
            `largest` (most pixels); or the `mask` of all pixels above the threshold, against the filled union of the
            film's true boxes of the finding, which then count as one.
        negatives: boxes of films whose finding is predicted negative are left out (`omitted`), count as `missed`, or
            are scored like all others (`ignored`: the prediction is not looked at).
        threshold: heat above which a pixel counts; None: chosen per finding on localisation-validation.
        description: the same for the reader of a report.
    """

    hit_by: Literal["any", "top", "largest", "mask"]
    negatives: Literal["omitted", "missed", "ignored"]
    threshold: float | None
    description: str

    def to_dict(self) -> dict[str, Any]:
        """All fields as plain values."""
        return asdict(self)


PROTOCOLS: dict[ProtocolName, Protocol] = {
    "paper": Protocol(
        "any", "omitted", None, "only films whose finding is predicted positive; any component may hit the box"
    ),
    "all": Protocol(
        "any", "missed", None, "every box; a finding predicted negative is missed; any component may hit the box"
    ),
    "top": Protocol("top", "missed", None, "as `all`, but only the component with the most heat may hit the box"),
}

PEER_PROTOCOLS: dict[PeerName, Protocol] = {
    "ham": Protocol(
        "mask",
        "ignored",
        0.5,
        "as HAM's code (Ouyang et al., 2021): IoU of the mask of pixels above a fixed threshold and the filled true "
        "boxes; every film, whatever is predicted",
    ),
    "rgt": Protocol(
        "any",
        "ignored",
        0.5,
        "as RGT's code (Han et al., 2023): best of all predicted boxes at a fixed threshold of half the peak; every "
        "box, whatever is predicted",
    ),
    "bas": Protocol(
        "largest",
        "ignored",
        0.15,
        "as the code of BAS (Zhai et al., 2023): only the largest component, at its fixed threshold of 0.15; every "
        "box, whatever is predicted",
    ),
}
"""HAM's threshold acts on maps behind a steep sigmoid at 0.4 of the peak; 0.5 is the nearest plain value. RGT blurs
maps before its threshold and BAS boxes the whole film where nothing is above it: neither is imitated."""


@dataclass(frozen=True)
class TruthBoxes:
    """The n true boxes of one finding in one localisation half, ordered by film.

    Attributes:
        rows: (n,) film of each box in the store.
        boxes: (n,4) x0, y0, x1, y1 in pixels of the store's films (IoU does not depend on the films' aspect).
        patients: (n,) patient ids, numbers or text.
        positive: (n,) whether the film is predicted positive for the finding.
    """

    rows: NDArray[np.int64]
    boxes: NDArray[np.float64]
    patients: NDArray[Any]
    positive: NDArray[np.bool_]


@dataclass(frozen=True)
class FindingScores:
    """The outcome of one finding under one protocol.

    Attributes:
        overlaps: (n,) best IoU of each counted box (of each film, where masks are compared); 0 for a missed one.
        patients: (n,) their patients.
        missed: number of counted boxes that are missed because their film is predicted negative.
        threshold: xi and how it was chosen.
        counted: which of the finding's true boxes the n are; None where masks are compared.
    """

    overlaps: NDArray[np.float64]
    patients: NDArray[Any]
    missed: int
    threshold: Threshold
    counted: NDArray[np.bool_] | None = None


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
    truth = {}
    for finding in BOXED_FINDINGS:
        mine = table[table["finding"] == finding].sort_values("row", kind="stable")
        rows = mine["row"].to_numpy(dtype=np.int64)
        truth[finding] = TruthBoxes(
            rows=rows,
            boxes=mine[["x0", "y0", "x1", "y1"]].to_numpy(dtype=np.float64) * store.size,
            patients=store.patients[rows],
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
    parts = [measure_overlaps(source(finding, rows), groups, thresholds) for rows, groups, _ in _films_of(truth, size)]
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
    return _score(PROTOCOLS, source, truth, size, thresholds)


def score_peers(
    source: MapSource, truth: Mapping[str, TruthBoxes], size: int
) -> dict[PeerName, dict[str, FindingScores]]:
    """Score a source of maps as other methods were scored, at their fixed thresholds."""
    fixed = {
        name: {finding: Threshold(rule.threshold, "fixed") for finding in truth}
        for name, rule in PEER_PROTOCOLS.items()
        if rule.threshold is not None
    }
    return _score(PEER_PROTOCOLS, source, truth, size, fixed)


def _score(
    rules: Mapping[Any, Protocol],
    source: MapSource,
    truth: Mapping[str, TruthBoxes],
    size: int,
    thresholds: Mapping[Any, Mapping[str, Threshold]],
) -> dict[Any, dict[str, FindingScores]]:
    scores: dict[Any, dict[str, FindingScores]] = {name: {} for name in rules}
    for finding, boxes in truth.items():
        chosen = {name: thresholds[name][finding] for name in rules}
        values = np.unique([threshold.value for threshold in chosen.values()])
        overlaps = source_overlaps(source, finding, boxes, size, values)
        for name, rule in rules.items():
            if rule.hit_by == "mask":
                scores[name][finding] = _compare_masks(source, finding, boxes, size, chosen[name])
                continue
            at = int(np.searchsorted(values, chosen[name].value))
            scores[name][finding] = _count(_component(overlaps, rule)[:, at], boxes, rule, chosen[name])
    return scores


def _component(overlaps: Overlaps, rule: Protocol) -> NDArray[np.float64]:
    return {
        "any": overlaps.any_component,
        "top": overlaps.top_component,
        "largest": overlaps.largest_component,
    }[rule.hit_by]


def _candidate_index(threshold: float) -> int:
    return int(np.argmin(np.abs(CANDIDATE_THRESHOLDS - threshold)))


def _count(overlaps: NDArray[np.float64], truth: TruthBoxes, rule: Protocol, threshold: Threshold) -> FindingScores:
    if rule.negatives == "omitted":
        kept = truth.positive
        return FindingScores(overlaps[kept], truth.patients[kept], 0, threshold, kept)
    everything = np.ones(len(overlaps), dtype=bool)
    if rule.negatives == "ignored":
        return FindingScores(overlaps, truth.patients, 0, threshold, everything)
    found = np.where(truth.positive, overlaps, 0.0)
    return FindingScores(found, truth.patients, int(np.sum(~truth.positive)), threshold, everything)


def _compare_masks(
    source: MapSource, finding: str, truth: TruthBoxes, size: int, threshold: Threshold
) -> FindingScores:
    """One overlap per film: its mask above the threshold against its filled boxes."""
    overlaps, patients = [], []
    for rows, groups, owners in _films_of(truth, size):
        maps = source(finding, rows)
        overlaps += [mask_iou(heat > threshold.value, boxes) for heat, boxes in zip(maps, groups, strict=True)]
        patients += owners
    return FindingScores(np.array(overlaps), np.array(patients, dtype=truth.patients.dtype), 0, threshold)


def _films_of(truth: TruthBoxes, size: int) -> Iterator[tuple[NDArray[np.int64], list[NDArray[np.float64]], list[int]]]:
    """Some films at a time: their rows (k,), boxes and patients; so many that their maps stay small."""
    rows, first = np.unique(truth.rows, return_index=True)
    groups, patients = np.split(truth.boxes, first[1:]), truth.patients[first].tolist()
    count = max(1, _MAP_PIXELS_AT_ONCE // size**2)
    for at in range(0, len(rows), count):
        part = slice(at, at + count)
        yield rows[part], groups[part], patients[part]
