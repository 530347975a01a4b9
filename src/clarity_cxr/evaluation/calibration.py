"""Fitting calibration and operating points on validation films, and what they do to the test films."""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize

from clarity_cxr.calibration import Calibration, Method, OperatingPoint, logit, sigmoid
from clarity_cxr.errors import ConfigError
from clarity_cxr.findings import FINDINGS
from clarity_cxr.metrics.calibration import brier_score, expected_calibration_error, reliability

SENSITIVITY = 0.9
_RIDGE = 1e-3
"""Weight of a pull towards a = 1: keeps the fit finite where a finding's films separate perfectly."""


def fit_calibration(
    probabilities: NDArray[np.floating],
    labels: NDArray[np.bool_],
    labelled: NDArray[np.bool_] | None = None,
    *,
    method: Method = "platt",
    sensitivity: float = SENSITIVITY,
) -> Calibration:
    """Calibration and operating points from validation films.

    A finding with no positive or no negative film is left as it is (a = 1, b = 0) and has the operating point `half`
    alone.

    Args:
        probabilities: (n,14) of the model.
        labels: (n,14).
        labelled: (n,14) bool, which labels are defined; None: all.
        method: `platt` fits a and b, `temperature` a alone.
        sensitivity: of the operating point `sensitive`.

    Raises:
        ConfigError: the sensitivity is not in (0, 1].
    """
    if not 0 < sensitivity <= 1:
        raise ConfigError(f"sensitivity {sensitivity}: expected a share above 0 and up to 1")
    scale, offset = dict.fromkeys(FINDINGS, 1.0), dict.fromkeys(FINDINGS, 0.0)
    points: dict[OperatingPoint, dict[str, float]] = {"half": {}, "youden": {}, "sensitive": {}}
    defined_labels = np.ones_like(labels) if labelled is None else labelled
    for index, (finding, mine) in enumerate(zip(FINDINGS, defined_labels.T, strict=True)):
        scores, positive = probabilities[mine, index], labels[mine, index]
        defined = bool(positive.any() and not positive.all())
        if defined:
            scale[finding], offset[finding] = _fit_line(logit(scores), positive, with_offset=method == "platt")

        def calibrated(score: float, finding: str = finding) -> float:
            return float(sigmoid(scale[finding] * logit(score) + offset[finding]))

        points["half"][finding] = calibrated(0.5)
        if defined:
            youden, sensitive = _decision_scores(scores, positive, sensitivity)
            points["youden"][finding] = calibrated(youden)
            points["sensitive"][finding] = calibrated(sensitive)
    fitted_on = {"split": "val", "films": len(labels), "sensitivity": sensitivity}
    return Calibration(method, scale, offset, points, fitted_on)


def _fit_line(logits: NDArray[np.float64], labels: NDArray[np.bool_], with_offset: bool) -> tuple[float, float]:
    """(a, b) of the least logarithmic loss of sigmoid(a * logit + b); a = exp(log_a) stays positive."""

    def loss(parameters: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        log_a, b = parameters[0], parameters[1] if with_offset else 0.0
        a = np.exp(log_a)
        z = a * logits + b
        value = np.mean(np.logaddexp(0, z) - labels * z) + _RIDGE * log_a**2
        error = sigmoid(z) - labels
        gradient = [float(np.mean(error * logits) * a + 2 * _RIDGE * log_a), float(np.mean(error))]
        return float(value), np.array(gradient[: len(parameters)])

    bounds = [(-4, 4), (-20, 20)] if with_offset else [(-4, 4)]
    found = minimize(loss, np.zeros(len(bounds)), jac=True, method="L-BFGS-B", bounds=bounds).x
    return float(np.exp(found[0])), float(found[1]) if with_offset else 0.0


def _decision_scores(
    scores: NDArray[np.floating], labels: NDArray[np.bool_], sensitivity: float
) -> tuple[float, float]:
    """The scores from which to decide positive: at Youden's highest J, and at the wanted sensitivity."""
    distinct, inverse = np.unique(scores, return_inverse=True)
    positive = np.bincount(inverse[labels], minlength=len(distinct))
    negative = np.bincount(inverse[~labels], minlength=len(distinct))
    found = positive[::-1].cumsum()[::-1] / positive.sum()
    false_alarms = negative[::-1].cumsum()[::-1] / negative.sum()
    youden = float(distinct[np.argmax(found - false_alarms)])
    sensitive = float(distinct[np.flatnonzero(found >= sensitivity - 1e-12)[-1]])
    return youden, sensitive


def summarise_calibration(
    probabilities: NDArray[np.floating],
    labels: NDArray[np.bool_],
    calibration: Calibration,
    labelled: NDArray[np.bool_] | None = None,
) -> dict[str, dict[str, Any]]:
    """Brier score, ECE and reliability of every finding before and after calibration, and its operating points.

    Args:
        probabilities: (n,14) of the model, on films that the calibration was not fitted on.
        labels: (n,14).
        calibration: to apply.
        labelled: (n,14) bool, which labels are defined; None: all.

    Returns:
        finding -> `raw` and `calibrated` (each `brier`, `ece`, `reliability` as lists), `scale`, `offset`, and
        `operating_points`: point -> `threshold`, `sensitivity`, `false_positive_rate`, or None where there is none.
    """
    calibrated = calibration.apply(probabilities, FINDINGS)
    defined = np.ones_like(labels) if labelled is None else labelled
    return {
        finding: {
            "raw": _distance(probabilities[mine, index], labels[mine, index]),
            "calibrated": _distance(calibrated[mine, index], labels[mine, index]),
            "scale": calibration.scale[finding],
            "offset": calibration.offset[finding],
            "operating_points": {
                point: _rates(calibrated[mine, index], labels[mine, index], thresholds.get(finding))
                for point, thresholds in calibration.operating_points.items()
            },
        }
        for index, (finding, mine) in enumerate(zip(FINDINGS, defined.T, strict=True))
    }


def _distance(probabilities: NDArray[np.floating], labels: NDArray[np.bool_]) -> dict[str, Any]:
    curve = reliability(probabilities, labels)
    return {
        "brier": brier_score(probabilities, labels),
        "ece": expected_calibration_error(probabilities, labels),
        "reliability": {name: values.tolist() for name, values in curve._asdict().items()},
    }


def _rates(
    probabilities: NDArray[np.floating], labels: NDArray[np.bool_], threshold: float | None
) -> dict[str, float] | None:
    if threshold is None:
        return None
    decided = probabilities >= threshold
    return {
        "threshold": threshold,
        "sensitivity": float(decided[labels].mean()) if labels.any() else float("nan"),
        "false_positive_rate": float(decided[~labels].mean()) if not labels.all() else float("nan"),
    }
