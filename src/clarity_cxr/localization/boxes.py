"""Boxes of the 8-connected components of a heatmap above a threshold, at one threshold or at many at once. NumPy only.

The components are found on horizontal runs, not on pixels: one pass over the map yields the runs of *all* thresholds
(a pixel that is higher than its left neighbour starts a run at every threshold between the two), and runs that touch
in neighbouring rows are joined. The cost grows with the number of runs, so a sweep over 99
thresholds costs far less than 99 labelings.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

_CELLS_PER_CHUNK = 500_000
"""Map pixels handled at once, which bounds the memory of a sweep (about a hundred MB at 99 thresholds)."""


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


def find_boxes(heatmap: NDArray[np.floating], threshold: float) -> ComponentBoxes:
    """One box for each 8-connected component of `heatmap > threshold`.

    Args:
        heatmap: (H,W), Xi of one film and finding.
        threshold: xi of the finding; pixels equal to it are outside.

    Returns:
        The components; empty arrays where no pixel is above the threshold.
    """
    swept = sweep_boxes(np.asarray(heatmap)[None], np.asarray([threshold]))
    return ComponentBoxes(swept.boxes, swept.mean_heat, swept.total_heat)


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
    # Cell of a key: map, threshold, row (one more than there are, so that the last has no neighbour), column.
    starts, ends = _run_keys(maps, thresholds)
    stride = width + 1
    component, components = _join_runs(starts, ends, stride)

    line, start = np.divmod(starts, stride)
    end = ends - line * stride
    group, row = np.divmod(line, height + 1)
    map_index, threshold_index = np.divmod(group, len(thresholds))

    heat_to = np.zeros((count, height, width + 1))
    np.cumsum(maps, axis=2, dtype=np.float64, out=heat_to[:, :, 1:])
    flat_line = (map_index * height + row) * stride
    run_heat = heat_to.ravel()[flat_line + end] - heat_to.ravel()[flat_line + start]
    total = np.bincount(component, weights=run_heat, minlength=components).astype(np.float64)
    pixels = np.bincount(component, weights=end - start, minlength=components)

    # Runs are in scan order, so the last write is the component's last run, and in reverse its first.
    runs = np.arange(len(starts))
    first_run, last_run = np.empty((2, components), dtype=np.int64)
    last_run[component] = runs
    first_run[component[::-1]] = runs[::-1]
    left = np.full(components, width, dtype=starts.dtype)
    right = np.zeros(components, dtype=starts.dtype)
    np.minimum.at(left, component, start)
    np.maximum.at(right, component, end)
    boxes = np.stack([left, row[first_run], right, row[last_run] + 1], axis=1).astype(np.float64)

    order = np.argsort(first_run)
    return SweptBoxes(
        map_index[first_run][order] + first_map,
        threshold_index[first_run][order],
        boxes[order],
        (total / pixels)[order],
        total[order],
        pixels[order].astype(np.int64),
    )


def _run_keys(maps: NDArray[np.floating], thresholds: NDArray[np.float64]) -> tuple[NDArray, NDArray]:
    """Sorted keys of the first and one-past-last columns of all runs of all thresholds; entry i of each is run i."""
    count, height, width = maps.shape
    level = np.zeros((count, height, width + 2), dtype=np.int16)
    if len(thresholds) == 1:
        np.greater(maps, thresholds[0], out=level[:, :, 1:-1], casting="unsafe")
    else:
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


def _join_runs(starts: NDArray[np.int64], ends: NDArray[np.int64], stride: int) -> tuple[NDArray[np.int64], int]:
    """Component of every run and their number; runs of neighbouring rows join if they touch, corners included.

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
    return (np.cumsum(first) - 1)[root], int(first.sum())
