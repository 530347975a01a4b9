"""Losses that hold each finding's heatmap to its anatomical region: PRX (Eq. 10), CNF (Eq. 12), AC (Eq. 13).

Regions may be given once per finding, (B, C, H, W), or once per distinct prior, (B, R, H, W), together with
`region_of_finding`, the region of each of the C findings. The second form costs R distance transforms, not C.
"""

import functools
from collections.abc import Sequence
from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from clarity_cxr.findings import PRIOR_OF_FINDING
from clarity_cxr.losses.distance import euclidean_distance_transform
from clarity_cxr.losses.precision import full_precision, require_same_shape

Form = Literal["text", "printed"]
EPSILON = 1e-8
LOSS_SIZE = 64
"""Side of the grid on which the three losses are computed."""


class AnatomyLosses(NamedTuple):
    """The three scalar losses on the heatmaps."""

    proximity: Tensor
    confinement: Tensor
    area: Tensor


def resample_heatmaps(heatmaps: Tensor, size: int = LOSS_SIZE) -> Tensor:
    """Bilinear resampling of heatmaps (align_corners false).

    Args:
        heatmaps: (B, C, N, N) in [0, 1].
        size: side of the result.

    Returns:
        (B, C, size, size).
    """
    return F.interpolate(heatmaps, size=(size, size), mode="bilinear", align_corners=False)


def resample_regions(regions: Tensor, size: int = LOSS_SIZE) -> Tensor:
    """Bilinear resampling of masks (align_corners false), True again where the result is >= 0.5.

    Args:
        regions: (B, R, H, W) bool.
        size: side of the result.

    Returns:
        (B, R, size, size) bool.
    """
    if regions.shape[-2:] == (size, size):
        return regions
    planes = regions.reshape(-1, 1, *regions.shape[-2:]).float()
    resampled = F.interpolate(planes, size=(size, size), mode="bilinear", align_corners=False)
    return resampled.reshape(*regions.shape[:2], size, size) >= 0.5


@full_precision
@torch.no_grad()
def region_similarity_weights(
    regions: Tensor, form: Form = "text", region_of_finding: Sequence[int] | None = None
) -> Tensor:
    """Weight of each finding by how unlike the other findings' regions its own is (Eq. 11).

    mu is a finding's mean cosine similarity to the other C - 1 findings' regions. The text asks for mu
    inverted with the minimum set to 1, w = 1 + max(mu) - mu; the printed equation, w = 2 - mu - min(mu), has
    another minimum. An empty region has similarity zero to every region, so all weights are finite, in [1, 2].

    Args:
        regions: (B, C, H, W) bool, or (B, R, H, W) with `region_of_finding`.
        form: "text" or "printed".
        region_of_finding: the region of each of C findings; None when regions are given per finding.

    Returns:
        (B, C) float32 weights.

    Raises:
        ValueError: `form` is unknown.
    """
    _require_form(form)
    vectors = _masks(regions).flatten(2).float()
    index = _region_index(regions, region_of_finding)
    directions = F.normalize(vectors, dim=-1, eps=EPSILON)
    similarity = (directions @ directions.transpose(1, 2))[:, index][:, :, index]
    itself = similarity.diagonal(dim1=1, dim2=2)
    mean_similarity = (similarity.sum(dim=2) - itself) / max(similarity.shape[1] - 1, 1)
    if form == "text":
        return 1 + mean_similarity.amax(dim=1, keepdim=True) - mean_similarity
    return 2 - mean_similarity - mean_similarity.amin(dim=1, keepdim=True)


@full_precision
def mask_proximity_loss(
    heatmaps: Tensor,
    regions: Tensor,
    *,
    region_of_finding: Sequence[int] | None = None,
    weights: Tensor | None = None,
) -> Tensor:
    """Heat outside a finding's region, weighted by its distance to the region (Eq. 10, PRX).

    Distances are in pixels of the given grid, normalised by 8 / (H W C (H + W)); the batch is averaged. A
    finding whose region is empty in an image contributes zero there.

    Args:
        heatmaps: (B, C, H, W) in [0, 1].
        regions: (B, C, H, W) bool, or (B, R, H, W) with `region_of_finding`.
        region_of_finding: the region of each of C findings; None when regions are given per finding.
        weights: (B, C) of `region_similarity_weights`; computed in the text form when not given.

    Returns:
        Scalar loss >= 0.

    Raises:
        ValueError: heatmaps and regions do not fit.
    """
    masks, index, weights = _fit(heatmaps, regions, region_of_finding, weights)
    distances = _distances(masks).to(heatmaps.dtype)
    return _proximity((heatmaps * distances[:, index]).sum(dim=(2, 3)), weights, masks.shape)


