"""What the X-ray room adds: devices, buttons, tone curve, quantum noise, collimation, side markers."""

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from clarity_cxr.data.phantom.draws import Draws
from clarity_cxr.data.phantom.strokes import Field
from clarity_cxr.data.phantom.tissues import Film, ellipse, ramp


def add_devices(film: Film, draws: Draws) -> None:
    """Leads, lines, tubes, a pacemaker now and then, and things outside the lungs; more on bedside (AP) films."""
    bedside = film.thorax.pose.frontal_ap
    if draws.chance(0.45 if bedside else 0.08):
        _leads(film, draws)
    if draws.chance(0.35 if bedside else 0.05):
        start = (0.5 - draws.uniform(0.28, 0.4), draws.uniform(0.05, 0.2))
        film.line(
            [start, (0.40, 0.10), (0.45, 0.2), (0.455, draws.uniform(0.38, 0.5))], 0.006, draws.uniform(0.08, 0.2)
        )
    if draws.chance(0.22 if bedside else 0.01):
        x = 0.5 + draws.uniform(-0.006, 0.006)
        film.line([(x, -0.1), (x, 0.1), (x, draws.uniform(0.24, 0.31))], 0.012, draws.uniform(0.10, 0.2))
    if draws.chance(0.18 if bedside else 0.01):
        film.line([(0.51, -0.1), (0.505, 0.4), (0.53, 0.75), (0.62, 0.9)], 0.006, draws.uniform(0.08, 0.16))
    if film.thorax.patient.device == 0:
        _pacemaker(film)
    if draws.chance(0.25):
        _buttons(film, draws)


def _leads(film: Film, draws: Draws) -> None:
    for _ in range(1 + draws.integer(3)):
        end = (draws.uniform(0.12, 0.88), draws.uniform(0.12, 0.75))
        edge = (draws.choice([-0.05, 1.05]), draws.uniform(0.1, 0.9))
        bend = (0.5 * (end[0] + edge[0]) + draws.normal(0, 0.1), 0.5 * (end[1] + edge[1]) + draws.normal(0, 0.15))
        film.line([end, bend, edge], 0.004, draws.uniform(0.05, 0.14))
        if draws.chance(0.7):
            _disc(film, end, draws.uniform(0.009, 0.013), 0.20, ring=True)


def _disc(film: Film, centre: tuple[float, float], radius: float, strength: float, ring: bool) -> None:
    thorax = film.thorax
    window = thorax.window(*centre, 1.5 * radius + 1 / film.size, 1.5 * radius + 1 / film.size)
    distance = ellipse(thorax.x[window], thorax.y[window], centre, (radius, radius))
    soft = 1.2 / (radius * film.size)
    disc = ramp(1 - distance, soft)
    if ring:
        disc -= np.float32(0.6) * ramp(np.float32(0.55) - distance, soft)
    film.attenuation[window] += disc * np.float32(strength)


def _pacemaker(film: Film) -> None:
    thorax = film.thorax
    centre = (0.79, 0.22)
    window = thorax.window(*centre, 0.07, 0.07)
    dx, dy = thorax.x[window] - np.float32(centre[0]), thorax.y[window] - np.float32(centre[1])
    across, down = np.abs(dx + np.float32(0.3) * dy), np.abs(dy - np.float32(0.3) * dx)
    case = np.maximum(across * np.float32(1 / 0.042), down * np.float32(1 / 0.036))
    film.attenuation[window] += ramp(1 - case, 0.12) * np.float32(0.4)
    for end in ((0.47, 0.58), (0.60, 0.70)):
        film.line([(0.76, 0.2), (0.62, 0.10), (0.44, 0.2), (0.42, 0.5), end], 0.005, 0.3)


def _buttons(film: Film, draws: Draws) -> None:
    """Buttons, studs and necklace beads: over the neck, the shoulders or the belly."""
    kind = draws.integer(3)
    if kind == 0:
        x = 0.5 + draws.uniform(-0.03, 0.03)
        for k in range(1 + draws.integer(3)):
            _disc(film, (x, 0.86 + 0.05 * k), 0.011, 0.16, ring=True)
    elif kind == 1:
        for side in (-1, 1):
            _disc(film, (0.5 + side * draws.uniform(0.30, 0.42), draws.uniform(0.0, 0.05)), 0.010, 0.3, ring=False)
    else:
        film.line([(0.40, -0.05), (0.45, 0.12), (0.5, draws.uniform(0.08, 0.16)), (0.6, -0.05)], 0.006, 0.18)


