import numpy as np
import pytest

from clarity_cxr.metrics import best_ious, box_iou, iou_accuracy, mask_iou, msli
from tests.reference import metrics as reference


def random_boxes(generator, count):
    corners = generator.integers(0, 20, (count, 2, 2))
    return np.concatenate((corners.min(axis=1), corners.max(axis=1) + 1), axis=1).astype(float)


@pytest.fixture
def images():
    """Predicted and true boxes of 40 images, some without either."""
    generator = np.random.default_rng(0)
    return (
        [random_boxes(generator, generator.integers(0, 4)) for _ in range(40)],
        [random_boxes(generator, generator.integers(0, 3)) for _ in range(40)],
    )


def test_iou_equals_reference():
    generator = np.random.default_rng(1)
    a, b = random_boxes(generator, 6), random_boxes(generator, 9)
    expected = [[reference.iou(first, second) for second in b] for first in a]
    np.testing.assert_allclose(box_iou(a, b), expected)


def test_iou_is_half_open():
    # Touching boxes share no pixel; 2 x 2 against 2 x 1 inside it is one half, without a "+1".
    boxes = [[2, 0, 4, 2], [0, 0, 2, 1], [0, 0, 2, 2]]
    assert box_iou([[0, 0, 2, 2]], boxes).tolist() == [[0, 0.5, 1]]


def test_iou_of_no_boxes_and_of_boxes_without_area():
    assert box_iou([], [[0, 0, 1, 1]]).shape == (0, 1)
    assert box_iou(np.zeros((2, 4)), np.zeros((0, 4))).shape == (2, 0)
    assert box_iou([[1, 1, 1, 1]], [[1, 1, 1, 1], [0, 0, 2, 2]]).tolist() == [[0, 0]]


def test_boxes_of_another_shape_are_refused():
    with pytest.raises(ValueError, match=r"\(2, 3\)"):
        box_iou(np.zeros((2, 3)), np.zeros((1, 4)))


def test_accuracy_and_msli_equal_reference(images):
    predicted, truth = images
    for threshold in (0.05, 0.1, 0.25, 0.5, 0.75):
        assert iou_accuracy(predicted, truth, threshold) == reference.iou_accuracy(predicted, truth, threshold)
    assert msli(predicted, truth) == pytest.approx(reference.msli(predicted, truth))


def test_best_iou_of_every_true_box_in_order(images):
    predicted, truth = images
    expected = [
        max((reference.iou(box, candidate) for candidate in candidates), default=0.0)
        for candidates, boxes in zip(predicted, truth, strict=True)
        for box in boxes
    ]
    np.testing.assert_allclose(best_ious(predicted, truth), expected)


def test_the_threshold_itself_does_not_count():
    predicted, truth = [[[0, 0, 2, 1]]], [[[0, 0, 2, 2]]]
    assert iou_accuracy(predicted, truth, 0.5) == 0
    assert iou_accuracy(predicted, truth, 0.499) == 1
    # IoU 1/2 passes 0.1 and 0.25 of the five.
    assert msli(predicted, truth) == pytest.approx(0.4)


def test_a_missed_image_counts_as_missed_and_no_truth_is_nan():
    assert iou_accuracy([[], [[0, 0, 1, 1]]], [[[0, 0, 1, 1]], [[0, 0, 1, 1]]], 0.5) == 0.5
    assert np.isnan(iou_accuracy([[[0, 0, 1, 1]]], [[]], 0.5))
    assert np.isnan(msli([], []))


def test_lists_of_different_length_are_refused():
    with pytest.raises(ValueError, match="got 1 and 2"):
        msli([[]], [[], []])


def test_mask_iou_is_pycocotools():
    coco = pytest.importorskip("pycocotools.mask", reason="the dev extra installs pycocotools")
    generator = np.random.default_rng(3)
    for _ in range(20):
        mask = generator.random((24, 24)) < 0.4
        boxes = random_boxes(generator, 3)
        filled = np.zeros_like(mask)
        for x0, y0, x1, y1 in boxes.astype(int):
            filled[y0:y1, x0:x1] = True
        encoded = [coco.encode(np.asfortranarray(of.astype(np.uint8))) for of in (mask, filled)]
        assert mask_iou(mask, boxes) == pytest.approx(coco.iou([encoded[0]], [encoded[1]], [0]).item())


def test_mask_iou_takes_pixels_by_their_centres():
    mask = np.zeros((4, 4), dtype=bool)
    mask[1, 1] = True
    assert mask_iou(mask, [[0.6, 0.6, 1.6, 1.6]]) == 1
    assert mask_iou(mask, [[1.6, 1.6, 2.4, 2.4]]) == 0
    assert mask_iou(np.zeros((4, 4), dtype=bool), np.zeros((0, 4))) == 0
