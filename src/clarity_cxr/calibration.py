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

from clarity_cxr.errors import ClarityError

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


@dataclass(frozen=True)
class DecisionRule:
    """From a model's probabilities to those that are shown, and to decisions.

    Attributes:
        calibration: applied to the model's probabilities; None leaves them as they are.
        point: operating point; `half` with a threshold other than 0.5 is called `own`.
        thresholds: finding -> shown probability from which it is decided positive.
    """

    calibration: Calibration | None
    point: str
    thresholds: dict[str, float]

    def probabilities(self, own: NDArray[np.floating]) -> NDArray[np.float64]:
        """(C,) shown probabilities of the model's own, in the order of `thresholds`."""
        if self.calibration is None:
            return own.astype(np.float64)
        return self.calibration.apply(own, tuple(self.thresholds))

    def to_dict(self) -> dict[str, Any]:
        """What a reader of a prediction must know, as plain values."""
        method = "none" if self.calibration is None else self.calibration.method
        rounded = {name: round(value, 6) for name, value in self.thresholds.items()}
        return {"operating_point": self.point, "calibration": method, "thresholds": rounded}


def decision_rule(
    calibration: Calibration | None,
    findings: tuple[str, ...],
    decision_threshold: float = 0.5,
    operating_point: OperatingPoint | None = None,
) -> DecisionRule:
    """How to decide with a checkpoint.

    Args:
        calibration: of the checkpoint, or None.
        findings: C names.
        decision_threshold: the model's own probability, before calibration, from which a finding is decided positive.
        operating_point: decide at this point of the calibration instead.

    Raises:
        ClarityError: the threshold is not in [0, 1], or the checkpoint has no operating points.
    """
    if not 0 <= decision_threshold <= 1:
        raise ClarityError(f"decision threshold {decision_threshold}: expected a probability from 0 to 1")
    if operating_point is not None and operating_point not in OPERATING_POINTS:
        raise ClarityError(f"operating point {operating_point!r}: expected one of {', '.join(OPERATING_POINTS)}")
    if operating_point is not None and calibration is None:
        raise ClarityError(
            f"operating point {operating_point!r}: the checkpoint holds none; `clarity calibrate` stores them in it"
        )
    if operating_point is not None and calibration is not None:
        return DecisionRule(calibration, operating_point, calibration.thresholds(operating_point, findings))
    shown = np.full(len(findings), decision_threshold)
    if calibration is not None and 0 < decision_threshold < 1:
        shown = calibration.apply(shown, findings)
    point = "half" if decision_threshold == 0.5 else "own"
    return DecisionRule(calibration, point, dict(zip(findings, shown.tolist(), strict=True)))


def logit(probabilities: ArrayLike) -> NDArray[np.float64]:
    """log(p / (1 - p)) in float64, with p kept off 0 and 1."""
    inside = np.clip(np.asarray(probabilities, dtype=np.float64), _EDGE, 1 - _EDGE)
    return np.log(inside) - np.log1p(-inside)


def sigmoid(logits: NDArray[np.float64]) -> NDArray[np.float64]:
    """1 / (1 + exp(-x)), without overflow."""
    return np.exp(-np.logaddexp(0, -logits))
