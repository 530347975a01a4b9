"""Pillow's Lanczos resize as tensor operations, so that an exported model takes films of any size."""

import torch
from torch import Tensor

LOBES = 3
"""Lobes of the Lanczos kernel on each side, as Pillow has it."""
_FIXED_POINT = 1 << 22
"""Pillow rounds its weights to this fraction."""


def lanczos_resize(films: Tensor, size: int) -> Tensor:
    """Resize films to squares; the same pixels as `clarity_cxr.data.images.resize_film`.

    Rows first, rounded to whole grey levels, then columns. Pillow's weights are whole multiples of 2^-22, so that
    sums in float64 are exact and end in the same grey level.

    Args:
        films: (B, H, W) uint8.
        size: S.

    Returns:
        (B, S, S) uint8.
    """
    narrow = _grey_levels(films.double() @ lanczos_weights(films.shape[2], size, films.device).T)
    return _grey_levels(lanczos_weights(films.shape[1], size, films.device) @ narrow).to(torch.uint8)


def lanczos_weights(length: int, size: int, device: torch.device) -> Tensor:
    """The share of each of `length` pixels in each of `size` results, rows summing to 1: (size, length) float64."""
    pixels = torch.arange(length, device=device, dtype=torch.float64)
    scale = pixels.new_full((), length) / size
    reach = scale.clamp(min=1.0)
    centres = (torch.arange(size, device=device, dtype=torch.float64) + 0.5)[:, None] * scale
    first = (centres - LOBES * reach + 0.5).clamp(min=0).floor()
    last = (centres + LOBES * reach + 0.5).floor()
    inside = (pixels >= first) & (pixels < last)
    weights = _kernel((pixels + 0.5 - centres) / reach) * inside
    fixed = weights / weights.sum(dim=1, keepdim=True) * _FIXED_POINT
    return (fixed.abs() + 0.5).floor() * fixed.sign() / _FIXED_POINT


def _kernel(x: Tensor) -> Tensor:
    """sinc(x) sinc(x / LOBES) for -LOBES <= x < LOBES, else 0."""
    value = _sinc(x) * _sinc(x / LOBES)
    return torch.where((x >= -LOBES) & (x < LOBES), value, torch.zeros_like(value))


def _sinc(x: Tensor) -> Tensor:
    """sin(pi x) / (pi x), 1 at 0."""
    pi = x.new_tensor(torch.pi)  # a Python number would be exported in float32
    turned = torch.where(x == 0, torch.ones_like(x), x * pi)
    return torch.where(x == 0, torch.ones_like(x), turned.sin() / turned)


def _grey_levels(values: Tensor) -> Tensor:
    return (values + 0.5).floor().clamp(0, 255)
