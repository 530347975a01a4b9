"""Painters of the 14 findings: what each adds to a film, and the exact region where it can be seen.

A painter takes the film, the patient's own draws for this finding (where it sits: the same in every follow-up) and a
`vigour` near 1 that differs from film to film, and returns the boxes of what it painted.
"""

from collections.abc import Callable

import numpy as np

from clarity_cxr.data.phantom.anatomy import LEFT, RIGHT, Changes
from clarity_cxr.data.phantom.draws import Draws
from clarity_cxr.data.phantom.strokes import Field
from clarity_cxr.data.phantom.tissues import Film, bump, ellipse, ramp

Box = tuple[float, float, float, float]
Window = tuple[slice, slice]
Painter = Callable[[Film, Draws, float], list[Box]]

SUPPORT = 0.3
"""A pixel belongs to a lesion's box where the lesion adds more than this share of its greatest contribution."""


def support_box(film: Film, window: Window, contribution: Field, share: float = SUPPORT) -> list[Box]:
    """The box (x0, y0, x1, y1 as fractions of the film) of what was painted into a window; empty if nothing was."""
    size = np.abs(contribution)
    peak = float(size.max(initial=0.0))
    if peak < 0.01:
        return []
    region = size > share * peak
    rows, columns = np.flatnonzero(region.any(1)), np.flatnonzero(region.any(0))
    top, left = window[0].start, window[1].start
    side = film.size
    return [
        (
            (left + columns[0]) / side,
            (top + rows[0]) / side,
            (left + columns[-1] + 1) / side,
            (top + rows[-1] + 1) / side,
        )
    ]


def _patch(film: Film, x: float, y: float, reach_x: float, reach_y: float) -> tuple[Window, Field, Field, Field]:
    """A window around a place, with its x, y and lung depth."""
    window = film.thorax.window(x, y, reach_x, reach_y)
    return window, film.thorax.x[window], film.thorax.y[window], film.depth[window]


def _side(draws: Draws) -> int:
    return RIGHT if draws.chance(0.55) else LEFT


def _texture(film: Film, draws: Draws, fields: Field, shape: tuple[int, ...]) -> Field:
    return film.library.crop(fields, draws, shape[0], shape[1])


def _veil(film: Film, window: Window, cover: Field, strength: float, rise: float) -> list[Box]:
    film.veil(window, cover * np.float32(min(strength, 1.0)), rise)
    return support_box(film, window, cover * (film.thorax.inside[window] > 0))


def _add(film: Film, window: Window, contribution: Field, share: float = SUPPORT) -> list[Box]:
    film.attenuation[window] += contribution
    return support_box(film, window, contribution, share)


def atelectasis(film: Film, draws: Draws, vigour: float) -> list[Box]:
    """Basal plates (one to three parallel bands), or a sharp-edged wedge at the mediastinum with a raised dome."""
    side = int(film.thorax.changes.raised[LEFT] > 0)
    return (_plates if draws.chance(0.65) else _wedge)(film, draws, side, vigour)


def _plates(film: Film, draws: Draws, side: int, vigour: float) -> list[Box]:
    x, y = film.thorax.at(side, draws.uniform(0.35, 0.62), draws.uniform(0.68, 0.92))
    slope = draws.uniform(-0.4, 0.2) * (1 if side == LEFT else -1)
    length, count = draws.uniform(0.085, 0.13), 1 + draws.integer(3)
    thickness = draws.uniform(0.009, 0.016)
    window, px, py, depth = _patch(film, x, y, length + 0.01, 0.03 * count + 0.05)
    total = np.zeros_like(px)
    for k in range(count):
        offset = (k - (count - 1) / 2) * draws.uniform(0.036, 0.05)
        along = px - np.float32(x + draws.uniform(-0.025, 0.025))
        across = py - np.float32(y + offset) - along * np.float32(slope) + along * along * np.float32(1.2)
        half = max(0.007, 0.7 / film.size)
        band = ramp(np.float32(thickness) - np.abs(across), 2 * half)
        band *= ramp(np.float32(length * draws.uniform(0.7, 1.0)) - np.abs(along), 0.05)
        np.maximum(total, band, out=total)
    total *= depth * np.float32(0.38 * vigour)
    return _add(film, window, total)


