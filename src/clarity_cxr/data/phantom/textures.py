"""Texture fields and vessel trees, drawn once per seed and size and then cropped, flipped and sampled by every film."""

import math
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from scipy.ndimage import gaussian_filter, map_coordinates

from clarity_cxr.data.phantom.draws import Draws, Stream, generator
from clarity_cxr.data.phantom.strokes import Field, arc, stroke

TREES = 12
TREE_WIDTH, TREE_HEIGHT, TREE_HILUM = 0.40, 0.96, 0.46
"""Extent of a vessel tree, and the height of its root, in units of the film's side."""

_BASE = 512
"""Side of the grid on which all but the grain is drawn."""


class Textures(NamedTuple):
    """The library of one seed and size.

    `grain`, `patchy`, `coarse` are periodic (n, 2S, 2S) fields of mean 0 and deviation 1, `network` a
    periodic (n, 2S, 2S) field in [0, 1] of thin crossing lines, `trees` (TREES, h, w) in [0, 1], `tree_scale` the
    trees' pixels per film side.
    """

    grain: Field
    patchy: Field
    coarse: Field
    network: Field
    trees: Field
    tree_scale: float

    def crop(self, fields: Field, draws: Draws, height: int, width: int) -> Field:
        """A random window of a random field, mirrored at random; a view, not a copy."""
        count, side, _ = fields.shape
        field = fields[draws.integer(count)]
        top, left = int(draws.unit() * 0.5 * side), int(draws.unit() * 0.5 * side)
        window = field[top : top + height, left : left + width]
        flips = draws.integer(4)
        return window[:: -1 if flips & 1 else 1, :: -1 if flips & 2 else 1]


@lru_cache(maxsize=2)
def textures(seed: int, size: int) -> Textures:
    """The library for a seed and a film size in pixels."""
    side = 2 * size
    grain = generator(seed, Stream.TEXTURE, size)
    noise = generator(seed, Stream.TEXTURE)
    tree_scale = float(min(2 * size, 1024))
    return Textures(
        grain=np.stack([_smooth(grain, side, 0.55 * (size / 128) ** 0.5) for _ in range(3)]),
        patchy=np.stack([_resize(_smooth(noise, _BASE, 0.014 * _BASE / 2), side) for _ in range(3)]),
        coarse=np.stack([_resize(_smooth(noise, _BASE, 0.06 * _BASE / 2), side) for _ in range(3)]),
        network=np.stack([_resize(_network(noise), side) for _ in range(3)]),
        trees=np.stack([_tree(Draws(seed, Stream.TEXTURE, 0, 1 + k), tree_scale) for k in range(TREES)]),
        tree_scale=tree_scale,
    )


def _smooth(noise: np.random.Generator, side: int, sigma: float) -> Field:
    field = gaussian_filter(noise.standard_normal((side, side), dtype=np.float32), sigma, mode="wrap")
    return ((field - field.mean()) / field.std()).astype(np.float32)


def _resize(field: Field, side: int) -> Field:
    """The same periodic field on another grid, so that films of all sizes show the same lesions."""
    if side < len(field):
        field = gaussian_filter(field, 0.4 * len(field) / side, mode="wrap")
    at = (np.arange(side, dtype=np.float32) + 0.5) * (len(field) / side) - 0.5
    return map_coordinates(field, np.meshgrid(at, at, indexing="ij"), order=1, mode="grid-wrap").astype(np.float32)


def _network(noise: np.random.Generator) -> Field:
    """Zero lines of two smooth fields: the mesh of thickened septa."""
    field = np.zeros((_BASE, _BASE), np.float32)
    for sigma in (0.0065, 0.0105):
        ridges = np.abs(_smooth(noise, _BASE, sigma * _BASE / 2))
        np.maximum(field, np.exp(-((ridges / 0.30) ** 2)), out=field)
    return field


def _tree(draws: Draws, scale: float) -> Field:
    field = np.zeros((round(TREE_HEIGHT * scale), round(TREE_WIDTH * scale)), np.float32)
    root_y = TREE_HILUM * scale
    for direction in (-82, -62, -38, -12, 12, 30, 48, 64, 82):
        angle = math.radians(direction + draws.normal(0, 11))
        length = draws.uniform(0.05, 0.12) * (1.25 if direction > 10 else 1.0)
        y = root_y + (draws.normal(0, 0.02) + 0.03 * direction / 80) * scale
        _branch(field, draws, 0.0, y, angle, length * scale, draws.uniform(0.003, 0.0068) * scale, scale)
    return gaussian_filter(field, 0.8 * scale / 512 + 0.3).astype(np.float32)


def _branch(
    field: Field, draws: Draws, x: float, y: float, angle: float, length: float, radius: float, scale: float
) -> None:
    if radius < 0.0007 * scale or length < 0.012 * scale:
        return
    bend = angle + draws.normal(0, 0.26)
    end_x, end_y = x + length * math.cos(bend), y + length * math.sin(bend)
    middle = (x + 0.5 * length * math.cos(angle), y + 0.5 * length * math.sin(angle))
    xs, ys = arc([(x, y), middle, (end_x, end_y)], 8)
    strength = min(1.0, 0.10 + radius / (0.0075 * scale))
    stroke(field, xs, ys, np.linspace(radius, 0.8 * radius, 8), np.linspace(strength, 0.9 * strength, 8))
    spread = draws.uniform(0.25, 0.6)
    for turn, share in ((spread, draws.uniform(0.55, 0.75)), (-spread, draws.uniform(0.55, 0.85))):
        _branch(
            field, draws, end_x, end_y, bend + turn * draws.uniform(0.6, 1.2), length * draws.uniform(0.62, 0.9),
            radius * share, scale,
        )  # fmt: skip
