"""The healthy film: soft tissue, lungs, heart, spine, ribs, clavicles, vessels, as attenuation in display units."""

import math

import numpy as np

from clarity_cxr.data.phantom.anatomy import LEFT, RIGHT, Thorax
from clarity_cxr.data.phantom.draws import Draws
from clarity_cxr.data.phantom.strokes import Field, arc, stroke
from clarity_cxr.data.phantom.textures import TREE_HILUM, TREES, Textures


def ramp(distance: Field, width: float) -> Field:
    """0 to 1 across `width`, half at zero distance."""
    value = distance * np.float32(1.0 / width)
    value += np.float32(0.5)
    np.maximum(value, 0.0, out=value)
    return np.minimum(value, 1.0, out=value)


def bump(distance: Field, width: float) -> Field:
    """A bell of height 1 and the given half width, without tails."""
    value = distance * np.float32(1.0 / (2.2 * width))
    value *= value
    np.subtract(np.float32(1.0), value, out=value)
    np.maximum(value, 0.0, out=value)
    value *= value
    return value


def ellipse(x: Field, y: Field, centre: tuple[float, float], radii: tuple[float, float], turn: float = 0.0) -> Field:
    """Normalised distance from a centre: 1 on the ellipse's outline."""
    dx, dy = x - np.float32(centre[0]), y - np.float32(centre[1])
    if turn:
        cos, sin = np.float32(math.cos(turn)), np.float32(math.sin(turn))
        dx, dy = cos * dx + sin * dy, cos * dy - sin * dx
    dx *= np.float32(1 / radii[0])
    dy *= np.float32(1 / radii[1])
    dx *= dx
    dy *= dy
    dx += dy
    return np.sqrt(dx, out=dx)


