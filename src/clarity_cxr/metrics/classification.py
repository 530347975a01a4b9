"""Area under the ROC curve, per finding and macro-averaged."""

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import rankdata


class MacroAucResult(NamedTuple):
    """Macro AUC and how many findings it is the mean of."""

    value: float
    defined: int


def auc_per_finding(
    scores: ArrayLike, labels: ArrayLike, labelled: NDArray[np.bool_] | None = None
) -> NDArray[np.float64]:
    """AUC of every finding by the rank-sum identity; ties count one half.

    Args:
        scores: (n, C) scores of any monotone scale.
        labels: (n, C) hard labels, bool or 0/1.
        labelled: (n, C) which labels are defined, the others are left out; None: all.

    Returns:
        (C,) AUC in [0, 1], NaN for a finding with no positive or no negative.

    Raises:
        ValueError: the shapes are not equal and two-dimensional, or a score is NaN.
    """
    scores, labels = np.asarray(scores), np.asarray(labels)
    if scores.ndim != 2 or scores.shape != labels.shape:
        raise ValueError(f"expected scores and labels (n, C), got {scores.shape} and {labels.shape}")
    if np.isnan(scores).any():
        raise ValueError("scores contain NaN, so their order is undefined")
    if len(scores) == 0:
        return np.full(scores.shape[1], np.nan)
    if labelled is not None and not labelled.all():
        columns = zip(scores.T, labels.T, labelled.T, strict=True)
        return np.concatenate([auc_per_finding(of[mine, None], truth[mine, None]) for of, truth, mine in columns])
    hard = labels.astype(np.float64)
    positives = hard.sum(axis=0)
    negatives = len(hard) - positives
    rank_sum = (rankdata(scores, axis=0) * hard).sum(axis=0)
    with np.errstate(divide="ignore", invalid="ignore"):
        return (rank_sum - positives * (positives + 1) / 2) / (positives * negatives)


def macro_auc(scores: ArrayLike, labels: ArrayLike, labelled: NDArray[np.bool_] | None = None) -> MacroAucResult:
    """Mean AUC over the findings for which it is defined.

    Args:
        scores: (n, C) scores.
        labels: (n, C) hard labels.
        labelled: (n, C) which labels are defined; None: all.

    Returns:
        The mean (NaN when no finding is defined) and the number of findings in it.

    Raises:
        ValueError: as `auc_per_finding`.
    """
    per_finding = auc_per_finding(scores, labels, labelled)
    defined = per_finding[np.isfinite(per_finding)]
    return MacroAucResult(float(defined.mean()) if len(defined) else float("nan"), len(defined))
