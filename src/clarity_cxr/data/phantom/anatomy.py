"""The thorax: a patient's outlines, a film's pose, and the fields that every painter works on.

Coordinates are fractions of an upright film (x to the picture's right, y down) before the film's own rotation, shift
and scale; `r` is the distance from the midline. The picture's left half shows the patient's right side (side 0).
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.interpolate import PchipInterpolator

from clarity_cxr.data.phantom.draws import Draws
from clarity_cxr.data.phantom.strokes import Field

RIGHT, LEFT = 0, 1

_K = 3072
_LOW, _HIGH = -0.4, 1.5
_POINTS = np.linspace(_LOW, _HIGH, _K, dtype=np.float32)


def _table(at: list[float], values: list[float]) -> np.ndarray:
    """A smooth curve through knots, sampled over [_LOW, _HIGH] and held constant beyond the knots."""
    return PchipInterpolator(at, values)(np.clip(_POINTS, at[0], at[-1])).astype(np.float32)


_T = [-0.1, 0.0, 0.006, 0.02, 0.1, 0.18, 0.26, 0.34, 0.42, 0.5, 0.58, 0.66, 0.74, 0.82, 0.9, 1.0]
# Half widths of the cage's inside, the mediastinum without the heart, and the heart, from apex to costophrenic angle
# (heart: from its base to its lower edge): means of adult outlines.
_CAGE = _table(
    _T, [0.03, 0.135, 0.163, 0.197, 0.269, 0.308, 0.329, 0.342, 0.351, 0.358, 0.365, 0.371, 0.379, 0.386, 0.391, 0.392]
)
_MEDIASTINUM = (
    _table(
        _T, [0.3, 0.135, 0.107, 0.078, 0.05, 0.044, 0.046, 0.05, 0.053, 0.055, 0.056, 0.056, 0.056, 0.056, 0.056, 0.056]
    ),
    _table(
        _T, [0.3, 0.135, 0.112, 0.09, 0.064, 0.06, 0.058, 0.068, 0.078, 0.078, 0.075, 0.072, 0.07, 0.07, 0.07, 0.07]
    ),
)
_H = [-0.12, 0.0, 0.05, 0.1, 0.18, 0.26, 0.34, 0.42, 0.5, 0.58, 0.66, 0.74, 0.82, 0.9, 0.97, 1.06]
_HEART = (
    _table(
        _H, [-0.3, 0.01, 0.05, 0.068, 0.084, 0.094, 0.102, 0.108, 0.112, 0.113, 0.111, 0.103, 0.088, 0.06, 0.0, -0.3]
    ),
    _table(
        _H, [-0.3, 0.06, 0.115, 0.136, 0.16, 0.182, 0.203, 0.221, 0.236, 0.249, 0.258, 0.263, 0.26, 0.246, 0.2, -0.3]
    ),
)
_DOME = _table(
    [-0.4, -0.1, 0.0, 0.05, 0.15, 0.25, 0.35, 0.45, 0.55, 0.65, 0.75, 0.9, 1.1],
    [-1.2, -0.35, 0.0, 0.19, 0.45, 0.66, 0.81, 0.9, 0.96, 0.985, 1.0, 0.97, 0.9],
)  # fmt: skip
_KNOB = np.exp(-(((_POINTS - 0.265) / 0.055) ** 2))
_BODY = _table(
    [-0.3, -0.1, -0.03, 0.0, 0.03, 0.06, 0.1, 0.15, 0.2, 0.32, 0.43, 0.5, 0.6, 0.8, 1.0, 1.3],
    [0.13, 0.145, 0.18, 0.23, 0.33, 0.43, 0.53, 0.61, 0.65, 0.63, 0.53, 0.482, 0.468, 0.468, 0.475, 0.5],
)  # fmt: skip


@dataclass
class Patient:
    """What stays the same in all films of one person (lengths in film sides)."""

    female: bool
    age: float
    cage_width: float
    cage_taper: float
    apex: float
    base: float
    dome_height: float
    dome_offset: float
    heart_width: float
    heart_turn: float
    knob: float
    mediastinum: float
    habitus: float
    breast: float
    breast_y: float
    rib_phase: tuple[float, float]
    rib_spacing: float
    rib_contrast: float
    rib_width: float
    clavicle_y: float
    bubble: float
    trees: tuple[int, int]
    vessels: float
    scoliosis: float
    device: int

    @classmethod
    def draw(cls, draws: Draws, female: bool, age: float) -> "Patient":
        """A person from that person's own draws."""
        stout = draws.normal()
        return cls(
            female=female,
            age=age,
            cage_width=draws.normal(0.965 if female else 1.0, 0.05),
            cage_taper=draws.normal(0.0, 0.05),
            apex=draws.normal(0.085, 0.015),
            base=draws.normal(0.83, 0.035) - 0.012 * stout,
            dome_height=draws.normal(0.14, 0.018),
            dome_offset=draws.normal(0.014, 0.009),
            heart_width=draws.normal(0.93, 0.06) + 0.0006 * (age - 50) + 0.015 * stout,
            heart_turn=draws.normal(0.0, 0.012),
            knob=max(0.012, draws.normal(0.028, 0.009) + 0.0003 * (age - 50)),
            mediastinum=draws.normal(1.0, 0.08) + 0.04 * stout,
            habitus=stout,
            breast=draws.uniform(0.25, 1.0) if female else draws.uniform(0.0, 0.2),
            breast_y=draws.normal(0.66, 0.04),
            rib_phase=(draws.unit(), draws.unit()),
            rib_spacing=draws.normal(0.079, 0.004),
            rib_contrast=draws.uniform(0.45, 1.1),
            rib_width=draws.uniform(0.30, 0.42),
            clavicle_y=draws.normal(0.0, 0.012),
            bubble=draws.unit(),
            trees=(draws.integer(1 << 16), draws.integer(1 << 16)),
            vessels=draws.uniform(0.65, 1.2),
            scoliosis=draws.normal(0.0, 0.007),
            device=draws.integer(24),
        )


