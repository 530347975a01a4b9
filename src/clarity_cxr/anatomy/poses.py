"""Examples that teach the film head: upright films turned and inverted, and pictures that are no chest film.

No label is needed: any collection of upright frontal films teaches what its own rotations look like.
"""

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from clarity_cxr.anatomy.augment import chance, expose, obstruct, smooth_noise, uniform, warp
from clarity_cxr.anatomy.network import POSES, SIZE

NOT_A_CHEST_FILM = POSES.index("not_a_chest_film")
_POSE_WEIGHTS = (0.32, 0.15, 0.17, 0.15, 0.21)
_INVERTED_SHARE = 0.35


def posed_films(films: Tensor, generator: Generator) -> tuple[Tensor, Tensor, Tensor]:
    """Turn, invert or replace upright films at random.

    Args:
        films: (B, 1, h, h) upright frontal films in [0, 1].
        generator: source of all draws.

    Returns:
        Films (B, 1, SIZE, SIZE), poses (B,) int64 indexing `POSES`, inverted (B,) float 0 or 1.
    """
    count = len(films)
    poses = torch.multinomial(torch.tensor(_POSE_WEIGHTS), count, replacement=True, generator=generator)
    inverted = torch.rand(count, generator=generator) < _INVERTED_SHARE
    posed, _ = warp(films, None, generator, strength=0.8)
    strangers = _no_chest_films(films, generator)
    posed = torch.where(
        (poses == NOT_A_CHEST_FILM).view(-1, 1, 1, 1), strangers, obstruct(expose(posed, generator), generator)
    )
    for quarter_turns in (1, 2, 3):
        here = poses == quarter_turns
        posed[here] = torch.rot90(posed[here], quarter_turns, dims=(2, 3))
    posed = torch.where(inverted.view(-1, 1, 1, 1), 1 - posed, posed)
    return posed, poses, inverted.float()


def _no_chest_films(films: Tensor, generator: Generator) -> Tensor:
    kinds = (_fractal_noise, _shapes, _waves, lambda n, g: _shuffled(films, g), lambda n, g: _detail(films, g))
    count = len(films)
    which = torch.randint(len(kinds), (count,), generator=generator)
    pictures = torch.zeros(count, 1, SIZE, SIZE)
    for index, kind in enumerate(kinds):
        pictures = torch.where((which == index).view(-1, 1, 1, 1), kind(count, generator), pictures)
    symmetric = (pictures + pictures.flip(3)) / 2
    return torch.where(chance(count, 0.25, generator), symmetric, pictures).clamp(0, 1)


def _fractal_noise(count: int, generator: Generator) -> Tensor:
    spectrum = torch.fft.rfft2(torch.randn(count, 1, SIZE, SIZE, generator=generator))
    frequency = (torch.fft.fftfreq(SIZE).view(-1, 1).square() + torch.fft.rfftfreq(SIZE).square()).sqrt()
    falloff = frequency.clamp_min(1 / SIZE) ** -uniform(count, 0, 3.2, generator)
    return _stretched(torch.fft.irfft2(spectrum * falloff, s=(SIZE, SIZE)), count, generator)


def _shapes(count: int, generator: Generator) -> Tensor:
    axis = torch.linspace(-1, 1, SIZE)
    y, x = axis.view(1, 1, -1, 1), axis.view(1, 1, 1, -1)
    pictures = uniform(count, -1, 1, generator) * x + uniform(count, -1, 1, generator) * y
    for _ in range(8):
        across = (x - uniform(count, -1, 1, generator)) / uniform(count, 0.05, 0.8, generator)
        along = (y - uniform(count, -1, 1, generator)) / uniform(count, 0.05, 0.8, generator)
        round_shape = across.square() + along.square() < 1
        box = torch.maximum(across.abs(), along.abs()) < 1
        shape = torch.where(chance(count, 0.5, generator), round_shape, box)
        shade = uniform(count, -1.5, 1.5, generator) + uniform(count, -0.5, 0.5, generator) * (across + along)
        pictures = torch.where(shape & chance(count, 0.7, generator), shade, pictures)
    pictures = pictures + smooth_noise(count, 24, generator) * uniform(count, 0, 0.4, generator)
    return _stretched(pictures, count, generator)


def _waves(count: int, generator: Generator) -> Tensor:
    axis = torch.linspace(-1, 1, SIZE)
    y, x = axis.view(1, 1, -1, 1), axis.view(1, 1, 1, -1)
    pictures = torch.zeros(count, 1, SIZE, SIZE)
    for _ in range(3):
        phase = uniform(count, -30, 30, generator) * x + uniform(count, -30, 30, generator) * y
        pictures = pictures + torch.sin(phase + uniform(count, 0, 6.28, generator)) * uniform(count, 0, 1, generator)
    pictures = torch.where(chance(count, 0.4, generator), pictures.sign(), pictures)
    return _stretched(pictures + smooth_noise(count, 6, generator) * 0.3, count, generator)


def _shuffled(films: Tensor, generator: Generator) -> Tensor:
    cells = 2 + 2 * int(torch.randint(2, (1,), generator=generator))
    films = F.interpolate(films, size=(SIZE, SIZE), mode="bilinear", align_corners=False)
    side = SIZE // cells
    tiles = films.unfold(2, side, side).unfold(3, side, side).reshape(len(films), cells * cells, side, side)
    order = torch.rand(len(films), cells * cells, generator=generator).argsort(dim=1)
    tiles = tiles.gather(1, order.view(*order.shape, 1, 1).expand_as(tiles))
    return F.fold(tiles.flatten(2).transpose(1, 2), output_size=(SIZE, SIZE), kernel_size=side, stride=side)


def _detail(films: Tensor, generator: Generator) -> Tensor:
    count = len(films)
    scale = uniform(count, 0.08, 0.25, generator).flatten()
    centre = (torch.rand(count, 2, generator=generator) - 0.5) * 1.5
    zero = torch.zeros_like(scale)
    rows = torch.stack([torch.stack([scale, zero, centre[:, 0]], 1), torch.stack([zero, scale, centre[:, 1]], 1)], 1)
    grid = F.affine_grid(rows, [count, 1, SIZE, SIZE], align_corners=False)
    picture = F.grid_sample(films, grid, padding_mode="border", align_corners=False)
    return _stretched(picture, count, generator)


def _stretched(pictures: Tensor, count: int, generator: Generator) -> Tensor:
    low = pictures.amin(dim=(2, 3), keepdim=True)
    span = (pictures.amax(dim=(2, 3), keepdim=True) - low).clamp_min(1e-6)
    return ((pictures - low) / span) ** torch.exp(uniform(count, -0.7, 0.7, generator))
