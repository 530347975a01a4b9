"""Bootstrap by patient: films of one patient are alike, so patients are drawn, not films or boxes.

A replicate draws as many patients as there are, with replacement; a film or box then weighs as often as its patient was
drawn. All replicates are computed together from these weights.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

_WEIGHTS_AT_ONCE = 4_000_000


@dataclass(frozen=True)
class PatientDraws:
    """How often each patient was drawn in each replicate.

    Attributes:
        patients: (P,) distinct patient ids (numbers or text), ascending.
        counts: (R,P) int32, each row sums to P.
    """

    patients: NDArray[Any]
    counts: NDArray[np.int32]

    def weights(self, patients: NDArray[Any]) -> NDArray[np.int32]:
        """(R, len(patients)) how often the patient of each film or box was drawn."""
        return self.counts[:, self.columns(patients)]

    def columns(self, patients: NDArray[Any]) -> NDArray[np.int64]:
        """(len(patients),) columns of `counts`.

        Raises:
            ValueError: a patient is not among those that are drawn.
        """
        at = np.searchsorted(self.patients, patients)
        if len(patients) and not np.array_equal(self.patients[np.minimum(at, len(self.patients) - 1)], patients):
            raise ValueError("a patient is not among those that are drawn")
        return at


def draw_patients(patients: NDArray[Any], replicates: int, seed: int) -> PatientDraws:
    """Draw patients with replacement.

    Args:
        patients: ids, in any order and with repetitions; each distinct one is equally likely.
        replicates: R.
        seed: of the generator; the draws depend on it, R and the number of distinct patients only.
    """
    distinct = np.unique(patients)
    if not len(distinct):
        return PatientDraws(distinct, np.zeros((replicates, 0), dtype=np.int32))
    generator = np.random.Generator(np.random.PCG64(seed))
    share = np.full(len(distinct), 1 / len(distinct))
    return PatientDraws(distinct, generator.multinomial(len(distinct), share, size=replicates).astype(np.int32))


def bootstrap_auc(
    scores: NDArray[np.floating],
    labels: NDArray[np.bool_],
    patients: NDArray[Any],
    draws: PatientDraws,
    labelled: NDArray[np.bool_] | None = None,
) -> NDArray[np.float64]:
    """AUC of every finding in every replicate; ties count one half.

    Args:
        scores: (n,C).
        labels: (n,C).
        patients: (n,) patient of each film.
        draws: R replicates.
        labelled: (n,C) which labels are defined; None: all.

    Returns:
        (R,C), NaN where a replicate has no positive or no negative film.
    """
    columns = draws.columns(patients)
    replicates = len(draws.counts)
    result = np.full((replicates, scores.shape[1]), np.nan)
    step = max(1, _WEIGHTS_AT_ONCE // max(1, len(scores)))
    for finding in range(scores.shape[1]):
        defined = np.ones(len(labels), dtype=bool) if labelled is None else labelled[:, finding]
        positive, negative = labels[:, finding] & defined, ~labels[:, finding] & defined
        order = np.argsort(scores[negative, finding], kind="stable")
        negatives, negative_scores = columns[negative][order], scores[negative, finding][order]
        positives, positive_scores = columns[positive], scores[positive, finding]
        if not len(negatives) or not len(positives):
            continue
        below = np.searchsorted(negative_scores, positive_scores, side="left")
        up_to = np.searchsorted(negative_scores, positive_scores, side="right")
        for at in range(0, replicates, step):
            counts = draws.counts[at : at + step]
            cumulative = np.zeros((len(counts), len(negatives) + 1), dtype=np.int64)
            np.cumsum(counts[:, negatives], axis=1, out=cumulative[:, 1:])
            weights = counts[:, positives]
            doubled_wins = (weights * (cumulative[:, below] + cumulative[:, up_to])).sum(axis=1)
            pairs = weights.sum(axis=1, dtype=np.int64) * cumulative[:, -1]
            result[at : at + step, finding] = np.divide(
                doubled_wins, 2 * pairs, out=np.full(len(counts), np.nan), where=pairs > 0
            )
    return result


def bootstrap_share(
    hits: NDArray[np.bool_] | NDArray[np.floating],
    patients: NDArray[Any],
    draws: PatientDraws,
    counted: NDArray[np.bool_] | None = None,
) -> NDArray[np.float64]:
    """Share of boxes (or films) that are hit in every replicate.

    Args:
        hits: (n,L) whether, or by how much of 1, each box is hit, at L levels.
        patients: (n,) patient of each box.
        draws: R replicates.
        counted: (n,L) which boxes count at each level; None: all.

    Returns:
        (R,L), NaN where a replicate has no box.
    """
    counted = np.ones(hits.shape, dtype=bool) if counted is None else counted
    columns = draws.columns(patients)
    found, total = np.zeros((2, len(draws.patients), hits.shape[1]))
    np.add.at(found, columns, hits * counted)
    np.add.at(total, columns, counted)
    weights = draws.counts.astype(np.float64)
    found, total = weights @ found, weights @ total
    return np.divide(found, total, out=np.full_like(total, np.nan), where=total > 0)


def mean_defined(values: NDArray[np.floating], axis: int = -1) -> NDArray[np.float64]:
    """Mean over the entries that are not NaN; NaN where there is none."""
    defined = np.isfinite(values)
    total = np.where(defined, values, 0.0).sum(axis=axis)
    count = defined.sum(axis=axis)
    return np.divide(total, count, out=np.full(np.shape(total), np.nan), where=count > 0)


def percentile_interval(replicates: NDArray[np.floating], level: float = 0.95) -> list[float] | None:
    """[low, high] percentile interval over the replicates that are defined; None where none is."""
    defined = replicates[np.isfinite(replicates)]
    if not len(defined):
        return None
    tail = 100 * (1 - level) / 2
    low, high = np.percentile(defined, [tail, 100 - tail])
    return [float(low), float(high)]
