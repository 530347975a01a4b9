"""The built-in network: a small U-Net for lungs and heart, and a head that says whether the film is one to trust."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from clarity_cxr.anatomy.regions import ORGANS

SIZE = 128
"""Side of the network's input and of its maps in pixels."""

POSES: tuple[str, ...] = ("upright", "rotated_90", "rotated_180", "rotated_270", "not_a_chest_film")
"""Classes of the film head; rotations are counter-clockwise turns of an upright film."""

_LOCAL_WINDOW = 31


def standardize(films: Tensor) -> Tensor:
    """The network's two input channels, both free of exposure and contrast.

    Args:
        films: (B, S, S) or (B, 1, S, S), uint8 or float on any scale; reduced to `SIZE` by antialiased bilinear
            interpolation.

    Returns:
        (B, 2, SIZE, SIZE) float32: the film with zero mean and unit deviation; and the same within a moving window of
        about a quarter of the film, clipped to +-4.
    """
    films = films.unsqueeze(1) if films.dim() == 3 else films
    films = films.float()
    if films.shape[-2:] != (SIZE, SIZE):
        films = F.interpolate(films, size=(SIZE, SIZE), mode="bilinear", antialias=True, align_corners=False)
    deviation, mean = torch.std_mean(films, dim=(2, 3), keepdim=True, correction=0)
    whole = (films - mean) / deviation.clamp_min(1e-6)
    local_mean = _moving_average(whole)
    local_variance = (_moving_average(whole.square()) - local_mean.square()).clamp_min(0)
    local = (whole - local_mean) / (local_variance.sqrt() + 0.1)
    return torch.cat([whole.clamp(-4, 4), local.clamp(-4, 4)], dim=1)


def _moving_average(films: Tensor) -> Tensor:
    margin = _LOCAL_WINDOW // 2
    rows = F.avg_pool2d(films, (_LOCAL_WINDOW, 1), 1, (margin, 0), count_include_pad=False)
    return F.avg_pool2d(rows, (1, _LOCAL_WINDOW), 1, (0, margin), count_include_pad=False)


class AnatomyNet(nn.Module):
    """U-Net over a stride-two stem, with a film head on its deepest features.

    Args:
        widths: channels at strides 2, 4, 8, 16 and 32.
    """

    def __init__(self, widths: tuple[int, ...] = (16, 32, 64, 96, 128)) -> None:
        super().__init__()
        self.widths = tuple(widths)
        self.stem = _ConvNorm(2, widths[0], kernel=5, stride=2)
        self.down = nn.ModuleList(
            _Stage(before, after) for before, after in zip((widths[0], *widths[:-1]), widths, strict=True)
        )
        self.up = nn.ModuleList(
            _Stage(below + beside, beside) for below, beside in zip(widths[:0:-1], widths[-2::-1], strict=True)
        )
        self.organs = nn.Conv2d(widths[0], 4 * len(ORGANS), 3, padding=1)
        self.film = nn.Sequential(nn.Linear(2 * widths[-1], 64), nn.SiLU(), nn.Linear(64, len(POSES) + 1))

    def forward(self, inputs: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Logits from `standardize`d films.

        Args:
            inputs: (B, 2, SIZE, SIZE).

        Returns:
            Organ logits (B, 3, SIZE, SIZE) in the order of `ORGANS`, pose logits (B, 5) in the order of `POSES`, and
            the logit of an inverted grey scale (B,).
        """
        features = self.stem(inputs)
        skips: list[Tensor] = []
        for level, stage in enumerate(self.down):
            features = stage(features if level == 0 else F.max_pool2d(features, 2))
            skips.append(features)
        deep = skips.pop()
        film = self.film(torch.cat([deep.mean(dim=(2, 3)), deep.amax(dim=(2, 3))], dim=1))
        features = deep
        for stage in self.up:
            beside = skips.pop()
            features = F.interpolate(features, scale_factor=2, mode="nearest")
            features = stage(torch.cat([features, beside], dim=1))
        organs = F.pixel_shuffle(self.organs(features), 2)
        return organs, film[:, :-1], film[:, -1]


class _ConvNorm(nn.Sequential):
    def __init__(self, before: int, after: int, kernel: int = 3, stride: int = 1) -> None:
        super().__init__(
            nn.Conv2d(before, after, kernel, stride, kernel // 2, bias=False),
            nn.BatchNorm2d(after),
            nn.SiLU(inplace=True),
        )


class _Stage(nn.Sequential):
    def __init__(self, before: int, after: int) -> None:
        super().__init__(_ConvNorm(before, after), _ConvNorm(after, after))
