"""Anti-aliased curves, stamped point by point into a small part of the film."""

from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

Field = NDArray[np.floating]
"""A patch of a film; float32 in practice."""

Numbers = np.ndarray | float


def stroke(field: Field, xs: np.ndarray, ys: np.ndarray, radius: Numbers, strength: Numbers) -> None:
    """Raise `field` to at least the profile of a soft round pen moved along a curve.

    Args:
        field: (H, W), changed in place.
        xs: (k,) points of the polyline, in pixels; points outside the field are cut off.
        ys: (k,) likewise.
        radius: pen radius in pixels, one or per point.
        strength: height of the profile, one or per point.
    """
    xs, ys, radius, strength = resample(xs, ys, radius, strength)
    reach = int(np.ceil(float(np.max(radius)) + 1.0))
    offsets = np.arange(-reach, reach + 1)
    columns = np.floor(xs).astype(np.intp)[:, None, None] + offsets[None, None, :]
    rows = np.floor(ys).astype(np.intp)[:, None, None] + offsets[None, :, None]
    distance = np.sqrt((columns + 0.5 - xs[:, None, None]) ** 2 + (rows + 0.5 - ys[:, None, None]) ** 2)
    profile = np.clip(radius[:, None, None] + 0.5 - distance, 0.0, 1.0) * np.minimum(1.0, 2.0 * radius[:, None, None])
    value = (profile * strength[:, None, None]).astype(np.float32)
    height, width = field.shape
    inside = (columns >= 0) & (columns < width) & (rows >= 0) & (rows < height) & (value > 0)
    flat = (rows * width + columns)[inside]
    np.maximum.at(field.reshape(-1), flat, value[inside])


def resample(
    xs: np.ndarray, ys: np.ndarray, radius: Numbers, strength: Numbers, step: float = 0.6
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Points along a polyline at even steps, with radius and strength interpolated.

    Args:
        xs: (k,) points in pixels.
        ys: (k,) points in pixels.
        radius: one or per point.
        strength: one or per point.
        step: distance between returned points in pixels.
    """
    length = np.concatenate([[0.0], np.cumsum(np.hypot(np.diff(xs), np.diff(ys)))])
    count = max(2, int(length[-1] / step) + 1)
    at = np.linspace(0.0, length[-1], count)
    radius = np.broadcast_to(radius, xs.shape)
    strength = np.broadcast_to(strength, xs.shape)
    return (
        np.interp(at, length, xs),
        np.interp(at, length, ys),
        np.interp(at, length, radius),
        np.interp(at, length, strength),
    )


def arc(points: list[tuple[float, float]], count: int = 24) -> tuple[np.ndarray, np.ndarray]:
    """A Bezier curve, by de Casteljau's construction.

    Args:
        points: its control points (x, y).
        count: number of points returned.
    """
    t = np.linspace(0.0, 1.0, count)
    level = [(np.full(count, x), np.full(count, y)) for x, y in points]
    while len(level) > 1:
        level = [((1 - t) * a[0] + t * b[0], (1 - t) * a[1] + t * b[1]) for a, b in pairwise(level)]
    return level[0]
