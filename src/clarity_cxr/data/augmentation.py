"""Stateless augmentation of films and priors: rotation and crop, brightness, Poisson noise.

Every draw is a counter-based hash of (run seed, film key, epoch, stream), computed in integers on the films'
device. No generator state exists, so a film gets the same pixels in any batch, order, process and worker, and
on any device to 1e-5. Two things make the last part hold:

- sampling positions are rounded to 2^-10 pixel, on a canvas whose side is a power of two, so that the
  bilinear weights come out exactly equal everywhere (and augmented priors bit for bit);
- the Poisson noise is a smooth function of the pixel's value and of one normal variate, so that a rounding
  difference in the value cannot flip a count.
"""

import dataclasses
import hashlib
import json
import math

import torch
import torch.nn.functional as F
from torch import Tensor

from clarity_cxr.errors import ConfigError

_VERSION = 1
"""To be raised when the same config would give other pixels."""

_MASK64 = (1 << 64) - 1
_GOLDEN64 = 0x9E3779B97F4A7C15
_ANGLE, _SIDE, _SHIFT_X, _SHIFT_Y, _BRIGHTNESS, _PEAK, _NOISE = range(7)
_POSITION_STEPS = 2.0**10
"""Sampling positions per pixel."""


@dataclasses.dataclass(frozen=True)
class AugmentationConfig:
    """Magnitudes of the augmentation; each draw is uniform in its range.

    Args:
        rotation_degrees: rotation about the film's centre in [-r, r] degrees.
        crop_scale: side of the square crop as a fraction of the film's side, lowest and highest.
        brightness: intensities are multiplied by a factor in [1 - b, 1 + b].
        poisson_peak: counts at full intensity, lowest and highest: fewer counts, more noise. (0, 0) is none.

    Raises:
        ConfigError: a magnitude is out of its range.
    """

    rotation_degrees: float = 10.0
    crop_scale: tuple[float, float] = (0.8, 1.0)
    brightness: float = 0.2
    poisson_peak: tuple[float, float] = (255.0, 1023.0)

    def __post_init__(self) -> None:
        """Check every range."""
        crop_low, crop_high = self.crop_scale
        peak_low, peak_high = self.poisson_peak
        checks = {
            f"rotation_degrees is {self.rotation_degrees}, expected 0 to 180": 0 <= self.rotation_degrees <= 180,
            f"crop_scale is {self.crop_scale}, expected 0 < low <= high <= 1": 0 < crop_low <= crop_high <= 1,
            f"brightness is {self.brightness}, expected 0 <= b < 1": 0 <= self.brightness < 1,
            f"poisson_peak is {self.poisson_peak}, expected 1 <= low <= high, or (0, 0) for no noise": (
                1 <= peak_low <= peak_high < math.inf or peak_low == peak_high == 0
            ),
        }
        mistakes = [message for message, holds in checks.items() if not holds]
        if mistakes:
            raise ConfigError("augmentation: " + "; ".join(mistakes))

    def digest(self) -> str:
        """Name of the function from (seed, key, epoch) and film to pixels.

        Returns:
            16 hexadecimal digits that change with any magnitude or with the algorithm.
        """
        fields = json.dumps({"version": _VERSION} | dataclasses.asdict(self), sort_keys=True)
        return hashlib.blake2b(fields.encode(), digest_size=8).hexdigest()


@torch.no_grad()
def augment(
    films: Tensor,
    keys: Tensor,
    epoch: int,
    seed: int,
    config: AugmentationConfig,
    priors: Tensor | None = None,
    prior_size: int | None = None,
) -> tuple[Tensor, Tensor | None]:
    """Augmented films, and their priors under the same rotation and crop.

    Rotation and crop are one bilinear resampling (films repeat their border outwards, priors are empty
    outside), then come brightness and Poisson noise, each clamped to [0, 1].

    Args:
        films: (B, S, S) uint8, or (B, 1, S, S) float in [0, 1].
        keys: (B,) int64, one per film; films with one key get the same draws.
        epoch: any integer.
        seed: the run's seed, any integer.
        config: magnitudes.
        priors: (B, R, h, h) bool, or None.
        prior_size: side g at which priors are sampled; None is h. Without rotation and crop they stay as they are.

    Returns:
        Films (B, 1, S, S) float32 in [0, 1], and priors (B, R, g, g) bool (True where resampled to >= 0.5).

    Raises:
        ValueError: films are of another shape or type.
    """
    size = films.shape[-1]
    batched = films.dim() == 3 if films.dtype == torch.uint8 else films.dim() == 4 and films.shape[1] == 1
    if not batched or films.shape[-2] != size or not (films.dtype == torch.uint8 or films.is_floating_point()):
        raise ValueError(
            f"expected films (B, S, S) uint8 or (B, 1, S, S) float, got {tuple(films.shape)} {films.dtype}"
        )
    return augment_by_state(films, film_states(keys.to(films.device), epoch, seed), config, priors, prior_size)