def _wedge(film: Film, draws: Draws, side: int, vigour: float) -> list[Box]:
    x, y = film.thorax.at(side, draws.uniform(0.02, 0.1), draws.uniform(0.82, 0.93))
    out = np.float32(1.0 if side == LEFT else -1.0)
    tall, wide = draws.uniform(0.14, 0.20), draws.uniform(0.14, 0.20)
    window, px, py, _ = _patch(film, x, y - tall / 2 + 0.06, wide + 0.02, tall)
    rise = (np.float32(y + 0.1) - py) * np.float32(1 / (tall + 0.1))
    reach = np.float32(wide) * (1 - np.clip(rise, 0, 1))
    wedge = ramp(reach - (px - np.float32(x)) * out, 0.03)
    wedge *= ramp(1 - rise, 0.1)
    wedge *= ramp(film.thorax.inside[window] + np.float32(0.01), 0.01)
    wedge *= film.thorax.side[window] == side
    return _veil(film, window, wedge, 0.9 * min(vigour, 1.1), 0.12)


def cardiomegaly(film: Film, draws: Draws, vigour: float) -> list[Box]:
    """The heart is wide already (see `change_outlines`): only its box is left to give."""
    everything = (slice(0, film.size), slice(0, film.size))
    return support_box(film, everything, film.thorax.masks()[1].astype(np.float32))


def consolidation(film: Film, draws: Draws, vigour: float) -> list[Box]:
    """A dense lobar patch: sharp along a fissure, fuzzy elsewhere, with a few dark bronchi inside."""
    side = _side(draws)
    upper = draws.chance(0.45)
    height = draws.uniform(0.2, 0.36) if upper else draws.uniform(0.62, 0.82)
    x, y = film.thorax.at(side, draws.uniform(0.42, 0.62), height)
    radii = (draws.uniform(0.10, 0.145), draws.uniform(0.11, 0.16))
    window, px, py, _ = _patch(film, x, y, 1.4 * max(radii), 1.4 * max(radii))
    distance = ellipse(px, py, (x, y), radii)
    distance += _texture(film, draws, film.library.coarse, px.shape) * np.float32(0.2)
    dense = ramp(np.float32(0.9) - distance, 0.7)
    tilt = draws.uniform(-0.15, 0.35) * (1 if side == LEFT else -1)
    fissure = y + (0.5 if upper else -0.5) * radii[1]
    edge = (py - np.float32(fissure) - (px - np.float32(x)) * np.float32(tilt)) * np.float32(-1 if upper else 1)
    dense *= ramp(edge, max(0.012, 1.2 / film.size))
    dense *= np.float32(0.9) + np.float32(0.07) * _texture(film, draws, film.library.patchy, px.shape)
    dense *= ramp(film.thorax.inside[window] + np.float32(0.006), 0.012)
    return _veil(film, window, dense, 0.9 * min(vigour, 1.1), 0.07)


def edema(film: Film, draws: Draws, vigour: float) -> list[Box]:
    """Bat-wing haze around both hila, and short horizontal lines at the lateral bases."""
    thorax = film.thorax
    everything = (slice(0, film.size), slice(0, film.size))
    reach = draws.uniform(0.15, 0.20)
    across = (thorax.r - np.float32(0.07)) * np.float32(1 / reach)
    height = (thorax.y - np.float32(0.46)) * np.float32(1 / draws.uniform(0.19, 0.25))
    wings = across * across
    wings += height * height
    haze = ramp(1 - wings, 1.1)
    haze *= 1 + np.float32(0.14) * film.library.crop(film.library.coarse, draws, film.size, film.size)
    phase = thorax.y * np.float32(1 / 0.026)
    phase -= np.floor(phase)
    lines = ramp(np.float32(0.13) - np.abs(phase - np.float32(0.5)), 0.3)
    lines *= bump(thorax.outer - np.float32(0.012), 0.022)
    lines *= bump(thorax.y - np.float32(thorax.base - 0.13), 0.07)
    haze *= np.float32(0.25 * vigour)
    haze += lines * np.float32(0.14 * vigour)
    haze *= film.depth
    film.attenuation += haze
    boxes: list[Box] = []
    for side in (RIGHT, LEFT):
        boxes += support_box(film, everything, np.where(thorax.side == side, haze, np.float32(0)), 0.4)
    return boxes


