"""Exact Euclidean distance transform, batched, on the device of its input."""

import math

import torch
from torch import Tensor


@torch.no_grad()
def euclidean_distance_transform(masks: Tensor) -> Tensor:
    """Distance from every pixel to the nearest True pixel, exact, in pixels.

    Two separable integer passes, neither of which waits for the device: the distance along the row by
    shifts of 1, 2, 4, ..., then min over rows of (row offset)^2 + (row distance)^2.

    Args:
        masks: (..., H, W) bool, or numbers of which those >= 0.5 are True. H, W <= 16,384.

    Returns:
        (..., H, W) float32, zero on True pixels; infinite everywhere in a mask without a True pixel.

    Raises:
        ValueError: `masks` has fewer than two dimensions or a side above 16,384.
    """
    if masks.dim() < 2 or max(masks.shape[-2:]) > 16_384:
        raise ValueError(f"expected masks (..., H, W) with sides <= 16384, got {tuple(masks.shape)}")
    masks = masks if masks.dtype == torch.bool else masks >= 0.5
    height, width = masks.shape[-2:]
    farthest = (height - 1) ** 2 + (width - 1) ** 2
    # The row distance where a row has no True pixel: its square is above every real squared distance.
    unreachable = math.isqrt(farthest) + 1
    dtype = torch.int16 if unreachable**2 + (height - 1) ** 2 < 2**15 else torch.int32
    rows_first = (~masks).reshape(-1, height, width).transpose(0, 1).to(dtype) * unreachable
    along_row = _row_distance(rows_first)
    squared = along_row * along_row
    nearest = squared.clone()
    candidate = torch.empty_like(squared)
    for offset in range(1, height):
        torch.add(squared, offset * offset, out=candidate)
        torch.minimum(nearest[offset:], candidate[:-offset], out=nearest[offset:])
        torch.minimum(nearest[:-offset], candidate[offset:], out=nearest[:-offset])
    distance = nearest.float().sqrt_().masked_fill_(nearest > farthest, torch.inf)
    return distance.transpose(0, 1).reshape(masks.shape)


def _row_distance(distance: Tensor) -> Tensor:
    """Distance to the nearest zero of the same row; a row without one keeps its value."""
    step = 1
    while step < distance.shape[-1]:
        farther = distance + step
        torch.minimum(distance[..., step:], farther[..., :-step], out=distance[..., step:])
        torch.minimum(distance[..., :-step], farther[..., step:], out=distance[..., :-step])
        step *= 2
    return distance
