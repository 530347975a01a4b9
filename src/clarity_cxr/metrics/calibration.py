"""How far probabilities are from frequencies: Brier score, expected calibration error, reliability curve."""

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

BINS = 10


class Reliability(NamedTuple):
    """Points of a reliability diagram, one per bin: (k,) mean probability, share of positives, films."""

    probability: NDArray[np.float64]
    frequency: NDArray[np.float64]
    films: NDArray[np.int64]


def brier_score(probabilities: ArrayLike, labels: ArrayLike) -> float:
    """Mean squared distance of probability and label (Brier, 1950) of one finding.

    Args:
        probabilities: (n,).
        labels: (n,) bool.

    Returns:
        In [0, 1], lower is better; NaN without films.
    """
    probabilities, labels = np.asarray(probabilities, dtype=np.float64), np.asarray(labels, dtype=np.float64)
    return float(((probabilities - labels) ** 2).mean()) if len(labels) else float("nan")


def reliability(probabilities: ArrayLike, labels: ArrayLike, bins: int = BINS) -> Reliability:
    """Share of positives among films of like probability.

    Bins hold equally many films: with rare findings nearly all probabilities would fall into the first of equally wide
    bins. Films of equal probability may be split between two bins, in their order.

    Args:
        probabilities: (n,) of one finding.
        labels: (n,) bool.
        bins: at most as many; fewer where there are fewer films.
    """
    probabilities, labels = np.asarray(probabilities, dtype=np.float64), np.asarray(labels, dtype=np.float64)
    order = np.argsort(probabilities, kind="stable")
    groups = [group for group in np.array_split(order, bins) if len(group)]
    return Reliability(
        np.array([probabilities[group].mean() for group in groups]),
        np.array([labels[group].mean() for group in groups]),
        np.array([len(group) for group in groups], dtype=np.int64),
    )


def expected_calibration_error(probabilities: ArrayLike, labels: ArrayLike, bins: int = BINS) -> float:
    """Mean distance of probability and frequency over the bins of `reliability`, weighted by their films.

    Args:
        probabilities: (n,) of one finding.
        labels: (n,) bool.
        bins: as in `reliability`.

    Returns:
        In [0, 1], lower is better; NaN without films.
    """
    curve = reliability(probabilities, labels, bins)
    if not len(curve.films):
        return float("nan")
    return float(np.average(np.abs(curve.probability - curve.frequency), weights=curve.films))
