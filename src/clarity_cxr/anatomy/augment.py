"""Training-time variation of the built-in segmenter's films: portable, rotated, cropped, over- and underexposed.

Every function works on a batch of torch tensors and draws from an explicit generator. Films are float in [0, 1].
"""

import math

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from clarity_cxr.anatomy.network import SIZE


def uniform(count: int, low: float, high: float, generator: Generator) -> Tensor:
    """(count, 1, 1, 1) draws between `low` and `high`."""
    return torch.rand(count, 1, 1, 1, generator=generator) * (high - low) + low


def chance(count: int, probability: float, generator: Generator) -> Tensor:
    """(count, 1, 1, 1) bool, True with `probability`."""
    return torch.rand(count, 1, 1, 1, generator=generator) < probability


def smooth_noise(count: int, cells: int, generator: Generator, size: int = SIZE, channels: int = 1) -> Tensor:
    """(count, channels, size, size) standard normal draws on a `cells` x `cells` grid, interpolated (bicubic)."""
    coarse = torch.randn(count, channels, cells, cells, generator=generator)
    return F.interpolate(coarse, size=(size, size), mode="bicubic", align_corners=True)


def warp(
    films: Tensor, masks: Tensor | None, generator: Generator, strength: float = 1.0
) -> tuple[Tensor, Tensor | None]:
    """Rotate, scale, stretch, shear, shift and bend films and masks together.

    Args:
        films: (B, 1, h, h).
        masks: (B, K, h, h) or None.
        generator: source of all draws.
        strength: factor on all magnitudes; at 1, rotation has a deviation of 9 degrees, cut at 20.

    Returns:
        Films (B, 1, SIZE, SIZE), black or continued beyond their border, and masks (B, K, SIZE, SIZE) in [0, 1].
    """
    count = len(films)
    normal = (torch.randn(count, 5, generator=generator) * strength).clamp(-2.2, 2.2)
    angle = normal[:, 0] * math.radians(9)
    scale = torch.exp(normal[:, 1] * 0.14)
    aspect = torch.exp(normal[:, 2] * 0.09)
    shear = normal[:, 3] * 0.05
    rows = torch.stack(
        [
            torch.stack([scale * aspect * angle.cos(), scale * (shear - angle.sin())], dim=1),
            torch.stack([scale / aspect * angle.sin(), scale / aspect * angle.cos()], dim=1),
        ],
        dim=1,
    )
    shift = (torch.rand(count, 2, 1, generator=generator) - 0.5) * 0.4 * strength
    grid = F.affine_grid(torch.cat([rows, shift], dim=2), [count, 1, SIZE, SIZE], align_corners=False)
    bend = smooth_noise(count, 5, generator, channels=2) * uniform(count, 0, 0.025 * strength, generator)
    grid = grid + bend.permute(0, 2, 3, 1)
    warped = F.grid_sample(films, grid, mode="bilinear", padding_mode="border", align_corners=False)
    outside = (grid.abs() > 1).any(dim=3).unsqueeze(1)
    warped = torch.where(outside & chance(count, 0.6, generator), uniform(count, 0, 0.1, generator), warped)
    if masks is not None:
        masks = F.grid_sample(masks, grid, mode="bilinear", padding_mode="zeros", align_corners=False)
    return warped, masks


def opacify(films: Tensor, lungs: Tensor, generator: Generator) -> Tensor:
    """Whiten parts of the lungs, sometimes one whole lung, as effusion, consolidation or collapse do.

    Args:
        films: (B, 1, S, S).
        lungs: (B, 2, S, S) masks in [0, 1], one per lung.
        generator: source of all draws.
    """
    count = len(films)
    patches = torch.sigmoid(smooth_noise(count, 4, generator) * 6 - 3) * lungs.amax(dim=1, keepdim=True)
    patches = patches * uniform(count, 0.1, 0.9, generator) * chance(count, 0.4, generator)
    side = torch.randint(2, (count,), generator=generator)
    lung = lungs[torch.arange(count), side].unsqueeze(1)
    heights = torch.linspace(0, 1, films.shape[-1]).view(1, 1, -1, 1)
    level = uniform(count, -0.2, 0.9, generator)
    filled = lung * torch.sigmoid((heights - level) * 15) * uniform(count, 0.5, 1.0, generator)
    filled = filled * chance(count, 0.25, generator)
    amount = F.avg_pool2d(torch.maximum(patches, filled), 5, 1, 2)
    white = films.flatten(1).quantile(0.85, dim=1).view(-1, 1, 1, 1)
    return films + amount * (white - films).clamp_min(0)


def expose(films: Tensor, generator: Generator) -> Tensor:
    """Change gamma, window, illumination and sharpness, and add grain.

    Args:
        films: (B, 1, S, S).
        generator: source of all draws.

    Returns:
        (B, 1, S, S) in [0, 1].
    """
    count = len(films)
    films = films.clamp(0, 1) ** torch.exp(uniform(count, -0.7, 1.2, generator))
    low, high = uniform(count, -0.15, 0.25, generator), uniform(count, 0.6, 1.2, generator)
    windowed = ((films - low) / (high - low)).clamp(0, 1)
    films = torch.where(chance(count, 0.5, generator), windowed, films)
    films = films * torch.exp(smooth_noise(count, 4, generator) * uniform(count, 0, 0.25, generator))
    films = films + smooth_noise(count, 3, generator) * uniform(count, 0, 0.1, generator)
    blurred = F.avg_pool2d(films, 3, 1, 1, count_include_pad=False)
    films = films + (blurred - films) * uniform(count, -1.0, 1.0, generator)
    grain = torch.randn(films.shape, generator=generator) * uniform(count, 0, 0.06, generator)
    return (films + grain * chance(count, 0.5, generator)).clamp(0, 1)


def obstruct(films: Tensor, generator: Generator) -> Tensor:
    """Lay leads and tubes (lines), devices and labels (rectangles) over films, and collimate their border.

    Args:
        films: (B, 1, S, S).
        generator: source of all draws.
    """
    count, size = len(films), films.shape[-1]
    axis = torch.linspace(-1, 1, size)
    y, x = axis.view(1, 1, -1, 1), axis.view(1, 1, 1, -1)
    for _ in range(3):
        turn = uniform(count, 0, 2 * math.pi, generator)
        bent = uniform(count, -0.4, 0.4, generator) * x.square()
        distance = (turn.cos() * x + turn.sin() * (y + bent) - uniform(count, -0.8, 0.8, generator)).abs()
        line = (distance < uniform(count, 0.004, 0.025, generator)) & chance(count, 0.25, generator)
        films = torch.where(line, films + uniform(count, -0.1, 0.5, generator), films)
        centre_x, centre_y = uniform(count, -1, 1, generator), uniform(count, -1, 1, generator)
        half = uniform(count, 0.03, 0.15, generator)
        tall = half * uniform(count, 0.3, 1.5, generator)
        block = ((x - centre_x).abs() < half) & ((y - centre_y).abs() < tall) & chance(count, 0.2, generator)
        films = torch.where(block, uniform(count, 0, 1.0, generator), films)
    inset = [uniform(count, 0.8, 1.2, generator) for _ in range(4)]
    border = (x > inset[0]) | (x < -inset[1]) | (y > inset[2]) | (y < -inset[3])
    films = torch.where(border & chance(count, 0.25, generator), uniform(count, 0, 0.05, generator), films)
    return films.clamp(0, 1)
