"""Euclidean distance transform by comparing every pixel with every True pixel."""

import numpy as np


def euclidean_distance_transform(mask: np.ndarray) -> np.ndarray:
    """Distance of every pixel of a (H, W) mask to its nearest True pixel, inf where there is none."""
    height, width = mask.shape
    targets = np.argwhere(mask)
    distance = np.full((height, width), np.inf)
    for i in range(height):
        for j in range(width):
            for y, x in targets:
                distance[i, j] = min(distance[i, j], np.hypot(i - y, j - x))
    return distance
