"""Box overlap, IoU accuracy and the multi-scale localization index (MSLI) of one finding."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

MSLI_THRESHOLDS: tuple[float, ...] = (0.1, 0.25, 0.5, 0.75, 0.9)
"""The T(IoU) over which MSLI is averaged."""


def box_iou(a: ArrayLike, b: ArrayLike) -> NDArray[np.float64]:
    """Intersection over union of every pair of boxes, half-open coordinates (no "+1").

    Args:
        a: (n, 4) boxes x0, y0, x1, y1.
        b: (m, 4) boxes.

    Returns:
        (n, m) in [0, 1]; zero where both boxes of a pair have no area.

    Raises:
        ValueError: an argument cannot be read as rows of four.
    """
    return _pair_iou(_boxes(a)[:, None, :], _boxes(b)[None, :, :])


def best_ious(predicted: Sequence[ArrayLike], truth: Sequence[ArrayLike]) -> NDArray[np.float64]:
    """For every true box, the highest IoU with a predicted box of the same image.

    Args:
        predicted: one entry per image, (k, 4) predicted boxes of one finding; k may be 0.
        truth: one entry per image, (m, 4) true boxes of that finding.

    Returns:
        (number of true boxes,) in the order of `truth`, zero where the image has no predicted box.

    Raises:
        ValueError: the lists differ in length, or an entry cannot be read as rows of four.
    """
    if len(predicted) != len(truth):
        raise ValueError(f"expected one entry per image in both lists, got {len(predicted)} and {len(truth)}")
    if not len(truth):
        return np.zeros(0)
    predicted_rows, truth_rows = [_boxes(boxes) for boxes in predicted], [_boxes(boxes) for boxes in truth]
    found_boxes, true_boxes = np.concatenate(predicted_rows), np.concatenate(truth_rows)
    per_image = np.array([len(boxes) for boxes in predicted_rows])
    image_of_truth = np.repeat(np.arange(len(truth)), [len(boxes) for boxes in truth_rows])
    # Every (true box, predicted box) pair of one image, as two flat index arrays.
    pairs_of_truth = per_image[image_of_truth]
    pair_truth = np.repeat(np.arange(len(true_boxes)), pairs_of_truth)
    first_pair = np.cumsum(pairs_of_truth) - pairs_of_truth
    first_predicted = (np.cumsum(per_image) - per_image)[image_of_truth]
    pair_predicted = np.arange(len(pair_truth)) + np.repeat(first_predicted - first_pair, pairs_of_truth)
    best = np.zeros(len(true_boxes))
    np.maximum.at(best, pair_truth, _pair_iou(true_boxes[pair_truth], found_boxes[pair_predicted]))
    return best


def iou_accuracy(predicted: Sequence[ArrayLike], truth: Sequence[ArrayLike], threshold: float) -> float:
    """Share of true boxes with IoU > `threshold` to any predicted box of their image.

    Args:
        predicted: one entry per image, (k, 4) predicted boxes of one finding.
        truth: one entry per image, (m, 4) true boxes of that finding.
        threshold: T(IoU) in (0, 1); an IoU equal to it does not count.

    Returns:
        In [0, 1]; NaN when there is no true box.

    Raises:
        ValueError: as `best_ious`.
    """
    best = best_ious(predicted, truth)
    return float((best > threshold).mean()) if len(best) else float("nan")


def msli(predicted: Sequence[ArrayLike], truth: Sequence[ArrayLike]) -> float:
    """Mean IoU accuracy of one finding over T(IoU) in {0.1, 0.25, 0.5, 0.75, 0.9}.

    The macro MSLI is the mean of this over findings: both means are linear, so their order does not matter.

    Args:
        predicted: one entry per image, (k, 4) predicted boxes of one finding.
        truth: one entry per image, (m, 4) true boxes of that finding.

    Returns:
        In [0, 1]; NaN when there is no true box.

    Raises:
        ValueError: as `best_ious`.
    """
    return msli_of_ious(best_ious(predicted, truth))


def mask_iou(mask: NDArray[np.bool_], truth: ArrayLike) -> float:
    """Intersection over union of a mask and the filled union of an image's true boxes, in pixels.

    Args:
        mask: (H, W) bool.
        truth: (k, 4) true boxes x0, y0, x1, y1 in pixels; a pixel belongs to a box if its centre lies inside.

    Returns:
        In [0, 1]; zero where both are empty.

    Raises:
        ValueError: `truth` cannot be read as rows of four.
    """
    ys, xs = np.arange(mask.shape[0])[:, None] + 0.5, np.arange(mask.shape[1]) + 0.5
    filled = np.zeros(mask.shape, dtype=bool)
    for x0, y0, x1, y1 in _boxes(truth):
        filled |= (ys >= y0) & (ys < y1) & (xs >= x0) & (xs < x1)
    union = np.count_nonzero(mask | filled)
    return float(np.count_nonzero(mask & filled) / union) if union else 0.0


def msli_of_ious(best: NDArray[np.float64]) -> float:
    """MSLI of true boxes whose best IoU is already known (see `best_ious`).

    Args:
        best: (n,) best IoU of every true box.

    Returns:
        In [0, 1]; NaN when n = 0.
    """
    if not len(best):
        return float("nan")
    return float((best[:, None] > np.array(MSLI_THRESHOLDS)).mean())


def _boxes(boxes: ArrayLike) -> NDArray[np.float64]:
    rows = np.asarray(boxes, dtype=np.float64)
    if rows.size == 0:
        return rows.reshape(0, 4)
    if rows.ndim != 2 or rows.shape[1] != 4:
        raise ValueError(f"expected boxes (k, 4) as x0, y0, x1, y1, got shape {rows.shape}")
    return rows


def _pair_iou(a: NDArray[np.float64], b: NDArray[np.float64]) -> NDArray[np.float64]:
    overlap = np.clip(np.minimum(a[..., 2:], b[..., 2:]) - np.maximum(a[..., :2], b[..., :2]), 0, None)
    intersection = overlap.prod(axis=-1)
    union = _area(a) + _area(b) - intersection
    return np.divide(intersection, union, out=np.zeros_like(intersection), where=union > 0)


def _area(boxes: NDArray[np.float64]) -> NDArray[np.float64]:
    return (boxes[..., 2:] - boxes[..., :2]).prod(axis=-1)