@torch.no_grad()
def augment_by_state(
    films: Tensor,
    states: Tensor,
    config: AugmentationConfig,
    priors: Tensor | None = None,
    prior_size: int | None = None,
) -> tuple[Tensor, Tensor | None]:
    """`augment` with the draws' (B,) int64 `film_states` made beforehand: no argument changes with the epoch."""
    size = films.shape[-1]
    white = 255.0 if films.dtype == torch.uint8 else 1.0
    uniforms = stream_uniforms(states)
    values = films.reshape(-1, 1, size, size).float()
    if config.rotation_degrees or config.crop_scale != (1.0, 1.0):
        transform = _affine(uniforms, config)
        values = _resample(values, transform, size, border=True)
        if priors is not None:
            pixels = priors.view(torch.uint8).float()  # from bool, a CPU takes ten times as long
            priors = _resample(pixels, transform, prior_size or priors.shape[-1], border=False) >= 0.5
    factor = 1 + config.brightness * (2 * uniforms[:, _BRIGHTNESS] - 1)
    values = values.div((white / factor).float()[:, None, None, None]).clamp_(0, 1)
    if config.poisson_peak[1]:
        peak = _between(uniforms[:, _PEAK], config.poisson_peak).float()
        noise = pixel_normals(_mix64(states + _signed(_NOISE * _GOLDEN64)), size * size)
        values = poisson_noise(values.flatten(1), noise, peak[:, None]).view_as(values)
    return values, priors


def film_states(keys: Tensor, epoch: int, seed: int) -> Tensor:
    """64-bit hash of (seed, epoch, key).

    Args:
        keys: (B,) int64.
        epoch: any integer.
        seed: any integer.

    Returns:
        (B,) int64.
    """
    run = _mix64_int(_mix64_int(seed & _MASK64) + _GOLDEN64 * (epoch + 1))
    return _mix64(keys + _signed(run))


def stream_uniforms(states: Tensor) -> Tensor:
    """Uniform variates of every stream but the pixels', 24 bits each.

    Args:
        states: (B,) int64 of `film_states`.

    Returns:
        (B, 6) float64 in (0, 1).
    """
    streams = torch.arange(_NOISE, device=states.device) * _signed(_GOLDEN64)
    bits = (_mix64(states[:, None] + streams) >> 40) & 0xFFFFFF
    return (bits.double() + 0.5) * 2.0**-24


def pixel_normals(states: Tensor, pixels: int) -> Tensor:
    """Standard normal variates, one per pixel, by Box-Muller from a 32-bit counter hash.

    Args:
        states: (B,) int64 hash, one per film.
        pixels: number of variates per film.

    Returns:
        (B, pixels) float32.
    """
    pairs = (pixels + 1) // 2
    low = (states & 0xFFFFFFFF).to(torch.int32)
    high = (states >> 32).to(torch.int32)
    counters = torch.arange(2 * pairs, device=states.device, dtype=torch.int32)
    bits = _mix32(_mix32(counters) ^ low[:, None], high[:, None])
    bits.bitwise_right_shift_(8).bitwise_and_(0xFFFFFF)
    radius = bits[:, :pairs].float().add_(1).mul_(2.0**-24).log_().mul_(-2).sqrt_()
    angle = bits[:, pairs:].float().mul_(2 * math.pi * 2.0**-24)
    normals = torch.empty(len(states), 2 * pairs, device=states.device)
    torch.mul(radius, angle.cos(), out=normals[:, :pairs])
    torch.mul(radius, angle.sin_(), out=normals[:, pairs:])
    return normals[:, :pixels]


def poisson_noise(intensities: Tensor, normals: Tensor, peak: Tensor) -> Tensor:
    """Intensities with photon noise, a smooth function of intensity and normal variate.

    With m = intensity * peak expected counts and z normal, the counts are
    m (1 + z / sqrt(m + 1/18) + (z^2 - 1) / (6 m + 1/4)): for large m the Cornish-Fisher expansion of the
    Poisson distribution to its skewness, with smooth denominators so that zero counts stay zero. Against the
    Poisson distribution, the mean is within 0.07 counts for every m, 0.02 from m = 2 and 0.002 from m = 5; the
    variance within 16 % at m = 0.5, 4 % at m = 2 and 0.3 % from m = 5.

    Args:
        intensities: (B, n) float32 in [0, 1].
        normals: (B, n) standard normal variates.
        peak: (B, 1) counts at intensity 1.

    Returns:
        (B, n) in [0, 1].
    """
    mean = intensities * peak
    gaussian = (mean + 1 / 18).rsqrt_().mul_(normals)
    skew = (normals * normals).sub_(1).div_(mean.mul_(6).add_(0.25))
    return gaussian.add_(skew).add_(1).mul_(intensities).clamp_(0, 1)


