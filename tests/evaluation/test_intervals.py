import numpy as np
import pytest

from clarity_cxr.evaluation.intervals import (
    bootstrap_auc,
    bootstrap_share,
    draw_patients,
    mean_defined,
    percentile_interval,
)
from clarity_cxr.metrics import auc_per_finding


def make_films(films=60, findings=3, seed=0):
    generator = np.random.default_rng(seed)
    patients = generator.integers(100, 120, films)
    scores = np.round(generator.random((films, findings)), 1)  # many ties
    labels = generator.random((films, findings)) < 0.3
    return patients, scores, labels


def resampled_rows(draws, replicate, patients):
    """Rows of one replicate, written out: every film as often as its patient was drawn."""
    drawn = dict(zip(draws.patients, draws.counts[replicate], strict=True))
    return [row for row, patient in enumerate(patients) for _ in range(drawn[patient])]


def test_auc_equals_the_auc_of_the_resampled_films(monkeypatch):
    monkeypatch.setattr("clarity_cxr.evaluation.intervals._WEIGHTS_AT_ONCE", 600)
    patients, scores, labels = make_films()
    draws = draw_patients(patients, 25, seed=3)
    found = bootstrap_auc(scores, labels, patients, draws)
    for replicate in range(25):
        rows = resampled_rows(draws, replicate, patients)
        np.testing.assert_allclose(found[replicate], auc_per_finding(scores[rows], labels[rows]), rtol=1e-12)


def test_a_replicate_without_positives_is_undefined():
    patients = np.arange(6)
    labels = np.zeros((6, 2), dtype=bool)
    labels[0, 0] = True
    draws = draw_patients(patients, 50, seed=0)
    found = bootstrap_auc(np.linspace(1, 0, 12).reshape(6, 2), labels, patients, draws)
    only_negative, only_positive = draws.counts[:, 0] == 0, draws.counts[:, 1:].sum(axis=1) == 0
    assert only_negative.any()
    np.testing.assert_array_equal(np.isnan(found[:, 0]), only_negative | only_positive)
    assert np.isnan(found[:, 1]).all()


def test_share_equals_the_share_of_the_resampled_boxes():
    patients, scores, _ = make_films(films=30)
    hits = scores > 0.5
    draws = draw_patients(patients, 20, seed=1)
    found = bootstrap_share(hits, patients, draws)
    for replicate in range(20):
        rows = resampled_rows(draws, replicate, patients)
        np.testing.assert_allclose(found[replicate], hits[rows].mean(axis=0))


def test_draws_are_of_patients_and_depend_on_the_seed_alone():
    patients = np.array([7, 7, 7, 2, 9])
    draws = draw_patients(patients, 400, seed=5)
    np.testing.assert_array_equal(draws.patients, [2, 7, 9])
    np.testing.assert_array_equal(draws.counts.sum(axis=1), 3)
    assert np.abs(draws.counts.mean(axis=0) - 1).max() < 0.15  # four standard errors
    np.testing.assert_array_equal(draws.counts, draw_patients(patients[::-1], 400, seed=5).counts)
    assert (draws.counts != draw_patients(patients, 400, seed=6).counts).any()
    np.testing.assert_array_equal(draws.weights(np.array([9, 2])), draws.counts[:, [2, 0]])


@pytest.mark.parametrize("stranger", [1, 5, 100])
def test_a_patient_outside_the_draws_is_refused(stranger):
    draws = draw_patients(np.array([2, 7, 9]), 3, seed=0)
    with pytest.raises(ValueError, match="not among"):
        draws.weights(np.array([7, stranger]))


def test_interval_of_the_defined_replicates():
    values = np.concatenate([np.arange(1001) / 1000, [np.nan]])
    assert percentile_interval(values) == pytest.approx([0.025, 0.975])
    assert percentile_interval(np.array([np.nan])) is None


def test_mean_of_the_defined_entries():
    values = np.array([[1.0, np.nan, 2.0], [np.nan] * 3])
    np.testing.assert_array_equal(mean_defined(values), [1.5, np.nan])
