"""How well boxes fit the truth at every candidate threshold, and the choice of xi for each finding (Section 3.9)."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from clarity_cxr.localization.boxes import sweep_boxes
from clarity_cxr.metrics import MSLI_THRESHOLDS, box_iou

CANDIDATE_THRESHOLDS: NDArray[np.float64] = np.arange(1, 100) / 100
"""Heatmap thresholds that the search tries: 0.01 to 0.99."""

DEFAULT_THRESHOLD = 0.5
"""xi where nothing was searched: half of the map's peak."""

ThresholdSource = Literal["searched", "unconditioned", "macro", "default", "fixed"]


class Overlaps(NamedTuple):
    """Best IoU of each true box at each of K thresholds; 0 where nothing overlaps.

    `any_component` (n,K) lets every component of the map compete, `top_component` (n,K) only the one with the most
    total heat, `largest_component` (n,K) only the one with the most pixels.
    """

    any_component: NDArray[np.float64]
    top_component: NDArray[np.float64]
    largest_component: NDArray[np.float64]


class Threshold(NamedTuple):
    """A chosen xi and how it was chosen.

    `source` is `searched` (MSLI on the finding's own boxes), `unconditioned` (all its boxes, because no film of it was
    predicted positive), `macro` (no box of the finding: the single threshold with the best macro MSLI of the others),
    `default` (no boxes at all) or `fixed` (by the protocol).
    """

    value: float
    source: ThresholdSource


def measure_overlaps(
    maps: NDArray[np.floating], truth: Sequence[NDArray[np.floating]], thresholds: NDArray[np.floating]
) -> Overlaps:
    """Best IoU of every true box with the boxes of its map.

    Args:
        maps: (M,S,S) heatmaps, one per film of one finding.
        truth: M arrays (b,4) of true boxes x0, y0, x1, y1 in the maps' pixels.
        thresholds: (K,) ascending.

    Returns:
        Overlaps of the n = sum(b) boxes, in order.
    """
    swept = sweep_boxes(maps, thresholds)
    size = len(thresholds)
    borders = np.searchsorted(swept.map_index, np.arange(len(truth) + 1))
    group = swept.map_index * size + swept.threshold_index
    top, largest = _is_first(group, swept.total_heat), _is_first(group, swept.pixels)
    any_best = np.zeros((size, sum(len(boxes) for boxes in truth)))
    top_best, largest_best = np.zeros_like(any_best), np.zeros_like(any_best)
    at = 0
    for boxes, first, last in zip(truth, borders[:-1], borders[1:], strict=True):
        columns = slice(at, at + len(boxes))
        overlaps = np.asarray(box_iou(swept.boxes[first:last], boxes), dtype=np.float64)
        levels = swept.threshold_index[first:last]
        np.maximum.at(any_best[:, columns], levels, overlaps)
        for best, chosen in ((top_best, top[first:last]), (largest_best, largest[first:last])):
            best[levels[chosen], columns] = overlaps[chosen]
        at += len(boxes)
    return Overlaps(any_best.T, top_best.T, largest_best.T)


def _is_first(group: NDArray[np.int64], value: NDArray[np.number]) -> NDArray[np.bool_]:
    """Whether each component has the highest value of its group; the first of equals, groups being contiguous."""
    first = np.zeros(len(group), dtype=bool)
    order = np.lexsort((-value, group))
    first[order[np.unique(group[order], return_index=True)[1]]] = True
    return first


def search_thresholds(
    overlaps: Mapping[str, NDArray[np.floating]],
    positive: Mapping[str, NDArray[np.bool_]] | None = None,
    candidates: NDArray[np.floating] = CANDIDATE_THRESHOLDS,
) -> dict[str, Threshold]:
    """For each finding, the threshold that maximises MSLI on the given (localisation-validation) boxes.

    Among equally good thresholds the middle of the longest unbroken stretch is taken (of two equally long stretches
    the lower one, of two middles the lower one), because a neighbour of a worse threshold is the less safe choice.

    Args:
        overlaps: finding -> (n,K) best IoU of its n boxes at each candidate; n may be 0.
        positive: finding -> (n,) whether the box's film is predicted positive for it. Only these boxes are searched
            on; where there are none, or for a finding left out here, all are. Boxes of films predicted negative are
            missed or left out at every threshold alike, so that they cannot change which threshold is best.
        candidates: (K,) ascending thresholds.

    Returns:
        finding -> chosen threshold, for every key of `overlaps`.
    """
    curves: dict[str, NDArray[np.int64]] = {}
    sizes: dict[str, int] = {}
    sources: dict[str, ThresholdSource] = {}
    for finding, values in overlaps.items():
        included = (positive or {}).get(finding, np.ones(len(values), dtype=bool))
        sources[finding] = "searched" if included.any() else "unconditioned"
        chosen = values[included] if included.any() else values
        sizes[finding] = len(chosen)
        curves[finding] = _hits(chosen).sum(axis=(0, 2))
    known = [finding for finding, size in sizes.items() if size]
    if known:
        macro = sum(curves[finding] / sizes[finding] for finding in known) / len(known)
        fallback = Threshold(float(candidates[_plateau_middle(np.round(macro, 12))]), "macro")
    else:
        fallback = Threshold(DEFAULT_THRESHOLD, "default")
    return {
        finding: Threshold(float(candidates[_plateau_middle(curves[finding])]), sources[finding])
        if sizes[finding]
        else fallback
        for finding in overlaps
    }


def _hits(overlaps: NDArray[np.floating]) -> NDArray[np.bool_]:
    """(n,K) overlaps -> (n,K,5) whether each exceeds the IoU levels of MSLI."""
    return overlaps[..., None] > np.asarray(MSLI_THRESHOLDS)


def _plateau_middle(curve: NDArray[np.number]) -> int:
    """Index of the (lower) middle of the first longest stretch of the curve's maximum."""
    edges = np.diff(np.concatenate([[0], curve == curve.max(), [0]]).astype(np.int8))
    starts, stops = np.flatnonzero(edges > 0), np.flatnonzero(edges < 0)
    longest = int(np.argmax(stops - starts))
    return int(starts[longest] + (stops[longest] - starts[longest] - 1) // 2)


def threshold_values(chosen: Mapping[str, Threshold]) -> dict[str, float]:
    """finding -> xi alone, as a checkpoint holds it."""
    return {finding: threshold.value for finding, threshold in chosen.items()}


def stack_overlaps(parts: Iterable[Overlaps], thresholds: int) -> Overlaps:
    """Join the overlaps of chunks of films; (0,K) where there are none."""
    parts = list(parts) or [Overlaps(*[np.zeros((0, thresholds))] * 3)]
    return Overlaps(*(np.concatenate(columns) for columns in zip(*parts, strict=True)))