def effusion(film: Film, draws: Draws, vigour: float) -> list[Box]:
    """Fluid in the costophrenic angle with a meniscus, on one side or both; from a blunted angle to half a lung."""
    sides = (RIGHT, LEFT) if draws.chance(0.28) else (_side(draws),)
    boxes: list[Box] = []
    thorax = film.thorax
    for side in sides:
        large = draws.chance(0.3)
        level = (draws.uniform(0.20, 0.34) if large else draws.uniform(0.07, 0.17)) * (0.8 + 0.2 * vigour)
        x = 0.5 + (0.2 if side == LEFT else -0.2)
        window = thorax.window(x, thorax.base - 0.24, 0.3, 0.34)
        r, y, outer = thorax.r[window], thorax.y[window], thorax.outer[window]
        curve = np.exp(-np.maximum(outer, 0.0) * np.float32(1 / 0.055))
        surface = np.float32(thorax.base - level + 0.02) - np.float32(0.085) * curve
        fluid = ramp(y - surface, 0.03)
        fluid *= ramp(outer + np.float32(0.004), 0.012)
        fluid *= ramp(thorax.above[window] + np.float32(0.012), 0.012)
        fluid *= ramp(r - np.float32(0.03), 0.02)
        fluid *= thorax.side[window] == side
        boxes += _veil(film, window, fluid, 0.80 + 0.17 * min(vigour, 1.0), 0.0)
    return boxes


def emphysema(film: Film, draws: Draws, vigour: float) -> list[Box]:
    """Large dark lungs come from the outlines; here only the upper bullae."""
    thorax = film.thorax
    for _ in range(draws.integer(3)):
        side = draws.integer(2)
        x, y = thorax.at(side, draws.uniform(0.3, 0.8), draws.uniform(0.08, 0.45))
        radius = draws.uniform(0.03, 0.06)
        window, px, py, depth = _patch(film, x, y, 1.3 * radius, 1.3 * radius)
        distance = ellipse(px, py, (x, y), (radius, radius * 1.2))
        bulla = bump(distance - 1, 0.12) * np.float32(0.035) - ramp(1 - distance, 0.4) * np.float32(0.05)
        film.attenuation[window] += bulla * depth
    boxes: list[Box] = []
    everything = (slice(0, film.size), slice(0, film.size))
    lungs = thorax.inside > 0
    for side in (RIGHT, LEFT):
        boxes += support_box(film, everything, (lungs & (thorax.side == side)).astype(np.float32))
    return boxes


def fibrosis(film: Film, draws: Draws, vigour: float) -> list[Box]:
    """A net of fine lines at both bases and along the chest wall."""
    thorax = film.thorax
    rows, columns = thorax.window(0.5, thorax.base - 0.22, 0.45, 0.29)
    window = (rows, columns)
    y, outer = thorax.y[window], thorax.outer[window]
    place = ramp(y - np.float32(thorax.base - draws.uniform(0.2, 0.34)), 0.22)
    place *= np.float32(0.35) + np.float32(0.65) * ramp(np.float32(0.11) - outer, 0.12)
    place *= ramp(thorax.above[window] - np.float32(0.004), 0.01)
    place *= film.depth[window]
    mesh = _texture(film, draws, film.library.network, y.shape) + np.float32(0.14)
    lines = mesh * place
    lines *= np.float32(0.27 * vigour)
    film.attenuation[window] += lines
    boxes: list[Box] = []
    for side in (RIGHT, LEFT):
        boxes += support_box(film, window, np.where(thorax.side[window] == side, place, np.float32(0)), 0.4)
    return boxes


def hernia(film: Film, draws: Draws, vigour: float) -> list[Box]:
    """A round shadow behind the heart, just above the diaphragm, mostly with gas over a fluid level."""
    thorax = film.thorax
    x = 0.5 + draws.uniform(-0.01, 0.06)
    radius = draws.uniform(0.07, 0.11)
    y = thorax.base - thorax.patient.dome_height * 0.75 - radius * draws.uniform(0.5, 0.85)
    radii = (radius, radius * draws.uniform(0.8, 1.0))
    window, px, py, _ = _patch(film, x, y, 1.15 * radii[0], 1.15 * radii[1])
    distance = ellipse(px, py, (x, y), radii)
    distance += _texture(film, draws, film.library.coarse, px.shape) * np.float32(0.04)
    sac = ramp(1 - distance, 0.2) * np.float32(0.13 * vigour)
    seen = sac.copy()
    if draws.chance(0.9):
        gas = ramp(np.float32(0.80) - distance, 0.2)
        gas *= ramp(np.float32(y + draws.uniform(-0.02, 0.02)) - py, max(0.012, 1.2 / film.size))
        sac -= gas * np.float32(0.38 * vigour)
    film.attenuation[window] += sac
    return support_box(film, window, seen)


