"""What is said about one film: probabilities, decisions, and boxes in the film's own pixels. NumPy only."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from clarity_cxr.calibration import DecisionRule, decision_rule
from clarity_cxr.errors import FilmError
from clarity_cxr.localization.boxes import ComponentBoxes, find_boxes_of_maps

DEFAULT_BOX_THRESHOLD = 0.5
"""Heat a box starts at for findings whose threshold the checkpoint does not hold (half the film's peak)."""


@dataclass(frozen=True)
class Box:
    """Where a finding is, in pixels of the original film: half-open [x0, x1) x [y0, y1).

    Attributes:
        finding: one of `clarity_cxr.findings.FINDINGS`.
        x0, y0, x1, y1: edges; x grows to the right and y downwards.
        score: mean heat inside the box times the finding's probability.
        threshold: heat that the box's component exceeds.
    """

    finding: str
    x0: float
    y0: float
    x1: float
    y1: float
    score: float
    threshold: float


@dataclass(frozen=True)
class FilmPrediction:
    """What a model says about one film.

    Attributes:
        width, height: the original film, pixels.
        probabilities: finding -> probability, calibrated if the checkpoint holds a calibration.
        decisions: finding -> whether its probability reaches the rule's threshold.
        boxes: boxes of the findings decided positive; of one finding, the component with the most heat first.
        thresholds: finding -> heat above which a pixel belongs to a box.
        heatmaps: (C, S, S) float32, Xi: attention inside the foreground mask, each finding scaled to [0, 1].
        attention: (C, N, N) float32, attention maps A of the class tokens.
        masks: (C, N, N) bool, foreground masks S_f (all True for a model without SegmentCAM).
        rule: how probabilities were calibrated, and where and at which operating point they were decided.
    """

    width: int
    height: int
    probabilities: dict[str, float]
    decisions: dict[str, bool]
    boxes: list[Box]
    thresholds: dict[str, float]
    heatmaps: np.ndarray
    attention: np.ndarray
    masks: np.ndarray
    rule: DecisionRule

    @property
    def positives(self) -> list[str]:
        """The findings decided positive, most probable first."""
        positive = [name for name, decided in self.decisions.items() if decided]
        return sorted(positive, key=lambda name: -self.probabilities[name])

    def to_json(self) -> dict[str, Any]:
        """The prediction without its maps, as plain values that `json.dump` writes."""
        return {
            "width": self.width,
            "height": self.height,
            "probabilities": {name: round(value, 6) for name, value in self.probabilities.items()},
            "decisions": self.decisions,
            "decided": self.rule.to_dict(),
            "boxes": [
                {key: round(value, 6) if isinstance(value, float) else value for key, value in asdict(box).items()}
                for box in self.boxes
            ],
        }


def assemble_prediction(
    findings: Sequence[str],
    shape: tuple[int, ...],
    maps: Mapping[str, np.ndarray],
    thresholds: dict[str, float],
    decide: DecisionRule | float,
) -> FilmPrediction:
    """Decide, and find the boxes of what is decided positive.

    Args:
        findings: C names, the order of the maps.
        shape: (height, width) of the original film.
        maps: what the model gave for the film: probabilities (C,), heatmaps (C, S, S), attention and masks (C, N, N).
        thresholds: finding -> heat above which a pixel belongs to a box.
        decide: the rule, or the probability from which a finding is decided positive without calibration.
    """
    height, width = shape
    rule = decide if isinstance(decide, DecisionRule) else decision_rule(None, tuple(findings), decide)
    probabilities = dict(zip(findings, rule.probabilities(maps["probabilities"]).tolist(), strict=True))
    decisions = {name: value >= rule.thresholds[name] for name, value in probabilities.items()}
    positives = [name for name in findings if decisions[name]]
    heatmaps = maps["heatmaps"][list(decisions.values())]
    components = find_boxes_of_maps(heatmaps, np.array([thresholds[name] for name in positives]))
    scale = (width / heatmaps.shape[2], height / heatmaps.shape[1])
    boxes = [
        box
        for name, found in zip(positives, components, strict=True)
        for box in film_boxes(name, found, thresholds[name], probabilities[name], scale)
    ]
    return FilmPrediction(
        width=width,
        height=height,
        probabilities=probabilities,
        decisions=decisions,
        boxes=boxes,
        thresholds=thresholds,
        heatmaps=maps["heatmaps"],
        attention=maps["attention"],
        masks=maps["masks"],
        rule=rule,
    )


def box_thresholds(findings: Sequence[str], stored: Mapping[str, float] | None) -> dict[str, float]:
    """finding -> heat a box starts at: what was searched for, else `DEFAULT_BOX_THRESHOLD`."""
    return {name: float((stored or {}).get(name, DEFAULT_BOX_THRESHOLD)) for name in findings}


def film_boxes(
    finding: str, found: ComponentBoxes, threshold: float, probability: float, scale: tuple[float, float]
) -> list[Box]:
    """Components of one finding's heatmap as boxes in the film's own pixels, most heat first.

    Args:
        finding: whose heatmap it is.
        found: its components above `threshold`.
        threshold: heat that they exceed.
        probability: of the finding.
        scale: pixels of the film for one of the heatmap, across and down.
    """
    across, down = scale
    boxes = []
    for k in np.argsort(-found.total_heat, kind="stable"):
        x0, y0, x1, y1 = found.boxes[k].tolist()
        score = float(found.mean_heat[k]) * probability
        boxes.append(Box(finding, x0 * across, y0 * down, x1 * across, y1 * down, score, threshold))
    return boxes


def as_grey(film: np.ndarray | Path | str) -> np.ndarray:
    """Read a film, or bring an array (H, W) of uint8, uint16 or floats in [0, 1] to uint8.

    Raises:
        FilmError: the file cannot be decoded, or the array is of another shape, type or range.
    """
    if isinstance(film, str | Path):
        from clarity_cxr.inference.films import read_any_film  # needs Pillow, arrays do not

        return read_any_film(Path(film)).pixels
    if film.ndim != 2 or 0 in film.shape:
        raise FilmError(f"film array of shape {film.shape}: expected a grey image (height, width)")
    if film.dtype == np.uint8:
        return film
    if film.dtype == np.uint16:
        return ((film.astype(np.uint32) * 255 + 32767) // 65535).astype(np.uint8)
    if np.issubdtype(film.dtype, np.floating):
        low, high = float(film.min()), float(film.max())
        if not (low >= 0 and high <= 1):
            raise FilmError(f"film array with values from {low:g} to {high:g}: floats must lie in [0, 1]")
        return np.round(film * 255).astype(np.uint8)
    raise FilmError(f"film array of type {film.dtype}: expected uint8, uint16, or floats in [0, 1]")
