import numpy as np
import pytest
import torch
from scipy import ndimage

from clarity_cxr.localization.boxes import find_boxes, find_boxes_of_maps, sweep_boxes
from clarity_cxr.localization.heatmaps import scale_maps
from tests.reference.localization import flood_fill_boxes

THRESHOLDS = np.arange(1, 100) / 100


def smooth_maps(count, grid=6, size=24, seed=0):
    noise = np.random.default_rng(seed).random((count, grid, grid))
    return scale_maps(torch.from_numpy(noise), size).numpy()


def test_half_open_box_with_mean_and_total_heat():
    heatmap = np.zeros((5, 7))
    heatmap[1:3, 2:6] = 0.5
    heatmap[2, 3] = 0.9
    found = find_boxes(heatmap, 0.4)
    np.testing.assert_array_equal(found.boxes, [[2, 1, 6, 3]])
    np.testing.assert_allclose(found.total_heat, [7 * 0.5 + 0.9])
    np.testing.assert_allclose(found.mean_heat, [(7 * 0.5 + 0.9) / 8])


def test_diagonal_neighbours_are_one_component():
    np.testing.assert_array_equal(find_boxes(np.eye(4), 0.5).boxes, [[0, 0, 4, 4]])
    np.testing.assert_array_equal(find_boxes(np.eye(4)[::-1], 0.5).boxes, [[0, 0, 4, 4]])


def test_components_that_meet_only_further_down_are_one():
    u_shape = np.array([[1, 0, 0, 1], [1, 0, 0, 1], [1, 1, 1, 1]], dtype=float)
    np.testing.assert_array_equal(find_boxes(u_shape, 0.5).boxes, [[0, 0, 4, 3]])


def test_pixels_at_the_threshold_are_outside():
    heatmap = np.array([[0.25, 0.5], [0.0, 0.75]], dtype=np.float32)
    np.testing.assert_array_equal(find_boxes(heatmap, 0.5).boxes, [[1, 1, 2, 2]])


@pytest.mark.parametrize("heatmap", [np.zeros((4, 4)), np.full((4, 4), 0.5)])
def test_nothing_above_the_threshold_gives_no_box(heatmap):
    found = find_boxes(heatmap, 0.5)
    assert found.boxes.shape == (0, 4)
    assert found.mean_heat.shape == found.total_heat.shape == (0,)


def test_maps_with_thresholds_of_their_own_equal_flood_fill():
    maps = np.concatenate([smooth_maps(4, size=17), np.zeros((1, 17, 17), np.float32), smooth_maps(3, size=17, seed=1)])
    thresholds = np.array([0.2, 0.999, 0.35, 0.8, 0.5, 0.05, 0.6, 1.0])
    found = find_boxes_of_maps(maps, thresholds)
    assert len(found) == len(maps)
    for heatmap, threshold, mine in zip(maps, thresholds, found, strict=True):
        boxes, means, totals = flood_fill_boxes(heatmap, threshold)
        np.testing.assert_array_equal(mine.boxes, boxes)
        # Sums of float32 heat above a threshold are exact in float64, in any order.
        np.testing.assert_array_equal(mine.mean_heat, means)
        np.testing.assert_array_equal(mine.total_heat, totals)


def test_a_run_up_to_the_last_pixel_of_the_last_map():
    maps = np.zeros((2, 3, 4), dtype=np.float32)
    maps[:, 2, 2:] = 0.75
    for found in find_boxes_of_maps(maps, np.array([0.5, 0.6])):
        np.testing.assert_array_equal(found.boxes, [[2, 2, 4, 3]])
        np.testing.assert_array_equal(found.total_heat, [1.5])


def test_last_row_does_not_touch_the_first_row_of_the_next_threshold_or_map():
    maps = np.zeros((2, 3, 3))
    maps[0, 2] = 0.9
    maps[1, 0] = 0.9
    swept = sweep_boxes(maps, np.array([0.3, 0.6]))
    np.testing.assert_array_equal(swept.map_index, [0, 0, 1, 1])
    np.testing.assert_array_equal(swept.threshold_index, [0, 1, 0, 1])
    np.testing.assert_array_equal(swept.boxes, [[0, 2, 3, 3]] * 2 + [[0, 0, 3, 1]] * 2)


@pytest.mark.parametrize("size", [13, 24])
def test_sweep_equals_flood_fill(size):
    maps = smooth_maps(4, size=size)
    thresholds = THRESHOLDS[::7]
    swept = sweep_boxes(maps, thresholds)
    for index, heatmap in enumerate(maps):
        for level, threshold in enumerate(thresholds):
            boxes, means, totals = flood_fill_boxes(heatmap, threshold)
            mine = (swept.map_index == index) & (swept.threshold_index == level)
            np.testing.assert_array_equal(swept.boxes[mine], boxes)
            np.testing.assert_allclose(swept.mean_heat[mine], means, rtol=1e-9)
            np.testing.assert_allclose(swept.total_heat[mine], totals, rtol=1e-9)


def test_sweep_equals_scipy_labels_on_noise(monkeypatch):
    # Pixel noise has the most components; small chunks must not change the result.
    monkeypatch.setattr("clarity_cxr.localization.boxes._CELLS_PER_CHUNK", 3000)
    maps = np.random.default_rng(1).random((5, 40, 33)).astype(np.float32)
    thresholds = THRESHOLDS[::9]
    swept = sweep_boxes(maps, thresholds)
    for index, heatmap in enumerate(maps):
        for level, threshold in enumerate(thresholds):
            labels, count = ndimage.label(heatmap > np.float64(threshold), structure=np.ones((3, 3)))
            slices = ndimage.find_objects(labels)
            expected = [[x.start, y.start, x.stop, y.stop] for y, x in slices]
            heat = ndimage.sum_labels(heatmap.astype(np.float64), labels, np.arange(1, count + 1))
            mine = (swept.map_index == index) & (swept.threshold_index == level)
            np.testing.assert_array_equal(swept.boxes[mine], np.array(expected).reshape(-1, 4))
            np.testing.assert_allclose(swept.total_heat[mine], heat, rtol=1e-9)


def test_no_maps_give_no_boxes():
    assert sweep_boxes(np.zeros((0, 8, 8)), THRESHOLDS).boxes.shape == (0, 4)
    assert find_boxes_of_maps(np.zeros((0, 8, 8)), np.zeros(0)) == []


def test_thresholds_out_of_order_are_refused():
    with pytest.raises(ValueError, match="ascending"):
        sweep_boxes(np.zeros((1, 4, 4)), np.array([0.5, 0.4]))
