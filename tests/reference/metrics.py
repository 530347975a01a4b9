"""AUC by comparing every pair, IoU accuracy by looping over boxes."""

import numpy as np


def auc(scores, labels):
    positives, negatives = scores[labels], scores[~labels]
    if not len(positives) or not len(negatives):
        return np.nan
    won = sum((p > n) + 0.5 * (p == n) for p in positives for n in negatives)
    return won / (len(positives) * len(negatives))


def iou(a, b):
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    if width <= 0 or height <= 0:
        return 0.0
    area = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1])
    return width * height / (area - width * height)


def iou_accuracy(predicted, truth, threshold):
    found = [
        any(iou(box, candidate) > threshold for candidate in candidates)
        for candidates, boxes in zip(predicted, truth, strict=True)
        for box in boxes
    ]
    return np.mean(found) if found else np.nan


def msli(predicted, truth):
    return np.mean([iou_accuracy(predicted, truth, t) for t in (0.1, 0.25, 0.5, 0.75, 0.9)])
