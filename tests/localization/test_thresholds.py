import numpy as np
import pytest
import torch

from clarity_cxr.localization.boxes import find_boxes
from clarity_cxr.localization.heatmaps import scale_maps
from clarity_cxr.localization.thresholds import (
    CANDIDATE_THRESHOLDS,
    measure_overlaps,
    search_thresholds,
    threshold_values,
)
from clarity_cxr.metrics import msli
from tests.reference.localization import best_overlaps

FEW = np.array([0.1, 0.35, 0.6, 0.8])


def make_case(films=6, size=24, seed=0):
    generator = np.random.default_rng(seed)
    maps = scale_maps(torch.from_numpy(generator.random((films, 5, 5)) ** 2), size).numpy()
    truth = []
    for film in range(films):
        corner = generator.uniform(0, 12, (1 + film % 3, 2))
        truth.append(np.concatenate([corner, corner + generator.uniform(3, 12, corner.shape)], axis=1))
    return maps, truth


def test_overlaps_equal_the_slow_reference():
    maps, truth = make_case()
    found = measure_overlaps(maps, truth, FEW)
    assert found.any_component.shape == (sum(map(len, truth)), len(FEW))
    for level, threshold in enumerate(FEW):
        expected = [best_overlaps(heatmap, boxes, threshold) for heatmap, boxes in zip(maps, truth, strict=True)]
        np.testing.assert_allclose(found.any_component[:, level], np.concatenate([pair[0] for pair in expected]))
        np.testing.assert_allclose(found.top_component[:, level], np.concatenate([pair[1] for pair in expected]))


def test_top_is_the_most_total_heat_not_the_highest_peak():
    heatmap = np.zeros((1, 10, 10))
    heatmap[0, 0:5, 0:5] = 0.6
    heatmap[0, 8, 8] = 1.0
    truth = [np.array([[8.0, 8, 9, 9], [0, 0, 5, 5]])]
    found = measure_overlaps(heatmap, truth, np.array([0.5, 0.7]))
    np.testing.assert_array_equal(found.any_component, [[1, 1], [1, 0]])
    np.testing.assert_array_equal(found.top_component, [[0, 1], [1, 0]])


def test_a_map_without_components_between_others_overlaps_nothing():
    maps, truth = make_case(3)
    maps[1] = 0
    found = measure_overlaps(maps, truth, FEW)
    assert not found.any_component[len(truth[0]) : len(truth[0]) + len(truth[1])].any()
    expected = measure_overlaps(maps[[0, 2]], [truth[0], truth[2]], FEW)
    kept = np.r_[: len(truth[0]), len(truth[0]) + len(truth[1]) : sum(map(len, truth))]
    np.testing.assert_array_equal(found.any_component[kept], expected.any_component)


def test_search_reaches_the_best_msli_of_all_candidates():
    maps, truth = make_case(12, seed=3)
    curve = [msli([find_boxes(m, xi).boxes for m in maps], truth) for xi in CANDIDATE_THRESHOLDS]
    overlaps = measure_overlaps(maps, truth, CANDIDATE_THRESHOLDS)
    chosen = search_thresholds({"Mass": overlaps.any_component})["Mass"]
    assert chosen.source == "searched"
    assert curve[int(np.flatnonzero(chosen.value == CANDIDATE_THRESHOLDS)[0])] == max(curve)


def test_ties_go_to_the_middle_of_the_longest_plateau():
    overlaps = np.array([[0.3, 0.3, 0.0, 0.3, 0.3, 0.3, 0.3, 0.0]])
    candidates = np.arange(1, 9) / 10
    assert search_thresholds({"Mass": overlaps}, candidates=candidates)["Mass"] == (0.5, "searched")


def test_only_boxes_of_films_predicted_positive_are_searched_on():
    overlaps = {"Mass": np.array([[1.0, 0.0], [0.0, 1.0], [0.0, 1.0]])}
    candidates = np.array([0.2, 0.7])
    assert search_thresholds(overlaps, candidates=candidates)["Mass"].value == 0.7
    positive = {"Mass": np.array([True, False, False])}
    assert search_thresholds(overlaps, positive, candidates)["Mass"] == (0.2, "searched")
    nobody = {"Mass": np.zeros(3, dtype=bool)}
    assert search_thresholds(overlaps, nobody, candidates)["Mass"] == (0.7, "unconditioned")


def test_a_finding_without_boxes_takes_the_best_macro_threshold():
    candidates = np.array([0.2, 0.5, 0.7])
    overlaps = {
        "Mass": np.array([[1.0, 0.8, 0.0]]),
        "Nodule": np.array([[0.0, 0.8, 1.0]] * 9),
        "Hernia": np.zeros((0, 3)),
    }
    chosen = search_thresholds(overlaps, candidates=candidates)
    assert chosen["Hernia"] == (0.5, "macro")  # the sum over boxes would say 0.7: findings weigh alike
    assert threshold_values(chosen) == {"Mass": 0.2, "Nodule": 0.7, "Hernia": 0.5}


def test_no_boxes_at_all_give_the_default():
    assert search_thresholds({"Hernia": np.zeros((0, 99))})["Hernia"] == (0.5, "default")


@pytest.mark.parametrize("films", [0, 1])
def test_no_boxes_in_a_film(films):
    found = measure_overlaps(np.ones((films, 4, 4)), [np.zeros((0, 4))] * films, FEW)
    assert found.any_component.shape == found.top_component.shape == (0, 4)
