import numpy as np
import pytest

from clarity_cxr.metrics import delong


def slow_delong(scores, labels):
    """Structural components, pair by pair."""
    positives, negatives = scores[labels], scores[~labels]
    wins = (positives[:, None] > negatives) + 0.5 * (positives[:, None] == negatives)
    variance = wins.mean(axis=1).var(ddof=1) / len(positives) + wins.mean(axis=0).var(ddof=1) / len(negatives)
    return wins.mean(), variance


def test_equals_the_slow_version_with_ties():
    generator = np.random.default_rng(1)
    labels = generator.random(300) < 0.2
    scores = np.round(generator.random(300) + 0.4 * labels, 1)
    auc, variance = slow_delong(scores, labels)
    found = delong(scores, labels)
    assert found.auc == pytest.approx(auc)
    assert found.variance == pytest.approx(variance)
    assert found.high - found.auc == pytest.approx(1.959964 * variance**0.5)


def test_undefined_and_degenerate():
    assert np.isnan(delong([0.1, 0.2], [True, True])).all()
    found = delong([0.9, 0.2, 0.1], [True, False, False])
    assert found.auc == 1
    assert np.isnan(found.variance)
    assert delong([0.9, 0.8, 0.1, 0.2], [True, True, False, False])[2:] == (1, 1)
