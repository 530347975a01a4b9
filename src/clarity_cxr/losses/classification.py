"""Classification losses: weighted binary cross-entropy (Eq. 3) and its unweighted ablation."""

from typing import Literal

import torch
import torch.distributed
import torch.nn.functional as F
from torch import Tensor

from clarity_cxr.losses.precision import full_precision, require_same_shape
from clarity_cxr.processes import process_count

Reduction = Literal["mean", "sum"]


@full_precision
def weighted_bce(
    logits: Tensor, targets: Tensor, labels: Tensor | None = None, reduction: Reduction = "mean"
) -> Tensor:
    """Binary cross-entropy with batch-wise positive and negative weights (Eq. 3).

    The weights are w_P = (|P| + |N|) / |P| and w_N = (|P| + |N|) / |N|, where |P| and |N| count the
    positive and negative labels of all findings in the global batch, each taken as at least 1. Under
    `torch.distributed` the counts are summed over all processes, so every process must call this together.

    Args:
        logits: (B, C) predicted logits.
        targets: (B, C) in [0, 1]: the labels, or a teacher's probabilities when distilling.
        labels: (B, C) hard labels that |P| and |N| are counted from; `targets` >= 0.5 when not given.
        reduction: over the C findings, "mean" or the printed "sum"; the batch is always averaged.

    Returns:
        Scalar loss.

    Raises:
        ValueError: the shapes differ, or `reduction` is unknown.
    """
    labels = targets if labels is None else labels
    require_same_shape(logits=logits, targets=targets, labels=labels)
    positives, negatives = _label_counts(labels)
    total = positives + negatives
    positive_weight = (total / positives.clamp(min=1)).to(logits.dtype)
    negative_weight = (total / negatives.clamp(min=1)).to(logits.dtype)
    return _cross_entropy(logits, targets, positive_weight, negative_weight, reduction)


@full_precision
def multilabel_soft_margin(logits: Tensor, targets: Tensor, reduction: Reduction = "mean") -> Tensor:
    """Unweighted binary cross-entropy: Eq. 3 with w_P = w_N = 1 (the MLSM ablation).

    Args:
        logits: (B, C) predicted logits.
        targets: (B, C) in [0, 1].
        reduction: over the C findings, "mean" or "sum"; the batch is always averaged.

    Returns:
        Scalar loss.

    Raises:
        ValueError: the shapes differ, or `reduction` is unknown.
    """
    require_same_shape(logits=logits, targets=targets)
    one = torch.ones((), dtype=logits.dtype, device=logits.device)
    return _cross_entropy(logits, targets, one, one, reduction)


def _label_counts(labels: Tensor) -> Tensor:
    """(2,) float64 counts of positive and negative labels over all findings and all processes."""
    hard = labels if labels.dtype == torch.bool else labels >= 0.5
    positives = hard.sum(dtype=torch.float64)
    counts = torch.stack((positives, hard.numel() - positives))
    if process_count() > 1:
        torch.distributed.all_reduce(counts)
    return counts


def _cross_entropy(
    logits: Tensor, targets: Tensor, positive_weight: Tensor, negative_weight: Tensor, reduction: str
) -> Tensor:
    if reduction not in ("mean", "sum"):
        raise ValueError(f"reduction must be 'mean' or 'sum', got {reduction!r}")
    targets = targets.to(logits.dtype)
    positive = positive_weight * targets * F.logsigmoid(logits)
    negative = negative_weight * (1 - targets) * F.logsigmoid(-logits)
    terms = -(positive + negative)
    return terms.mean() if reduction == "mean" else terms.sum(dim=1).mean()
