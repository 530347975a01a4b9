"""From class tokens to class logits."""

import torch
from torch import Tensor, nn

from clarity_cxr.models.dropout import Dropout


class AttentionPooling(nn.Module):
    """Weighted sum over the embedding with learned, image-independent weights (Eq. 8 and 9).

    Args:
        classes: C.
        width: D.
        dropout: rate on the tokens before pooling.
    """

    def __init__(self, classes: int, width: int, dropout: float) -> None:
        super().__init__()
        self.weights = nn.Parameter(torch.randn(classes, width))
        self.dropout = Dropout(dropout)

    def forward(self, class_tokens: Tensor) -> Tensor:
        """(B, C, D) class tokens to (B, C) logits."""
        return (self.dropout(class_tokens) * self.weights.softmax(dim=-1)).sum(dim=-1)


class MeanPooling(nn.Module):
    """Mean over the embedding, the "GAP" row of Table 6."""

    def __init__(self, dropout: float) -> None:
        super().__init__()
        self.dropout = Dropout(dropout)

    def forward(self, class_tokens: Tensor) -> Tensor:
        """(B, C, D) class tokens to (B, C) logits."""
        return self.dropout(class_tokens).mean(dim=-1)