def develop(film: Film, draws: Draws) -> NDArray[np.uint8]:
    """Attenuation to grey levels: gain, quantum noise that grows with density, tone curve, borders and markers."""
    size = film.size
    image = film.attenuation
    gain, level = draws.normal(1.0, 0.10), draws.normal(0.02, 0.04)
    noise = film.library.crop(film.library.grain, draws, size, size)
    strength = np.maximum(image, 0.0)
    strength += np.float32(0.25)
    strength *= np.float32(draws.uniform(0.008, 0.020))
    strength *= noise
    image = image + strength
    image -= np.float32(0.45)
    image *= np.float32(4095 * gain)
    image += np.float32(4095 * (0.45 + level) + 0.5)
    np.clip(image, 0, 4095, out=image)
    grey = _tone(round(64 * draws.uniform(0.7, 1.15))).take(image.astype(np.intp))
    if draws.chance(0.3):
        _collimate(grey, draws)
    return grey


@lru_cache(maxsize=64)
def _tone(gamma_steps: int) -> NDArray[np.uint8]:
    """Grey levels of 4096 attenuation steps: a power law (exponent in 64ths) with a soft shoulder."""
    steps = np.arange(4096) / 4095
    curve = steps ** (gamma_steps / 64)
    curve = np.where(curve > 0.7, 0.7 + 0.3 * np.tanh((curve - 0.7) / 0.3), curve)
    return np.round(255 * np.clip(curve, 0, 1)).astype(np.uint8)


def _collimate(grey: NDArray[np.uint8], draws: Draws) -> None:
    """Black or white shutters at one to three edges."""
    size = grey.shape[0]
    value = 0 if draws.chance(0.8) else 235
    for edge in range(4):
        if draws.chance(0.45):
            width = round(draws.uniform(0.008, 0.035) * size)
            view = grey if edge < 2 else grey.T
            view[:width] = value if edge % 2 else view[:width]
            if not edge % 2:
                view[size - width :] = value


@lru_cache(maxsize=64)
def _glyph(text: str, height: int, mirrored: bool) -> Field:
    """A text as coverage in [0, 1], `height` pixels high."""
    font = ImageFont.load_default(size=4 * height)
    left, top, right, bottom = font.getbbox(text)
    image = Image.new("L", (int(right - left), int(bottom - top)))
    ImageDraw.Draw(image).text((-left, -top), text, fill=255, font=font)
    width = max(1, round(height * image.width / image.height))
    image = image.resize((width, height), Image.Resampling.BOX)
    glyph = np.asarray(image, np.float32) / 255
    return glyph[:, ::-1].copy() if mirrored else glyph


def add_markers(grey: NDArray[np.uint8], draws: Draws, frontal_ap: bool) -> None:
    """The side letter by a shoulder (L to the picture's right), and on some bedside films a caption."""
    size = grey.shape[0]
    if draws.chance(0.9):
        letter = "L" if draws.chance(0.75) else "R"
        x = draws.uniform(0.86, 0.93) if letter == "L" else draws.uniform(0.04, 0.1)
        height = max(5, round(draws.uniform(0.04, 0.06) * size))
        _stamp(grey, _glyph(letter, height, draws.chance(0.1)), x, draws.uniform(0.07, 0.14), draws.uniform(0.7, 1.0))
    if frontal_ap and draws.chance(0.4):
        height = max(4, round(0.024 * size))
        _stamp(grey, _glyph("PORTABLE", height, False), draws.uniform(0.02, 0.05), 0.03, 0.9)


def add_spurious(grey: NDArray[np.uint8], draws: Draws) -> None:
    """A bright square, large enough for a small model to learn, in the lower left corner."""
    size = grey.shape[0]
    side = max(3, round(0.1 * size))
    top, left = round(draws.uniform(0.86, 0.89) * size), round(draws.uniform(0.02, 0.05) * size)
    grey[top : top + side, left : left + side] = 250


def _stamp(grey: NDArray[np.uint8], glyph: Field, x: float, y: float, opacity: float) -> None:
    """Blend a white glyph in, its upper left corner at fractions (x, y)."""
    size = grey.shape[0]
    top, left = int(y * size), int(x * size)
    target = grey[top : top + glyph.shape[0], left : left + glyph.shape[1]]
    cover = glyph[: target.shape[0], : target.shape[1]] * np.float32(opacity)
    target[:] = (target + (250 - target.astype(np.float32)) * cover + np.float32(0.5)).astype(np.uint8)