def infiltration(film: Film, draws: Draws, vigour: float) -> list[Box]:
    """One or two ill-defined hazy patches, faint and uneven."""
    boxes: list[Box] = []
    side = _side(draws)
    for k in range(1 + (draws.unit() < 0.6)):
        at = side if k == 0 else 1 - side
        x, y = film.thorax.at(at, draws.uniform(0.25, 0.6), draws.uniform(0.42, 0.85))
        radii = (draws.uniform(0.09, 0.15), draws.uniform(0.11, 0.18))
        window, px, py, depth = _patch(film, x, y, 1.4 * max(radii), 1.4 * max(radii))
        distance = ellipse(px, py, (x, y), radii, draws.uniform(-0.6, 0.6))
        haze = bump(distance, 0.62)
        haze *= np.float32(0.9) + np.float32(0.3) * _texture(film, draws, film.library.coarse, px.shape)
        np.maximum(haze, 0.0, out=haze)
        haze *= depth * np.float32(0.21 * vigour)
        boxes += _add(film, window, haze, 0.25)
    return boxes


def _round_lesion(film: Film, draws: Draws, vigour: float, radius: float, lobes: float) -> list[Box]:
    side = _side(draws)
    x, y = film.thorax.at(side, draws.uniform(0.22, 0.82), draws.uniform(0.14, 0.92))
    radii = (radius * draws.uniform(0.88, 1.12), radius * draws.uniform(0.88, 1.12))
    window, px, py, depth = _patch(film, x, y, 1.4 * max(radii), 1.4 * max(radii))
    distance = ellipse(px, py, (x, y), radii, draws.uniform(0, 3))
    if lobes:
        distance += _texture(film, draws, film.library.coarse, px.shape) * np.float32(lobes)
    ball = ramp(1 - distance, max(0.25, 1.2 / (radius * film.size)))
    ball *= np.float32(0.7) + np.float32(0.3) * np.sqrt(np.maximum(1 - distance, 0.0))
    ball *= np.maximum(depth, np.float32(0.35))
    ball *= np.float32(0.45 * vigour)
    return _add(film, window, ball)


def mass(film: Film, draws: Draws, vigour: float) -> list[Box]:
    """A round opacity more than 3 cm across (8 % of the film's side), slightly lobed."""
    return _round_lesion(film, draws, vigour, draws.uniform(0.05, 0.09), 0.07)


def nodule(film: Film, draws: Draws, vigour: float) -> list[Box]:
    """One to three round opacities less than 3 cm across."""
    boxes: list[Box] = []
    for _ in range(1 + int(draws.unit() ** 2 * 3)):
        boxes += _round_lesion(film, draws, vigour, draws.uniform(0.022, 0.037), 0.0)
    return boxes


def pleural_thickening(film: Film, draws: Draws, vigour: float) -> list[Box]:
    """A band along the lateral chest wall or over an apex, sharp towards the lung."""
    thorax = film.thorax
    side = _side(draws)
    sign = 1 if side == LEFT else -1
    apical = draws.chance(0.3)
    thick, half, middle = draws.uniform(0.03, 0.052), draws.uniform(0.13, 0.22), draws.uniform(0.42, 0.62)
    if apical:
        window = thorax.window(0.5 + sign * 0.19, thorax.apex + 0.06, 0.18, 0.10)
        wall = np.minimum(thorax.outer[window], (thorax.y[window] - np.float32(thorax.apex + 0.004)) * np.float32(0.75))
        lower = np.float32(thorax.apex + 0.11) - thorax.y[window]
        thickness = np.float32(thick) * ramp(lower, 0.06)
    else:
        window = thorax.window(0.5 + sign * 0.3, middle, 0.14, half + 0.03)
        wall = thorax.outer[window]
        thickness = np.float32(thick) * ramp(np.float32(half) - np.abs(thorax.y[window] - np.float32(middle)), 0.1)
    wave = _texture(film, draws, film.library.coarse, wall.shape)
    thickness *= 1 + np.float32(0.22) * wave
    band = ramp(thickness - wall, 0.012)
    band *= ramp(thickness - np.float32(0.004), 0.006)
    band *= thorax.side[window] == side
    band *= ramp(thorax.inside[window], 0.01)
    band *= np.float32(0.32 * vigour)
    return _add(film, window, band)


