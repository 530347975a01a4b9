"""Boxes of the 8-connected components of heatmaps above a threshold: one for each map, or many at once. NumPy only.

The components are found on horizontal runs, not on pixels: one pass over the map yields the runs of *all* thresholds
(a pixel that is higher than its left neighbour starts a run at every threshold between the two), and runs that touch
in neighbouring rows are joined. The cost grows with the number of runs, so a sweep over 99
thresholds costs far less than 99 labelings.
"""

from itertools import pairwise
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

_CELLS_PER_CHUNK = 100_000
"""Map pixels handled at once, which bounds the memory of a sweep (about twenty MB at 99 thresholds)."""


class ComponentBoxes(NamedTuple):
    """The components of one map above one threshold, in the order of their first pixel (row by row).

    `boxes` is (k,4) float64, half-open pixel coordinates x0, y0, x1, y1 ([x0,x1) x [y0,y1)); `mean_heat` (k,) is the
    mean of the map over the component's pixels, `total_heat` (k,) their sum.
    """

    boxes: NDArray[np.float64]
    mean_heat: NDArray[np.float64]
    total_heat: NDArray[np.float64]


class SweptBoxes(NamedTuple):
    """The components of many maps above many thresholds, ordered by map, then threshold, then first pixel.

    `map_index` (k,) and `threshold_index` (k,) say where each component comes from; `pixels` (k,) is its area; the
    others as `ComponentBoxes`.
    """

    map_index: NDArray[np.int64]
    threshold_index: NDArray[np.int64]
    boxes: NDArray[np.float64]
    mean_heat: NDArray[np.float64]
    total_heat: NDArray[np.float64]
    pixels: NDArray[np.int64]


class _Runs(NamedTuple):
    """Horizontal runs of pixels above a threshold, in scan order; all (n,).

    `starts` and `ends` are the keys of the first and one-past-last pixels: the cells of (group, row, column) counted
    through, with one row and one column more than there are, so that the last ones have no neighbour. A group is a map
    at a threshold.
    """

    starts: NDArray[np.int64]
    ends: NDArray[np.int64]
    group: NDArray[np.int64]
    row: NDArray[np.int64]
    left: NDArray[np.int64]
    right: NDArray[np.int64]


def find_boxes(heatmap: NDArray[np.floating], threshold: float) -> ComponentBoxes:
    """One box for each 8-connected component of `heatmap > threshold`.

    Args:
        heatmap: (H,W), Xi of one film and finding.
        threshold: xi of the finding; pixels equal to it are outside.

    Returns:
        The components; empty arrays where no pixel is above the threshold.
    """
    return find_boxes_of_maps(np.asarray(heatmap)[None], np.asarray([threshold]))[0]


def find_boxes_of_maps(maps: NDArray[np.floating], thresholds: NDArray[np.floating]) -> list[ComponentBoxes]:
    """The boxes of several maps, each above a threshold of its own, in one pass.

    Args:
        maps: (M,H,W), Xi of one film's findings.
        thresholds: (M,), xi of each.

    Returns:
        For every map what `find_boxes` gives.
    """
    maps = np.asarray(maps)
    _, height, width = maps.shape
    edges = _edges(maps, np.asarray(thresholds, dtype=np.float64))
    runs = _runs(edges[::2], edges[1::2], height, width)
    line = (runs.group * height + runs.row) * width
    found = _components(runs, _sums_between(maps.ravel(), line + runs.left, line + runs.right), width + 1, 1)
    firsts = np.searchsorted(found.map_index, np.arange(len(maps) + 1)).tolist()
    return [
        ComponentBoxes(found.boxes[first:stop], found.mean_heat[first:stop], found.total_heat[first:stop])
        for first, stop in pairwise(firsts)
    ]