@full_precision
def mask_confinement_loss(
    heatmaps: Tensor,
    regions: Tensor,
    form: Form = "text",
    *,
    region_of_finding: Sequence[int] | None = None,
    weights: Tensor | None = None,
) -> Tensor:
    """Share of a finding's heat that lies outside its region (Eq. 12, CNF).

    Form "text": w * sum(H outside) / (sum(H) + 1e-8) per image and finding, averaged over findings and batch.
    Form "printed" divides pixel by pixel, so that H cancels and its gradient is zero; it is kept for the
    literal reproduction only. A finding whose region is empty in an image contributes zero there.

    Args:
        heatmaps: (B, C, H, W) in [0, 1].
        regions: (B, C, H, W) bool, or (B, R, H, W) with `region_of_finding`.
        form: "text" or "printed".
        region_of_finding: the region of each of C findings; None when regions are given per finding.
        weights: (B, C) of `region_similarity_weights`; computed in the text form when not given.

    Returns:
        Scalar loss >= 0.

    Raises:
        ValueError: heatmaps and regions do not fit, or `form` is unknown.
    """
    _require_form(form)
    masks, index, weights = _fit(heatmaps, regions, region_of_finding, weights)
    outside = _outside(masks).to(heatmaps.dtype)[:, index]
    if form == "printed":
        return _printed_confinement(outside, weights) + 0 * heatmaps.sum()
    return _confinement((heatmaps * outside).sum(dim=(2, 3)), heatmaps.sum(dim=(2, 3)), weights)


@full_precision
def area_constraint_loss(heatmaps: Tensor) -> Tensor:
    """Mean heat over all pixels, findings and images (Eq. 13, AC).

    Args:
        heatmaps: (B, C, H, W) in [0, 1].

    Returns:
        Scalar loss in [0, 1].
    """
    return heatmaps.mean()


@full_precision
def anatomy_losses(
    heatmaps: Tensor,
    priors: Tensor | None,
    *,
    size: int = LOSS_SIZE,
    region_of_finding: Sequence[int] = PRIOR_OF_FINDING,
    confinement_form: Form = "text",
    similarity_form: Form = "text",
) -> AnatomyLosses:
    """PRX, CNF and AC of heatmaps resampled to `size`, as used in training.

    Equal to the three public losses on `resample_heatmaps` and `resample_regions`, but cheaper: bilinear
    resampling is linear, so every sum of (resampled heatmap * map) is taken on the N x N grid as the sum of
    heatmap * (transposed resampling of the map), once per prior instead of once per finding.

    Args:
        heatmaps: (B, C, N, N) sigmoid heatmaps H.
        priors: (B, R, h, w) bool; None makes PRX and CNF zero.
        size: side of the grid on which the losses are defined.
        region_of_finding: index into the R priors of each of the C findings.
        confinement_form: form of Eq. 12.
        similarity_form: form of Eq. 11.

    Returns:
        The three scalar losses.

    Raises:
        ValueError: heatmaps and priors do not fit, or a form is unknown.
    """
    ones = torch.ones(1, 1, size, size, dtype=heatmaps.dtype, device=heatmaps.device)
    heat = (heatmaps * _transposed_resampling(ones, heatmaps.shape[-2:])).sum(dim=(2, 3))
    area = heat.mean() / size**2
    if priors is None:
        return AnatomyLosses(torch.zeros_like(area), torch.zeros_like(area), area)
    _require_form(confinement_form)
    regions = resample_regions(_masks(priors), size)
    weights = region_similarity_weights(regions, similarity_form, region_of_finding)
    require_same_shape(weights=weights, heatmaps=heatmaps[:, :, 0, 0])
    index = _region_index(regions, region_of_finding)
    outside = _outside(regions).to(heatmaps.dtype)
    maps = torch.stack((_distances(regions).to(heatmaps.dtype), outside))
    distances, coarse_outside = _transposed_resampling(maps, heatmaps.shape[-2:])
    proximity = _proximity((heatmaps * distances[:, index]).sum(dim=(2, 3)), weights, regions.shape)
    if confinement_form == "printed":
        return AnatomyLosses(proximity, _printed_confinement(outside[:, index], weights), area)
    outside_heat = (heatmaps * coarse_outside[:, index]).sum(dim=(2, 3))
    return AnatomyLosses(proximity, _confinement(outside_heat, heat, weights), area)