def pneumonia(film: Film, draws: Draws, vigour: float) -> list[Box]:
    """A focal patch made of confluent fluffy spots, mostly in a lower lobe."""
    side = _side(draws)
    x, y = film.thorax.at(side, draws.uniform(0.3, 0.68), draws.uniform(0.55, 0.86) if draws.chance(0.75) else 0.3)
    radii = (draws.uniform(0.075, 0.11), draws.uniform(0.075, 0.12))
    window, px, py, depth = _patch(film, x, y, 1.4 * max(radii), 1.4 * max(radii))
    distance = ellipse(px, py, (x, y), radii, draws.uniform(-0.6, 0.6))
    spots = _texture(film, draws, film.library.patchy, px.shape)
    distance += spots * np.float32(0.10)
    patch = ramp(np.float32(0.92) - distance, 0.6)
    patch *= np.float32(0.72) + np.float32(0.40) * np.clip(spots, -1.3, 1.3)
    patch *= depth * np.float32(0.32 * vigour)
    return _add(film, window, patch, 0.25)


def pneumothorax(film: Film, draws: Draws, vigour: float) -> list[Box]:
    """A dark apical and lateral space without vessels, behind a thin bright pleural line."""
    thorax = film.thorax
    side = _side(draws)
    gap, lower = draws.uniform(0.045, 0.11), draws.uniform(0.55, 0.95)
    window = thorax.window(0.5 + (0.22 if side == LEFT else -0.22), 0.42, 0.26, 0.42)
    y, outer = thorax.y[window], thorax.outer[window]
    down = np.clip((y - np.float32(thorax.apex)) * np.float32(1 / (lower * (thorax.base - thorax.apex))), 0.0, 1.0)
    width = np.float32(gap) * np.sqrt(1 - down * down)
    top = (y - np.float32(thorax.apex)) * np.float32(0.8)
    corner = np.maximum(np.float32(2.2 * gap) - np.maximum(outer, 0), 0) ** 2
    corner += np.maximum(np.float32(2.2 * gap) - np.maximum(top, 0), 0) ** 2
    nearest = np.float32(2.2 * gap) - np.sqrt(corner)
    space = width - nearest
    on_side = (thorax.side[window] == side) & (down < 1)
    free = ramp(space, max(0.008, 1.0 / film.size)) * on_side
    film.airless = np.zeros((film.size, film.size), np.float32)
    film.airless[window] = free
    dark = free * film.depth[window]
    line = bump(space, max(0.0045, 0.6 / film.size)) * film.depth[window] * on_side * (width > 0.006)
    film.attenuation[window] += line * np.float32(0.17 * vigour) - dark * np.float32(0.09 * vigour)
    film.attenuation[window] += (film.depth[window] - dark) * on_side * np.float32(0.5 * gap)
    return support_box(film, window, dark)


PAINTERS: dict[str, Painter] = {
    "Atelectasis": atelectasis,
    "Cardiomegaly": cardiomegaly,
    "Consolidation": consolidation,
    "Edema": edema,
    "Effusion": effusion,
    "Emphysema": emphysema,
    "Fibrosis": fibrosis,
    "Hernia": hernia,
    "Infiltration": infiltration,
    "Mass": mass,
    "Nodule": nodule,
    "Pleural_Thickening": pleural_thickening,
    "Pneumonia": pneumonia,
    "Pneumothorax": pneumothorax,
}
"""Painter of each finding, in class order."""

BEFORE_VESSELS = ("Pneumothorax",)
"""Findings that decide where vessels are drawn."""


def change_outlines(present: dict[str, Draws], vigour: dict[str, float]) -> Changes:
    """What the present findings do to the outlines, before anything is painted."""
    changes = Changes()
    if "Cardiomegaly" in present:
        changes.heart = present["Cardiomegaly"].uniform(1.26, 1.42) * (0.85 + 0.15 * vigour["Cardiomegaly"])
    if "Emphysema" in present:
        draws = present["Emphysema"]
        changes.inflation = draws.uniform(0.03, 0.06) * vigour["Emphysema"]
        changes.flattening = draws.uniform(0.55, 0.8)
        changes.vessels, changes.lucency = draws.uniform(0.25, 0.45), 1 + 0.2 * vigour["Emphysema"]
    if "Edema" in present:
        changes.upper_vessels = 0.5
    if "Atelectasis" in present:
        draws = present["Atelectasis"]
        rise = draws.uniform(0.004, 0.05)
        changes.raised = (rise, 0.0) if draws.chance(0.55) else (0.0, rise)
    return changes