@dataclass
class Pose:
    """How one film was taken: angle in radians, centre shift, magnification, inspiration, AP or PA."""

    angle: float
    shift_x: float
    shift_y: float
    scale_x: float
    scale_y: float
    inspiration: float
    frontal_ap: bool

    @classmethod
    def draw(cls, draws: Draws, frontal_ap: bool) -> "Pose":
        """A pose; bedside (AP) films are placed less carefully and breathed in less deeply."""
        loose = 1.5 if frontal_ap else 1.0
        scale = draws.normal(0.985, 0.03 * loose)
        return cls(
            angle=math.radians(draws.normal(0.0, 1.8 * loose)),
            shift_x=draws.normal(0.0, 0.016 * loose),
            shift_y=draws.normal(0.0, 0.018 * loose),
            scale_x=scale * draws.normal(1.0, 0.012),
            scale_y=scale * draws.normal(1.0, 0.012),
            inspiration=draws.normal(-0.02 if frontal_ap else 0.006, 0.014),
            frontal_ap=frontal_ap,
        )


@dataclass
class Changes:
    """What findings do to the outlines themselves."""

    heart: float = 1.0
    inflation: float = 0.0
    flattening: float = 0.0
    raised: tuple[float, float] = (0.0, 0.0)
    vessels: float = 1.0
    upper_vessels: float = 0.0
    lucency: float = 1.0