def _affine(uniforms: Tensor, config: AugmentationConfig) -> Tensor:
    """(B, 2, 3) float64 map from output to input positions, both in film sides from the centre."""
    angle = (2 * uniforms[:, _ANGLE] - 1) * math.radians(config.rotation_degrees)
    side = _between(uniforms[:, _SIDE], config.crop_scale)
    shift_x = (uniforms[:, _SHIFT_X] - 0.5) * (1 - side)
    shift_y = (uniforms[:, _SHIFT_Y] - 0.5) * (1 - side)
    cos, sin = angle.cos(), angle.sin()
    across = torch.stack((cos * side, -sin * side, cos * shift_x - sin * shift_y), dim=1)
    down = torch.stack((sin * side, cos * side, sin * shift_x + cos * shift_y), dim=1)
    return torch.stack((across, down), dim=1)


def _resample(images: Tensor, transform: Tensor, side: int, *, border: bool) -> Tensor:
    """Bilinear sampling of (B, K, S, S) at the transformed pixel centres of a (side, side) grid over the same film."""
    size = images.shape[-1]
    canvas = 1 << (size - 1).bit_length()
    centres = (torch.arange(side, device=images.device, dtype=torch.float64) - (side - 1) / 2) * (size / side)
    # Multiples of 2^-10 pixel, so that their sum, and all that grid_sample does with it, is exact.
    terms = (transform[:, :, :2, None] * centres * _POSITION_STEPS).round_() / _POSITION_STEPS
    start = (transform[:, :, 2] * size * _POSITION_STEPS).round_() / _POSITION_STEPS + (size - 1) / 2
    terms[:, :, 0] += start[:, :, None]
    # Pixel position to grid_sample's coordinate on the canvas: (2 i + 1) / canvas - 1.
    terms *= 2 / canvas
    terms[:, :, 0] += 1 / canvas - 1
    # One complex number per position (x + iy) makes the outer sum of both coordinates a single fast pass.
    along_x, along_y = torch.complex(*terms.float().unbind(1)).unbind(1)
    grid = torch.view_as_real(along_x[:, None, :] + along_y[:, :, None])
    if border:
        grid.clamp_(1 / canvas - 1, (2 * size - 1) / canvas - 1)
    images = F.pad(images, (0, canvas - size, 0, canvas - size))
    return F.grid_sample(images, grid, mode="bilinear", padding_mode="zeros", align_corners=False)


def _between(uniforms: Tensor, bounds: tuple[float, float]) -> Tensor:
    low, high = bounds
    return low + (high - low) * uniforms


def _signed(value: int) -> int:
    """The int64 with the low 64 bits of `value`."""
    return (value + (1 << 63)) % (1 << 64) - (1 << 63)


def _mix64_int(value: int) -> int:
    """SplitMix64's finaliser on a Python integer, unsigned."""
    value &= _MASK64
    value = ((value ^ (value >> 30)) * 0xBF58476D1CE4E5B9) & _MASK64
    value = ((value ^ (value >> 27)) * 0x94D049BB133111EB) & _MASK64
    return value ^ (value >> 31)


def _mix64(values: Tensor) -> Tensor:
    """SplitMix64's finaliser (Steele et al., 2014) on int64; the masks make the shifts logical."""
    values = (values ^ ((values >> 30) & ((1 << 34) - 1))) * _signed(0xBF58476D1CE4E5B9)
    values = (values ^ ((values >> 27) & ((1 << 37) - 1))) * _signed(0x94D049BB133111EB)
    return values ^ ((values >> 31) & ((1 << 33) - 1))


def _mix32(values: Tensor, salt: Tensor | int = 0) -> Tensor:
    """Wellons' `lowbias32` on int32 with a salt added half-way; its top 24 bits are used."""
    values = values ^ ((values >> 16) & 0xFFFF)
    values.mul_(0x7FEB352D)
    values.add_(salt)
    values.bitwise_xor_((values >> 15).bitwise_and_(0x1FFFF))
    return values.mul_(_signed32(0x846CA68B))


def _signed32(value: int) -> int:
    return value - (1 << 32) if value >= 1 << 31 else value
