"""Localization heatmaps Xi: attention confined to the foreground mask, at the size of the film."""

import torch
from torch import Tensor
from torch.nn import functional


def masked_attention(attention: Tensor, heatmap: Tensor | None, mask_threshold: float) -> Tensor:
    """A * S_f with S_f = [H > t], on the patch grid.

    Args:
        attention: A, (B,C,N,N), non-negative.
        heatmap: H, (B,C,N,N) in [0,1]; None for a model without SegmentCAM, which leaves the attention as it is.
        mask_threshold: t.

    Returns:
        (B,C,N,N) float32.
    """
    attention = attention.float()
    return attention if heatmap is None else attention * (heatmap > mask_threshold)


def scale_maps(maps: Tensor, size: int) -> Tensor:
    """Resample maps to the film's size and scale each to [0,1].

    Bilinear (align_corners false), then min-max per map, so that a threshold in (0,1) has a meaning. A constant map,
    an empty one above all, becomes zero: it points nowhere and gives no box. Interpolating is two matrix products,
    which a CPU does several times faster than pixel by pixel.

    Args:
        maps: (..., N,N).
        size: side of the result in pixels.

    Returns:
        (..., size, size) float32 in [0,1].
    """
    with torch.autocast(maps.device.type, enabled=False):
        maps = maps.float()
        weights = _bilinear_weights(maps.shape[-1], size, maps.device)
        full = weights @ (weights @ maps.mT).mT
    low = full.amin(dim=(-2, -1), keepdim=True)
    span = full.amax(dim=(-2, -1), keepdim=True) - low
    # Interpolating a constant leaves rounding noise of a few ulps; it must not be stretched to [0,1].
    constant = (maps.amax(dim=(-2, -1), keepdim=True) == maps.amin(dim=(-2, -1), keepdim=True)) | (span <= 0)
    return full.sub_(low).div_(span.masked_fill(constant, torch.inf))


def _bilinear_weights(length: int, size: int, device: torch.device) -> Tensor:
    """The share of each of `length` cells in each of `size` results of linear interpolation: (size, length) float32."""
    cells = torch.eye(length, device=device)[None]
    return functional.interpolate(cells, size=size, mode="linear", align_corners=False)[0].T


def localization_heatmaps(attention: Tensor, heatmap: Tensor | None, mask_threshold: float, size: int) -> Tensor:
    """Xi: the attention inside the foreground mask, upsampled and scaled per image and finding.

    Args:
        attention: A, (B,C,N,N).
        heatmap: H, (B,C,N,N) in [0,1], or None (no SegmentCAM: the attention alone).
        mask_threshold: t of S_f = [H > t].
        size: side of the film in pixels.

    Returns:
        (B,C,size,size) float32 in [0,1]; all zero where the mask is empty or the map is constant.
    """
    return scale_maps(masked_attention(attention, heatmap, mask_threshold), size)
