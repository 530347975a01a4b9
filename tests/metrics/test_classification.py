import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from clarity_cxr.metrics import auc_per_finding, macro_auc
from tests.reference import metrics as reference


@pytest.fixture
def batch():
    generator = np.random.default_rng(0)
    return generator.random((60, 14)).round(1), generator.random((60, 14)) < 0.2


def test_equals_pairwise_reference_with_ties(batch):
    scores, labels = batch
    expected = [reference.auc(scores[:, c], labels[:, c]) for c in range(14)]
    np.testing.assert_allclose(auc_per_finding(scores, labels), expected, rtol=1e-12)


@pytest.mark.parametrize("decimals", [1, 2, 12])
def test_equals_sklearn(decimals):
    generator = np.random.default_rng(1)
    scores = generator.random((3000, 14)).round(decimals).astype(np.float32)
    labels = generator.random((3000, 14)) < generator.uniform(0.002, 0.3, 14)
    labels[0] = True
    expected = [roc_auc_score(labels[:, c], scores[:, c]) for c in range(14)]
    np.testing.assert_allclose(auc_per_finding(scores, labels), expected, rtol=1e-12)


def test_constant_perfect_and_inverted_scores():
    labels = np.array([0, 0, 1, 1])
    scores = np.stack((np.zeros(4), labels, -labels), axis=1)
    assert auc_per_finding(scores, np.stack([labels] * 3, axis=1)).tolist() == [0.5, 1, 0]


def test_undefined_findings_are_nan_and_counted(batch):
    scores, labels = batch
    labels[:, 2], labels[:, 5] = False, True
    per_finding = auc_per_finding(scores, labels)
    assert np.flatnonzero(np.isnan(per_finding)).tolist() == [2, 5]
    value, defined = macro_auc(scores, labels)
    assert defined == 12
    assert value == pytest.approx(np.nanmean(per_finding))


def test_nothing_defined_is_nan():
    for rows in (0, 3):
        value, defined = macro_auc(np.zeros((rows, 4)), np.zeros((rows, 4), dtype=bool))
        assert np.isnan(value)
        assert defined == 0


def test_mistakes_are_refused(batch):
    scores, labels = batch
    with pytest.raises(ValueError, match=r"\(60, 14\) and \(60, 13\)"):
        auc_per_finding(scores, labels[:, :13])
    scores[3, 3] = np.nan
    with pytest.raises(ValueError, match="NaN"):
        auc_per_finding(scores, labels)


def test_undefined_labels_are_left_out_of_each_finding():
    generator = np.random.default_rng(3)
    scores, labels = generator.random((60, 5)), generator.random((60, 5)) < 0.4
    labelled = generator.random((60, 5)) < 0.7
    labelled[:, 3] = False
    found = auc_per_finding(scores, labels, labelled)
    expected = [roc_auc_score(labels[m, c], scores[m, c]) if m.any() else np.nan for c, m in enumerate(labelled.T)]
    np.testing.assert_allclose(found, expected, rtol=1e-12)
    assert macro_auc(scores, labels, labelled) == (pytest.approx(np.nanmean(expected)), 4)
    np.testing.assert_array_equal(
        auc_per_finding(scores, labels, np.ones_like(labels)), auc_per_finding(scores, labels)
    )