def sweep_boxes(maps: NDArray[np.floating], thresholds: NDArray[np.floating]) -> SweptBoxes:
    """The boxes of every map at every threshold, each equal to what `find_boxes` gives.

    Args:
        maps: (M,H,W) heatmaps.
        thresholds: (K,) ascending.

    Returns:
        The components of all maps and thresholds.

    Raises:
        ValueError: the thresholds are not ascending, or the maps are not (M,H,W).
    """
    maps = np.asarray(maps)
    thresholds = np.asarray(thresholds, dtype=np.float64)
    if maps.ndim != 3:
        raise ValueError(f"maps must be (M,H,W), not {maps.shape}")
    if thresholds.ndim != 1 or np.any(np.diff(thresholds) <= 0):
        raise ValueError("thresholds must be one ascending list")
    count = max(1, _CELLS_PER_CHUNK // max(1, maps.shape[1] * maps.shape[2]))
    chunks = [_sweep_chunk(maps[at : at + count], thresholds, at) for at in range(0, len(maps), count)]
    if not chunks:
        chunks = [_sweep_chunk(np.zeros((0, 1, 1)), thresholds, 0)]
    return SweptBoxes(*(np.concatenate(parts) for parts in zip(*chunks, strict=True)))


def _sweep_chunk(maps: NDArray[np.floating], thresholds: NDArray[np.float64], first_map: int) -> SweptBoxes:
    count, height, width = maps.shape
    runs = _runs(*_run_keys(maps, thresholds), height, width)
    heat_to = np.zeros((count, height, width + 1))
    np.cumsum(maps, axis=2, dtype=np.float64, out=heat_to[:, :, 1:])
    line = (runs.group // len(thresholds) * height + runs.row) * (width + 1)
    run_heat = heat_to.ravel()[line + runs.right] - heat_to.ravel()[line + runs.left]
    found = _components(runs, run_heat, width + 1, len(thresholds))
    return found._replace(map_index=found.map_index + first_map)


def _runs(starts: NDArray[np.int64], ends: NDArray[np.int64], height: int, width: int) -> _Runs:
    line, left = np.divmod(starts, width + 1)
    group, row = np.divmod(line, height + 1)
    return _Runs(starts, ends, group, row, left, left + (ends - starts))


def _components(runs: _Runs, run_heat: NDArray[np.float64], stride: int, thresholds: int) -> SweptBoxes:
    component, first_run = _join_runs(runs.starts, runs.ends, stride)
    count = len(first_run)
    last_run = np.empty(count, dtype=np.int64)
    last_run[component] = np.arange(len(component))  # in scan order, so that a component's last run is written last
    left = np.full(count, stride, dtype=runs.left.dtype)
    right = np.zeros(count, dtype=runs.left.dtype)
    np.minimum.at(left, component, runs.left)
    np.maximum.at(right, component, runs.right)
    total = np.bincount(component, weights=run_heat, minlength=count).astype(np.float64)
    pixels = np.bincount(component, weights=runs.right - runs.left, minlength=count)
    map_index, threshold_index = np.divmod(runs.group[first_run], thresholds)
    return SweptBoxes(
        map_index,
        threshold_index,
        np.stack([left, runs.row[first_run], right, runs.row[last_run] + 1], axis=1).astype(np.float64),
        total / pixels,
        total,
        pixels.astype(np.int64),
    )


def _edges(maps: NDArray[np.floating], thresholds: NDArray[np.float64]) -> NDArray[np.int64]:
    """Keys of all runs of maps above a threshold each: start and end of the first run, of the second, and so on."""
    count, height, width = maps.shape
    above = np.zeros(count * (height + 1) * (width + 1) + 1, dtype=bool)
    cells = above[1:].reshape(count, height + 1, width + 1)[:, :height, :width]
    for heatmap, threshold, out in zip(maps, thresholds, cells, strict=True):
        np.greater(heatmap, threshold, out=out)
    return np.flatnonzero(above[1:] != above[:-1])


def _sums_between(values: NDArray[np.floating], starts: NDArray[np.int64], ends: NDArray[np.int64]) -> NDArray:
    """Sum in float64 of `values[start:end]` for each of ascending, disjoint, non-empty ranges."""
    bounds = np.stack([starts, ends], axis=1).ravel()
    if len(bounds) and bounds[-1] == len(values):
        bounds = bounds[:-1]
    return np.add.reduceat(values, bounds, dtype=np.float64)[::2]


def _run_keys(maps: NDArray[np.floating], thresholds: NDArray[np.float64]) -> tuple[NDArray, NDArray]:
    """Sorted keys of the first and one-past-last columns of all runs of all thresholds; entry i of each is run i."""
    count, height, width = maps.shape
    level = np.zeros((count, height, width + 2), dtype=np.int16)
    level[:, :, 1:-1] = np.searchsorted(thresholds, maps.astype(np.float64), side="left")
    before, after = level[:, :, :-1], level[:, :, 1:]
    return (
        _edge_keys(before, after, len(thresholds)),
        _edge_keys(after, before, len(thresholds)),
    )


def _edge_keys(low: NDArray[np.int16], high: NDArray[np.int16], thresholds: int) -> NDArray[np.int64]:
    """Keys of the places where `high` exceeds `low`, one for each threshold between the two."""
    count, height, stride = low.shape
    where = np.unravel_index(np.flatnonzero(high > low), low.shape)
    base = low[where].astype(np.int64)
    steps = high[where] - base
    first = ((where[0] * thresholds + base) * (height + 1) + where[1]) * stride + where[2]
    small = count * thresholds * (height + 1) * stride < np.iinfo(np.int32).max  # sorts twice as fast
    dtype = np.int32 if small else np.int64
    level_stride = (height + 1) * stride
    step = np.arange(steps.sum(), dtype=dtype) - np.repeat((np.cumsum(steps) - steps).astype(dtype), steps)
    keys = np.repeat(first.astype(dtype), steps) + step * dtype(level_stride)
    keys.sort()
    return keys


def _join_runs(starts: NDArray[np.int64], ends: NDArray[np.int64], stride: int) -> tuple[NDArray, NDArray]:
    """Component of every run, and first run of every component; runs of neighbouring rows join if they touch, corners
    included.

    Every run points to the lowest run known to be of its component; in each round the pairs that still point to
    different ones are joined, and pointers are followed to their ends.
    """
    lowest = np.searchsorted(ends, starts + stride, side="left")
    highest = np.searchsorted(starts, ends + stride, side="right")
    degree = highest - lowest
    runs = np.arange(len(starts))
    above = np.repeat(runs, degree)
    below = np.arange(len(above)) - np.repeat(np.cumsum(degree) - degree - lowest, degree)
    root = runs.copy()
    while len(above):
        np.minimum.at(root, np.maximum(root[above], root[below]), np.minimum(root[above], root[below]))
        while np.any(root[root] != root):
            root = root[root]
        apart = root[above] != root[below]
        above, below = above[apart], below[apart]
    first = root == runs
    return (np.cumsum(first) - 1)[root], np.flatnonzero(first)
