"""Class-token regularisers: orthogonal (Eq. 7) and, for the ablation, contrastive (Eq. 20)."""

import torch
import torch.nn.functional as F
from torch import Tensor

from clarity_cxr.losses.precision import full_precision

EPSILON = 1e-8


def class_token_similarity(tokens: Tensor) -> Tensor:
    """Cosine similarity between the class tokens of one image and block (Eq. 6).

    Args:
        tokens: (q, B, C, D) class tokens; a token shorter than 1e-8 counts as that long.

    Returns:
        (q, B, C, C) similarities in [-1, 1].
    """
    norms = torch.linalg.vector_norm(tokens, dim=-1).clamp(min=EPSILON)
    return tokens @ tokens.transpose(-1, -2) / (norms[..., :, None] * norms[..., None, :])


@full_precision
def orthogonal_class_token_loss(tokens: Tensor, labels: Tensor) -> Tensor:
    """Mean squared cosine similarity of each positive class's token to the other classes' tokens (Eq. 7).

    Computed per image with the printed normaliser (C - 1)(q * positives + 1e-8), then averaged over the
    batch; an image without a positive class contributes zero.

    Args:
        tokens: (q, B, C, D) class tokens after each of the last q blocks, before the final norm.
        labels: (B, C) hard labels.

    Returns:
        Scalar loss in [0, 1].

    Raises:
        ValueError: `tokens` and `labels` disagree on B or C.
    """
    _require_tokens(tokens, labels)
    blocks, _, classes, _ = tokens.shape
    labels = labels.to(tokens.dtype)
    others = 1 - torch.eye(classes, dtype=tokens.dtype, device=tokens.device)
    squared = class_token_similarity(tokens).square() * others
    per_image = (squared.sum(dim=(0, 3)) * labels).sum(dim=1)
    normaliser = max(classes - 1, 1) * (blocks * labels.sum(dim=1) + EPSILON)
    return (per_image / normaliser).mean()


@full_precision
def contrastive_class_token_loss(tokens: Tensor, labels: Tensor) -> Tensor:
    """Cross-entropy of the cosine-similarity rows of positive classes against the diagonal (Eq. 20).

    The similarities are the logits, without a temperature. Each image's sum over its positive rows is divided
    by their number (an image without any contributes zero), then averaged over the q blocks and the batch.

    Args:
        tokens: (q, B, C, D) class tokens after each block.
        labels: (B, C) hard labels.

    Returns:
        Scalar loss.

    Raises:
        ValueError: `tokens` and `labels` disagree on B or C.
    """
    _require_tokens(tokens, labels)
    labels = labels.to(tokens.dtype)
    log_probabilities = F.log_softmax(class_token_similarity(tokens), dim=-1)
    own = log_probabilities.diagonal(dim1=-2, dim2=-1)
    per_image = -(own * labels).sum(dim=-1) / labels.sum(dim=-1).clamp(min=1)
    return per_image.mean()


def _require_tokens(tokens: Tensor, labels: Tensor) -> None:
    if tokens.dim() != 4 or tokens.shape[1:3] != labels.shape:
        raise ValueError(
            f"expected tokens (q, B, C, D) and labels (B, C), got {tuple(tokens.shape)} and {tuple(labels.shape)}"
        )