def _proximity(distance_heat: Tensor, weights: Tensor, grid: torch.Size) -> Tensor:
    """Eq. 10 from (B, C) sums of heat times distance on a grid of (..., H, W)."""
    height, width = grid[-2:]
    return (distance_heat * weights).mean() * (8 / (height * width * (height + width)))


def _confinement(outside_heat: Tensor, heat: Tensor, weights: Tensor) -> Tensor:
    """Eq. 12, text form, from (B, C) sums of heat."""
    return (outside_heat / (heat + EPSILON) * weights).mean()


def _printed_confinement(outside: Tensor, weights: Tensor) -> Tensor:
    """Eq. 12 as printed, where H / H cancels pixel by pixel (0 / 0 read as 1)."""
    return (outside.mean(dim=(2, 3)) * weights).mean()


def _distances(regions: Tensor) -> Tensor:
    """Distance to each region, zero everywhere for an empty one."""
    return torch.where(_present(regions), euclidean_distance_transform(regions), 0)


def _outside(regions: Tensor) -> Tensor:
    """Pixels outside each region, none for an empty one."""
    return ~regions & _present(regions)


def _present(regions: Tensor) -> Tensor:
    return regions.flatten(2).any(dim=2)[:, :, None, None]


def _transposed_resampling(maps: Tensor, shape: torch.Size) -> Tensor:
    """Transpose of bilinear resampling from `shape` to the grid of (..., H, W) maps, applied to them."""

    def matrix(coarse: int, fine: int) -> Tensor:
        identity = torch.eye(coarse, dtype=maps.dtype, device=maps.device)
        return F.interpolate(identity[None], size=fine, mode="linear", align_corners=False)[0]

    return matrix(shape[0], maps.shape[-2]) @ maps @ matrix(shape[1], maps.shape[-1]).T


def _masks(regions: Tensor) -> Tensor:
    return regions if regions.dtype == torch.bool else regions >= 0.5


def _region_index(regions: Tensor, region_of_finding: Sequence[int] | None) -> Tensor | slice:
    if region_of_finding is None:
        return slice(None)
    return _device_index(tuple(region_of_finding), regions.device)


@functools.cache
def _device_index(index: tuple[int, ...], device: torch.device) -> Tensor:
    """Made once: each copy to a GPU would wait for it."""
    return torch.tensor(index, device=device)


def _fit(
    heatmaps: Tensor, regions: Tensor, region_of_finding: Sequence[int] | None, weights: Tensor | None
) -> tuple[Tensor, Tensor | slice, Tensor]:
    """Checked bool masks (B, R, H, W), the index that expands R to C, and weights (B, C)."""
    findings = regions.shape[1] if region_of_finding is None else len(region_of_finding)
    expected = (regions.shape[0], findings, *regions.shape[2:])
    if tuple(heatmaps.shape) != expected:
        raise ValueError(f"regions call for heatmaps {expected}, got {tuple(heatmaps.shape)}")
    if weights is None:
        weights = region_similarity_weights(regions, region_of_finding=region_of_finding)
    require_same_shape(weights=weights, heatmaps=heatmaps[:, :, 0, 0])
    return _masks(regions), _region_index(regions, region_of_finding), weights.to(heatmaps.dtype)


def _require_form(form: str) -> None:
    if form not in ("text", "printed"):
        raise ValueError(f"form must be 'text' or 'printed', got {form!r}")
