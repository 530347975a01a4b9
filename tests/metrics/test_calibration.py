import numpy as np
import pytest
from sklearn.calibration import calibration_curve
from sklearn.metrics import brier_score_loss

from clarity_cxr.metrics import brier_score, expected_calibration_error, reliability


def make_films(count=1000, seed=0):
    generator = np.random.default_rng(seed)
    probabilities = generator.random(count)
    return probabilities, generator.random(count) < probabilities**2


def test_brier_score_is_scikit_learns():
    probabilities, labels = make_films()
    assert brier_score(probabilities, labels) == pytest.approx(brier_score_loss(labels, probabilities))


def test_reliability_is_scikit_learns_quantile_curve():
    probabilities, labels = make_films()
    frequency, probability = calibration_curve(labels, probabilities, n_bins=10, strategy="quantile")
    found = reliability(probabilities, labels, 10)
    np.testing.assert_allclose(found.probability, probability)
    np.testing.assert_allclose(found.frequency, frequency)
    np.testing.assert_array_equal(found.films, 100)


def test_ece_is_the_weighted_mean_distance():
    probabilities = np.array([0.1, 0.1, 0.1, 0.9, 0.9])
    labels = np.array([False, False, True, True, True])
    expected = (3 * abs(0.1 - 1 / 3) + 2 * 0.1) / 5
    assert expected_calibration_error(probabilities, labels, 2) == pytest.approx(expected)


def test_without_films_nothing_is_defined():
    assert np.isnan(brier_score([], []))
    assert np.isnan(expected_calibration_error([], []))