class Film:
    """One film being painted.

    Attributes:
        thorax: outlines and coordinates.
        attenuation: (S, S) what has been painted so far, about 0 (air outside) to 1.1 (bone in the middle).
        solid: (S, S) attenuation if there were no lungs, heart or bones.
        depth: (S, S) how much lung the ray crosses, 0 to 1.
        airless: (S, S) or None: where a pneumothorax has taken the lung's place, 0 to 1.
    """

    def __init__(self, thorax: Thorax, library: Textures, draws: Draws) -> None:
        self.thorax, self.library, self.draws = thorax, library, draws
        self.size = thorax.size
        self.edge = max(0.008, 0.9 / thorax.size)
        self.depth = self._depth()
        self.airless: Field | None = None
        self.attenuation = self._soft_tissue()

    def _depth(self) -> Field:
        thorax = self.thorax
        depth = ramp(np.minimum(thorax.outer, thorax.above) - np.float32(0.3 * self.edge), self.edge)
        depth *= ramp(thorax.inner - np.float32(0.3 * self.edge), 1.8 * self.edge)
        thin = np.maximum(thorax.inside, 0.0)
        thin *= np.float32(1 / 0.10)
        np.minimum(thin, 1.0, out=thin)
        thin *= np.float32(0.32) * (2 - thin)
        thin += np.float32(0.68)
        depth *= thin
        return depth

    def _soft_tissue(self) -> Field:
        thorax, patient = self.thorax, self.thorax.patient
        stout = patient.habitus
        width = thorax.body_width()
        within = width - thorax.r
        body = ramp(within - np.float32(0.02), 0.05)
        thickness = 1 - thorax.r * thorax.r * np.float32(1.1)
        thickness *= np.float32(0.60 + 0.02 * stout)
        belly = ramp(thorax.y - np.float32(0.72), 0.4)
        belly *= np.float32(0.2)
        thickness += belly
        neck = ramp(np.float32(0.16) - thorax.y, 0.2)
        neck *= np.float32(-0.08)
        thickness += neck
        body *= thickness
        self._arms(body)
        self.solid = body.copy()
        lucency = 0.39 * thorax.changes.lucency - 0.03 * stout
        body -= self.depth * (np.float32(lucency) - ramp(thorax.y - np.float32(0.62), 0.35) * np.float32(0.05))
        under = bump(thorax.outer + np.float32(0.007), 0.012)
        under *= ramp(thorax.y - np.float32(thorax.apex), 0.06)
        under *= ramp(np.float32(thorax.base + 0.04) - thorax.y, 0.1)
        under *= np.float32(0.07)
        body += under
        self._middle(body)
        return body

    def _arms(self, body: Field) -> None:
        thorax = self.thorax
        gap = 0.03 + 0.02 * abs(thorax.patient.habitus)
        arm = ramp(thorax.r - np.float32(0.53 + gap), 0.03)
        arm *= ramp(thorax.y - np.float32(0.2), 0.1)
        arm *= np.float32(0.42)
        np.maximum(body, arm, out=body)
        for sign in (-1.0, 1.0):
            centre = (0.5 + sign * 0.485, 0.145)
            rows, columns = thorax.window(*centre, 0.08, 0.08)
            head = ellipse(thorax.x[rows, columns], thorax.y[rows, columns], centre, (0.052, 0.060))
            body[rows, columns] += np.float32(0.055) * ramp(1 - head, 0.8)

    def _middle(self, body: Field) -> None:
        """Mediastinum, heart, spine and trachea."""
        thorax = self.thorax
        heart = np.maximum(thorax.heart, 0.0)
        heart *= ramp(thorax.above + np.float32(0.03), 0.06)
        heart *= np.float32(1 / 0.16)
        np.minimum(heart, 1.0, out=heart)
        heart *= np.float32(0.06) * (2 - heart)
        body += heart
        middle = ramp(thorax.mediastinum, 0.02)
        middle *= ramp(thorax.y - np.float32(0.02), 0.14)
        middle *= np.float32(0.075)
        body += middle
        columns = self._strip(0.06)
        r, y = thorax.r[:, columns], thorax.y[:, columns]
        spacing = 0.052
        discs = np.cos(y * np.float32(2 * math.pi / spacing) + np.float32(6.28 * thorax.patient.rib_phase[0]))
        discs *= np.float32(0.25)
        discs += np.float32(0.75)
        spine = ramp(np.float32(0.036) - r, 0.014)
        spine *= discs
        spine *= np.float32(0.06)
        trachea = ramp(np.float32(0.02) - r, 0.014)
        trachea *= ramp(np.float32(0.36) - y, 0.05)
        trachea *= np.float32(0.10)
        spine -= trachea
        body[:, columns] += spine

    def _strip(self, reach: float) -> slice:
        """Columns that contain |x - 0.5| < reach at every height of a turned film."""
        left, _ = self.thorax.to_pixels(np.array([0.5 - reach] * 2), np.array([-0.1, 1.1]))
        right, _ = self.thorax.to_pixels(np.array([0.5 + reach] * 2), np.array([-0.1, 1.1]))
        slack = 0.02 * self.size
        return slice(max(0, int(left.min() - slack)), min(self.size, int(right.max() + slack) + 1))

    def add_bones(self) -> None:
        """Posterior and anterior ribs, clavicles, scapular edges."""
        thorax, patient = self.thorax, self.thorax.patient
        rows, _ = thorax.window(0.5, 0.5, 0.6, 0.42)
        y, r, cage = thorax.y[rows], thorax.r[rows], thorax.cage[rows]
        across = r / (cage + np.float32(0.012))
        square = across * across
        steep = square * square
        steep *= steep
        within = ramp(np.float32(1.0) - across, 0.05)
        within *= ramp(y - np.float32(thorax.apex - 0.01), 0.03)
        within *= np.float32(0.3) + np.float32(0.7) * ramp(thorax.above[rows] + np.float32(0.01), 0.04)
        within *= np.float32(0.45) + np.float32(0.55) * ramp(thorax.inner[rows] + np.float32(0.02), 0.05)
        posterior = y - square * np.float32(0.035) - steep * np.float32(0.10)
        ribs = self._rib_family(posterior, patient.rib_spacing, patient.rib_phase[0])
        ribs *= ramp(across - np.float32(0.13), 0.1)
        anterior = y + across * np.float32(0.24) - square * np.float32(0.05)
        front = self._rib_family(anterior, patient.rib_spacing * 1.08, patient.rib_phase[1])
        front *= ramp(across - np.float32(0.62), 0.4)
        front *= np.float32(0.8)
        ribs += front
        ribs *= within
        ribs *= np.float32(0.085 * patient.rib_contrast)
        self.attenuation[rows] += ribs
        self._clavicles()
        self._scapulae()

    def _rib_family(self, height: Field, spacing: float, phase: float) -> Field:
        """Ribs at even heights: bright edges around a fainter middle."""
        phases = height * np.float32(1 / spacing)
        phases += np.float32(phase + 8)
        phases -= np.floor(phases)
        phases -= np.float32(0.5)
        offset = np.abs(phases, out=phases)
        half = self.thorax.patient.rib_width / 2 * 1.25
        soft = max(0.10, 1.2 / (self.size * spacing))
        rib = ramp(np.float32(half) - offset, soft)
        rim = bump(offset - np.float32(half - 0.05), 0.05)
        rib *= np.float32(0.65)
        rim *= np.float32(0.5)
        rib += rim
        return rib

    def _clavicles(self) -> None:
        thorax = self.thorax
        drop = thorax.patient.clavicle_y + (-0.035 if thorax.pose.frontal_ap else 0.0)
        rows, _ = thorax.window(0.5, 0.12 + drop, 0.6, 0.09)
        y, r = thorax.y[rows], thorax.r[rows]
        centre = np.float32(0.168 + drop) - r * np.float32(0.30) + np.sin(r * np.float32(13.0)) * np.float32(0.012)
        half = np.float32(0.0135) + bump(r - np.float32(0.05), 0.03) * np.float32(0.008)
        offset = np.abs(y - centre)
        bone = ramp(half - offset, max(0.008, 1.0 / self.size))
        bone *= ramp(r - np.float32(0.045), 0.02)
        bone *= ramp(np.float32(0.50) - r, 0.04)
        rim = bump(offset - half, 0.006)
        bone *= np.float32(0.12) + rim * np.float32(0.05)
        self.attenuation[rows] += bone

    def _scapulae(self) -> None:
        thorax = self.thorax
        inward = 0.03 if thorax.pose.frontal_ap else 0.0
        rows, _ = thorax.window(0.5, 0.32, 0.6, 0.22)
        y, r = thorax.y[rows], thorax.r[rows]
        edge = np.float32(0.375 - inward) + np.abs(y - np.float32(0.34)) * np.float32(0.10)
        blade = ramp(r - edge, 0.012)
        blade *= ramp(np.float32(0.52) - r - (y - np.float32(0.2)) * np.float32(0.5), 0.06)
        blade *= ramp(y - np.float32(0.13), 0.05)
        blade *= ramp(np.float32(0.50) - y, 0.06)
        blade *= np.float32(0.065)
        self.attenuation[rows] += blade

    def add_breasts(self) -> None:
        """Breast (or pectoral) shadows with a sharper lower edge."""
        thorax, patient = self.thorax, self.thorax.patient
        if patient.breast < 0.12:
            return
        for sign in (-1.0, 1.0):
            centre = (0.5 + sign * 0.215, patient.breast_y - 0.07 + 0.01 * sign)
            radii = (0.15 + 0.05 * patient.breast, 0.14 + 0.05 * patient.breast)
            rows, columns = thorax.window(*centre, *radii)
            distance = ellipse(thorax.x[rows, columns], thorax.y[rows, columns], centre, radii)
            shade = ramp(1 - distance, 0.10)
            shade *= ramp(thorax.y[rows, columns] - np.float32(centre[1] - 0.03), 0.26)
            shade *= np.float32(0.35) + np.float32(0.65) * ramp(thorax.above[rows, columns] + np.float32(0.01), 0.06)
            shade *= np.float32(0.03 + 0.09 * patient.breast)
            self.solid[rows, columns] += shade
            self.attenuation[rows, columns] += shade

    def add_stomach(self) -> None:
        """The gas bubble under the left dome, in about two films of three."""
        thorax, patient = self.thorax, self.thorax.patient
        if patient.bubble < 0.33:
            return
        x = 0.5 + 0.14 + 0.1 * patient.bubble
        y = thorax.base - patient.dome_height * (1 - thorax.changes.flattening) - thorax.changes.raised[LEFT] + 0.075
        radii = (0.05 + 0.03 * patient.bubble, 0.03 + 0.012 * self.draws.unit())
        rows, columns = thorax.window(x, y, *radii)
        gas = ramp(1 - ellipse(thorax.x[rows, columns], thorax.y[rows, columns], (x, y), radii), 0.3)
        gas *= ramp(-thorax.above[rows, columns] - np.float32(0.016), 0.012)
        gas *= np.float32(self.draws.uniform(0.12, 0.26))
        self.attenuation[rows, columns] -= gas

    def add_vessels(self) -> None:
        """Hila and the vessel trees, cut off where there is no lung."""
        thorax, patient, changes = self.thorax, self.thorax.patient, self.thorax.changes
        scale = self.library.tree_scale * (1.0 - 1.2 * changes.inflation)
        hilum = (0.435 + thorax.pose.inspiration, 0.405 + thorax.pose.inspiration)
        trees = self.library.trees
        _, height, width = trees.shape
        rows, _ = thorax.window(0.5, 0.5, 0.6, 0.46)
        side = thorax.side[rows]
        column = (thorax.r[rows] - np.float32(0.045)) * np.float32(scale)
        root = np.where(side == LEFT, np.float32(hilum[LEFT]), np.float32(hilum[RIGHT]))
        row = (thorax.y[rows] - root) * np.float32(scale) + np.float32(TREE_HILUM * self.library.tree_scale)
        column = np.clip(column, 0, width - 1, out=column).astype(np.intp)
        row = np.clip(row, 0, height - 1, out=row).astype(np.intp)
        chosen = np.where(side == LEFT, patient.trees[LEFT] % TREES, patient.trees[RIGHT] % TREES)
        vessels = trees.reshape(-1).take((chosen * height + row) * width + column)
        vessels *= self.depth[rows] if self.airless is None else self.depth[rows] * (1 - self.airless[rows])
        strength = 0.23 * patient.vessels * changes.vessels
        vessels *= np.float32(strength)
        if changes.upper_vessels:
            vessels *= 1 + np.float32(changes.upper_vessels) * ramp(np.float32(0.42) - thorax.y[rows], 0.2)
        self.attenuation[rows] += vessels
        self._hila(hilum, 0.10 * (0.5 + 0.5 * changes.vessels))

    def _hila(self, hilum: tuple[float, float], strength: float) -> None:
        thorax = self.thorax
        for sign, y, reach in ((-1.0, hilum[RIGHT], 0.088), (1.0, hilum[LEFT], 0.105)):
            x = 0.5 + sign * reach
            rows, columns = thorax.window(x, y + 0.015, 0.05, 0.08)
            shade = ellipse(thorax.x[rows, columns], thorax.y[rows, columns], (x, y + 0.015), (0.04, 0.07), -0.3 * sign)
            shade = bump(shade, 0.42)
            shade *= self.depth[rows, columns]
            shade *= np.float32(strength)
            self.attenuation[rows, columns] += shade

    def add_texture(self) -> None:
        """Uneven soft tissue: broad mottle over the body, finer markings in the lungs."""
        crop = self.library.crop
        size, draws = self.size, self.draws
        self.attenuation += crop(self.library.coarse, draws, size, size) * np.float32(0.010)
        mottle = crop(self.library.patchy, draws, size, size) * self.depth
        mottle *= np.float32(0.012)
        self.attenuation += mottle

    def veil(self, window: tuple[slice, slice], cover: Field, rise: float) -> None:
        """Hide what lies behind fluid or airless lung: blend towards solid tissue plus `rise`, by a cover in [0, 1]."""
        target = self.attenuation[window]
        lift = np.maximum(self.solid[window] + np.float32(rise) - target, 0.0)
        lift *= cover
        target += lift

    def line(self, points: list[tuple[float, float]], width: float, strength: float) -> None:
        """A curve through Bezier control points in body coordinates, raised by `strength`."""
        xs, ys = arc(points)
        columns, rows = self.thorax.to_pixels(xs, ys)
        layer = np.zeros((self.size, self.size), np.float32)
        stroke(layer, columns, rows, max(0.35, 0.5 * width * self.size), strength)
        self.attenuation += layer