class Thorax:
    """Outlines of one film, evaluated on a square pixel grid of any size.

    Fields (size, size), float32 unless said: `x`, `y`, `r`; `side` (0/1 intp); `cage` half width of the cage at this
    height; `dome` height of the diaphragm at this r; `outer`, `inner`, `above`: distance inside the cage wall, outside
    the mediastinum and heart, above the diaphragm; `inside`: the least of the three, positive within the lungs;
    `heart`: distance inside the heart's outline.
    """

    def __init__(self, patient: Patient, pose: Pose, changes: Changes, size: int) -> None:
        self.patient, self.pose, self.changes, self.size = patient, pose, changes, size
        self.apex = patient.apex - 0.25 * changes.inflation
        self.base = patient.base + pose.inspiration + changes.inflation
        self.heart_top = 0.455 + 0.5 * pose.inspiration + 0.3 * changes.inflation - 0.15 * (changes.heart - 1)
        self.heart_bottom = (
            self.base + patient.dome_offset - 0.8 * patient.dome_height * (1 - changes.flattening) + 0.045
        )
        self._place()
        self._outline()

    def _place(self) -> None:
        """Pixel grid to body coordinates."""
        pose, size = self.pose, self.size
        centres = ((np.arange(size, dtype=np.float64) + 0.5) / size).astype(np.float32) - np.float32(0.5)
        across, down = centres - np.float32(pose.shift_x), (centres - np.float32(pose.shift_y))[:, None]
        cos, sin = math.cos(pose.angle), math.sin(pose.angle)
        self.x = np.float32(0.5) + across * np.float32(cos / pose.scale_x) + down * np.float32(sin / pose.scale_x)
        self.y = np.float32(0.5) - across * np.float32(sin / pose.scale_y) + down * np.float32(cos / pose.scale_y)
        offset = self.x - np.float32(0.5)
        if self.patient.scoliosis:
            offset -= np.float32(self.patient.scoliosis) * np.sin(self.y * np.float32(6.0))
        self.side = (offset > 0).astype(np.intp)
        self.r = np.abs(offset)

    def _outline(self) -> None:
        patient, changes = self.patient, self.changes
        widen = patient.cage_width * (1 + 0.6 * changes.inflation)
        cage = _CAGE * (widen + patient.cage_taper * (_POINTS - 0.5))
        middle = self._middle_tables()
        rows = self._index(self.y, self.apex, self.base)
        lateral = rows + self.side * _K
        self.cage = cage.take(rows)
        self.outer = self.cage - self.r
        self.mediastinum = np.concatenate(middle).take(lateral) - self.r
        width = patient.heart_width * changes.heart * (1.05 if self.pose.frontal_ap else 1.0)
        width *= 1 - 1.2 * changes.inflation
        hearts = [_HEART[RIGHT] * (0.6 + 0.4 * width) - patient.heart_turn, _HEART[LEFT] * width + patient.heart_turn]
        heart_rows = self._index(self.y, self.heart_top, self.heart_bottom)
        self.heart = np.concatenate(hearts).take(heart_rows + self.side * _K) - self.r
        self.inner = -np.maximum(self.mediastinum, self.heart)
        self.dome = self._dome_table().take(self._index(self.r, 0.0, 1.0) + self.side * _K)
        self.above = self.dome - self.y
        self.inside = np.minimum(np.minimum(self.outer, self.inner), self.above)

    def _middle_tables(self) -> list[np.ndarray]:
        """Mediastinal borders; on the left with the aortic knob."""
        patient = self.patient
        knob = patient.knob * _KNOB
        return [_MEDIASTINUM[RIGHT] * patient.mediastinum, _MEDIASTINUM[LEFT] * patient.mediastinum + knob]

    def _dome_table(self) -> Field:
        patient, changes = self.patient, self.changes
        bottom = float(_CAGE[-1]) * patient.cage_width * (1 + 0.6 * changes.inflation) + 0.5 * patient.cage_taper * 0.39
        across = (bottom - _POINTS) / (bottom - 0.04)
        shape = _DOME.take(self._index(across, 0.0, 1.0))
        height = patient.dome_height * (1 - changes.flattening)
        right = self.base - (height + changes.raised[RIGHT]) * shape
        left = self.base + patient.dome_offset - (height + changes.raised[LEFT]) * shape
        return np.concatenate([right, left])

    @staticmethod
    def _index(values: Field, zero: float, one: float) -> NDArray[np.intp]:
        """Table rows of values measured from `zero` (0) to `one` (1)."""
        step = (_K - 1) / (_HIGH - _LOW)
        at = values * np.float32(step / (one - zero))
        at += np.float32(-step * (zero / (one - zero) + _LOW) + 0.5)
        np.maximum(at, 0, out=at)
        np.minimum(at, _K - 1, out=at)
        return at.astype(np.intp)

    def body_width(self) -> Field:
        """Half width of the body's silhouette at each pixel's height."""
        stout = 1 + 0.06 * self.patient.habitus
        rows = self._index(self.y, 0.0, 1.0)
        return (_BODY * (stout * (0.5 + 0.5 * self.patient.cage_width))).take(rows)

    def to_pixels(self, x: np.ndarray | float, y: np.ndarray | float) -> tuple[np.ndarray, np.ndarray]:
        """Body coordinates to pixel coordinates (pixel edges are integers)."""
        pose = self.pose
        u, v = (np.asarray(x) - 0.5) * pose.scale_x, (np.asarray(y) - 0.5) * pose.scale_y
        cos, sin = math.cos(pose.angle), math.sin(pose.angle)
        across, down = cos * u - sin * v + pose.shift_x + 0.5, sin * u + cos * v + pose.shift_y + 0.5
        return across * self.size, down * self.size

    def window(self, x: float, y: float, reach_x: float, reach_y: float) -> tuple[slice, slice]:
        """Rows and columns that contain the box of half sides `reach_x`, `reach_y` around (x, y)."""
        pose, edge = self.pose, self.size
        u, v = (x - 0.5) * pose.scale_x, (y - 0.5) * pose.scale_y
        cos, sin = math.cos(pose.angle), math.sin(pose.angle)
        column, row = cos * u - sin * v + pose.shift_x + 0.5, sin * u + cos * v + pose.shift_y + 0.5
        half_x, half_y = reach_x * pose.scale_x, reach_y * pose.scale_y
        half_x, half_y = cos * half_x + abs(sin) * half_y, abs(sin) * half_x + cos * half_y
        top, bottom = max(0, int((row - half_y) * edge)), min(edge, int((row + half_y) * edge) + 2)
        left, right = max(0, int((column - half_x) * edge)), min(edge, int((column + half_x) * edge) + 2)
        return slice(top, max(top, bottom)), slice(left, max(left, right))

    def at(self, side: int, across: float, height: float) -> tuple[float, float]:
        """The body coordinates of a place in a lung.

        Args:
            side: RIGHT or LEFT.
            across: 0 at the mediastinum, 1 at the chest wall.
            height: 0 at the apex, 1 at the dome's top.
        """
        top_of_dome = self.base - self.patient.dome_height * (1 - self.changes.flattening) - self.changes.raised[side]
        y = self.apex + height * (top_of_dome - self.apex)
        t = (y - self.apex) / (self.base - self.apex)
        row = int(np.clip((t - _LOW) / (_HIGH - _LOW) * (_K - 1), 0, _K - 1))
        wall = float(_CAGE[row]) * self.patient.cage_width
        heart_t = (y - self.heart_top) / (self.heart_bottom - self.heart_top)
        heart_row = int(np.clip((heart_t - _LOW) / (_HIGH - _LOW) * (_K - 1), 0, _K - 1))
        middle = max(float(_MEDIASTINUM[side][row]), float(_HEART[side][heart_row]) * self.changes.heart)
        r = middle + across * (wall - middle)
        return 0.5 + (r if side == LEFT else -r), y

    def masks(self) -> NDArray[np.bool_]:
        """The four priors (4, size, size): lungs, heart, lungs+mediastinum, diaphragm+mediastinum."""
        lungs = self.inside > 0
        heart = (self.heart > 0) & (self.above > -0.03)
        between = (self.inner <= 0) & (self.y > self.apex) & (self.y < self.base) & (self.outer > 0)
        middle = heart | (between & ((self.above > -0.03) | (self.r < 0.05)))
        surface = (self.above < 0.012) & (self.above > -0.05) & (self.outer > 0) & (self.y < self.base + 0.06)
        return np.stack([lungs, heart, lungs | middle, surface | middle])
