"""The augmentation of one film in float64, with Python integers for the 64-bit hash."""

import math

import numpy as np

MASK = (1 << 64) - 1
GOLDEN = 0x9E3779B97F4A7C15


def mix64(x: int) -> int:
    x &= MASK
    x = ((x ^ (x >> 30)) * 0xBF58476D1CE4E5B9) & MASK
    x = ((x ^ (x >> 27)) * 0x94D049BB133111EB) & MASK
    return x ^ (x >> 31)


def mix32(x: np.ndarray, salt: int = 0) -> np.ndarray:
    x = x.astype(np.uint32)
    x = (x ^ (x >> np.uint32(16))) * np.uint32(0x7FEB352D)
    x = x + np.uint32(salt)
    return (x ^ (x >> np.uint32(15))) * np.uint32(0x846CA68B)


def uniforms(state: int) -> list[float]:
    return [((mix64(state + stream * GOLDEN) >> 40) + 0.5) / 2**24 for stream in range(6)]


def normals(state: int, pixels: int) -> np.ndarray:
    pairs = (pixels + 1) // 2
    counters = mix32(np.arange(2 * pairs)) ^ np.uint32(state & 0xFFFFFFFF)
    bits = (mix32(counters, state >> 32) >> np.uint32(8)).astype(np.float64)
    radius = np.sqrt(-2 * np.log((bits[:pairs] + 1) / 2**24))
    angle = 2 * np.pi * bits[pairs:] / 2**24
    return np.concatenate((radius * np.cos(angle), radius * np.sin(angle)))[:pixels]


def sample(image: np.ndarray, draws: list[float], config, border: bool, side: int | None = None) -> np.ndarray:
    """At the pixel centres of a grid of `side` pixels, the image's own if None."""
    size = len(image)
    points = side or size
    angle = math.radians(config.rotation_degrees) * (2 * draws[0] - 1)
    low, high = config.crop_scale
    crop = low + (high - low) * draws[1]
    shift_x, shift_y = (draws[2] - 0.5) * (1 - crop), (draws[3] - 0.5) * (1 - crop)
    cos, sin = math.cos(angle), math.sin(angle)
    start_x = (cos * shift_x - sin * shift_y) * size
    start_y = (sin * shift_x + cos * shift_y) * size

    def snap(position: float) -> float:
        return round(position * 1024) / 1024

    def pixel(row: int, column: int) -> float:
        if border:
            return image[min(max(row, 0), size - 1), min(max(column, 0), size - 1)]
        return image[row, column] if 0 <= row < size and 0 <= column < size else 0.0

    out = np.zeros((points, points))
    centre = (size - 1) / 2
    for i in range(points):
        for j in range(points):
            u, v = ((k - (points - 1) / 2) * size / points for k in (j, i))
            x = snap(cos * crop * u) + snap(-sin * crop * v) + snap(start_x) + centre
            y = snap(sin * crop * u) + snap(cos * crop * v) + snap(start_y) + centre
            column, row = math.floor(x), math.floor(y)
            fx, fy = x - column, y - row
            top = (1 - fx) * pixel(row, column) + fx * pixel(row, column + 1)
            bottom = (1 - fx) * pixel(row + 1, column) + fx * pixel(row + 1, column + 1)
            out[i, j] = (1 - fy) * top + fy * bottom
    return out


def augment(film: np.ndarray, key: int, epoch: int, seed: int, config, priors=None):
    """One film (S, S) in [0, 1] and its priors (R, h, h) bool."""
    run = mix64(mix64(seed) + GOLDEN * (epoch + 1))
    state = mix64(key + run)
    draws = uniforms(state)
    values = sample(film, draws, config, border=True)
    if priors is not None:
        priors = np.stack([sample(prior.astype(float), draws, config, border=False) >= 0.5 for prior in priors])
    values = np.clip(values * (1 + config.brightness * (2 * draws[4] - 1)), 0, 1)
    low, high = config.poisson_peak
    if high:
        peak = low + (high - low) * draws[5]
        counts = values * peak
        z = normals(mix64(state + 6 * GOLDEN), film.size).reshape(film.shape)
        noisy = counts * (1 + z / np.sqrt(counts + 1 / 18) + (z**2 - 1) / (6 * counts + 1 / 4))
        values = np.clip(noisy / peak, 0, 1)
    return values, priors
