"""The losses as written in the paper (and its errata), in float64 loops over images and findings."""

import numpy as np

from tests.reference.edt import euclidean_distance_transform


def sigmoid(x: float) -> float:
    return 1 / (1 + np.exp(-x))


def softplus(x: float) -> float:
    return np.log1p(np.exp(x))


def weighted_bce(logits, targets, labels, reduction="mean", weighted=True):
    positives = max(int(labels.sum()), 1)
    negatives = max(int((1 - labels).sum()), 1)
    total = labels.size
    w_p, w_n = (total / positives, total / negatives) if weighted else (1.0, 1.0)
    images = []
    for b in range(len(logits)):
        terms = [
            -(w_p * u * np.log(sigmoid(x)) + w_n * (1 - u) * np.log(1 - sigmoid(x)))
            for x, u in zip(logits[b], targets[b], strict=True)
        ]
        images.append(np.sum(terms) if reduction == "sum" else np.mean(terms))
    return np.mean(images)


def cosine(a, b):
    return float(a @ b / (np.linalg.norm(a) * np.linalg.norm(b)))


def orthogonal_class_token_loss(tokens, labels):
    blocks, images, classes, _ = tokens.shape
    values = []
    for b in range(images):
        total = 0.0
        for block in range(blocks):
            for c in range(classes):
                for k in range(classes):
                    if k != c and labels[b, c]:
                        total += cosine(tokens[block, b, c], tokens[block, b, k]) ** 2
        values.append(total / ((classes - 1) * (blocks * labels[b].sum() + 1e-8)))
    return np.mean(values)


def contrastive_class_token_loss(tokens, labels):
    blocks, images, classes, _ = tokens.shape
    values = []
    for b in range(images):
        total = 0.0
        for block in range(blocks):
            for c in range(classes):
                if labels[b, c]:
                    row = np.array([cosine(tokens[block, b, c], tokens[block, b, k]) for k in range(classes)])
                    total += -np.log(np.exp(row[c]) / np.exp(row).sum())
        values.append(total / (blocks * max(labels[b].sum(), 1)))
    return np.mean(values)


def region_similarity_weights(regions, form="text"):
    images, classes = regions.shape[:2]
    weights = np.zeros((images, classes))
    for b in range(images):
        mu = np.zeros(classes)
        for c in range(classes):
            for k in range(classes):
                both = regions[b, c].any() and regions[b, k].any()
                if k != c and both:
                    u, v = regions[b, c].ravel().astype(float), regions[b, k].ravel().astype(float)
                    mu[c] += cosine(u, v) / (classes - 1)
        weights[b] = 1 + mu.max() - mu if form == "text" else 2 - mu - mu.min()
    return weights


def mask_proximity_loss(heatmaps, regions):
    images, classes, height, width = heatmaps.shape
    weights = region_similarity_weights(regions)
    values = []
    for b in range(images):
        total = 0.0
        for c in range(classes):
            if regions[b, c].any():
                distance = euclidean_distance_transform(regions[b, c])
                total += (heatmaps[b, c] * distance).sum() * weights[b, c]
        values.append(8 * total / (height * width * classes * (height + width)))
    return np.mean(values)


def mask_confinement_loss(heatmaps, regions, form="text"):
    images, classes, height, width = heatmaps.shape
    weights = region_similarity_weights(regions)
    values = []
    for b in range(images):
        total = 0.0
        for c in range(classes):
            if not regions[b, c].any():
                continue
            outside = heatmaps[b, c] * ~regions[b, c]
            if form == "text":
                total += weights[b, c] * outside.sum() / (heatmaps[b, c].sum() + 1e-8)
            else:
                total += weights[b, c] * (outside / heatmaps[b, c]).sum() / (height * width)
        values.append(total / classes)
    return np.mean(values)


def background_activation_suppression_loss(background, patch, labels):
    values = []
    for b in range(len(labels)):
        total = 0.0
        for c in range(labels.shape[1]):
            if labels[b, c]:
                total += softplus(background[b, c]) / (softplus(patch[b, c]) + 1e-8)
        values.append(total / max(labels[b].sum(), 1))
    return np.mean(values)
