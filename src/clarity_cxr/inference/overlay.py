"""A prediction drawn on its film."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image

from clarity_cxr.findings import FINDINGS
from clarity_cxr.inference.prediction import FilmPrediction
from clarity_cxr.localization.drawing import (
    MUTED_COLOUR,
    Entry,
    HeatLayer,
    Outline,
    draw_overlay,
    finding_colour,
    truth_outline,
)

NOTE = "clarity-cxr: research use only"


@dataclass(frozen=True)
class TruthBox:
    """A radiologist's box, half-open, in pixels of the original film."""

    finding: str
    x0: float
    y0: float
    x1: float
    y1: float

    @property
    def edges(self) -> tuple[float, float, float, float]:
        """The box as (x0, y0, x1, y1)."""
        return self.x0, self.y0, self.x1, self.y1


def prediction_overlay(film: np.ndarray, prediction: FilmPrediction, truth: Sequence[TruthBox] = ()) -> Image.Image:
    """Draw what was decided positive: heat above each finding's threshold, boxes, truth, and a strip of findings.

    Args:
        film: (H, W) uint8, the film that was predicted.
        prediction: its prediction.
        truth: radiologists' boxes, drawn in green.

    Returns:
        An RGB image; the film itself stays grey wherever no heat exceeds a threshold.
    """
    positives = prediction.positives
    layers = [
        HeatLayer(prediction.heatmaps[FINDINGS.index(name)], prediction.thresholds[name], finding_colour(name))
        for name in reversed(positives)
    ]
    outlines = [
        Outline(
            (box.x0, box.y0, box.x1, box.y1),
            _label(name, prediction.probabilities[name]),
            finding_colour(name),
        )
        for name in positives
        for box in prediction.boxes
        if box.finding == name
    ]
    outlines += [truth_outline(box.finding.replace("_", " "), box.edges) for box in truth]
    entries = [Entry(_label(name, prediction.probabilities[name]), finding_colour(name)) for name in positives]
    if not entries:
        name, value = max(prediction.probabilities.items(), key=lambda item: item[1])
        entries = [Entry(f"no finding decided positive (highest: {_label(name, value)})", MUTED_COLOUR)]
    return draw_overlay(film, layers, outlines, entries, NOTE)


def _label(finding: str, probability: float) -> str:
    return f"{finding.replace('_', ' ')} {probability:.2f}"
