"""Calibrated probabilities and operating points, as a checkpoint stores them. NumPy only.

A model trained with weighted classes orders films well, but its probabilities are far from frequencies. Platt scaling,
sigmoid(a * logit + b) for each finding, mends that without changing the order; with b = 0 it is temperature scaling
(a = 1 / temperature).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

Method = Literal["platt", "temperature"]
OperatingPoint = Literal["half", "youden", "sensitive"]

OPERATING_POINTS: dict[OperatingPoint, str] = {
    "half": "the model's own probability, before calibration, is at least 0.5 (the paper's decision)",
    "youden": "sensitivity + specificity is highest on the validation films",
    "sensitive": "the highest threshold with the chosen sensitivity on the validation films",
}

_EDGE = 1e-7
"""Probabilities are kept this far from 0 and 1, where the logit has no value."""


@dataclass(frozen=True)
class Calibration:
    """What turns a model's probabilities into calibrated ones, and where to decide.

    Attributes:
        method: `platt` or `temperature`.
        scale: finding -> a > 0.
        offset: finding -> b.
        operating_points: point -> finding -> threshold on the *calibrated* probability; a film is decided positive
            from it on. A finding without a threshold in a point could not have one there (no positive validation film).
        fitted_on: which films: split, their number, the store's fingerprint, the chosen sensitivity.
    """

    method: Method
    scale: dict[str, float]
    offset: dict[str, float]
    operating_points: dict[OperatingPoint, dict[str, float]]
    fitted_on: dict[str, Any]

    def apply(self, probabilities: ArrayLike, findings: tuple[str, ...]) -> NDArray[np.float64]:
        """Calibrated probabilities.

        Args:
            probabilities: (..., C) of the model.
            findings: C names.

        Returns:
            (..., C) float64; the order of films is that of the model's own probabilities.
        """
        scale = np.array([self.scale[name] for name in findings])
        offset = np.array([self.offset[name] for name in findings])
        return sigmoid(scale * logit(probabilities) + offset)

    def thresholds(self, point: OperatingPoint, findings: tuple[str, ...]) -> dict[str, float]:
        """Threshold of each finding on the calibrated probability; that of `half` where the point has none."""
        half = self.operating_points["half"]
        return {name: self.operating_points[point].get(name, half[name]) for name in findings}

    def to_dict(self) -> dict[str, Any]:
        """Plain values that JSON can hold."""
        return {name: getattr(self, name) for name in ("method", "scale", "offset", "operating_points", "fitted_on")}

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> "Calibration":
        """Inverse of `to_dict`."""
        return cls(**content)


def logit(probabilities: ArrayLike) -> NDArray[np.float64]:
    """log(p / (1 - p)) in float64, with p kept off 0 and 1."""
    inside = np.clip(np.asarray(probabilities, dtype=np.float64), _EDGE, 1 - _EDGE)
    return np.log(inside) - np.log1p(-inside)


def sigmoid(logits: NDArray[np.float64]) -> NDArray[np.float64]:
    """1 / (1 + exp(-x)), without overflow."""
    return np.exp(-np.logaddexp(0, -logits))
