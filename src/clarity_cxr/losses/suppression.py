"""Background activation suppression (Eq. 17)."""

import torch.nn.functional as F
from torch import Tensor

from clarity_cxr.losses.precision import full_precision, require_same_shape

EPSILON = 1e-8


@full_precision
def background_activation_suppression_loss(
    background_logits: Tensor, patch_logits: Tensor, labels: Tensor, detach_denominator: bool = False
) -> Tensor:
    """Ratio of softplus background logit to softplus patch logit, over the positive classes (Eq. 17).

    Per image, the sum over positive classes is divided by max(their number, 1); then the batch is averaged.

    Args:
        background_logits: (B, C) logits of the features outside the foreground mask.
        patch_logits: (B, C) logits of the unmasked features.
        labels: (B, C) hard labels.
        detach_denominator: send no gradient through the patch logits. Off, as printed.

    Returns:
        Scalar loss >= 0.

    Raises:
        ValueError: the shapes differ.
    """
    require_same_shape(background_logits=background_logits, patch_logits=patch_logits, labels=labels)
    labels = labels.to(patch_logits.dtype)
    whole = F.softplus(patch_logits)
    if detach_denominator:
        whole = whole.detach()
    ratio = F.softplus(background_logits) / (whole + EPSILON)
    return ((labels * ratio).sum(dim=1) / labels.sum(dim=1).clamp(min=1)).mean()
