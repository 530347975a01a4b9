"""Macro AUC as a torchmetrics class. A module of its own: importing torchmetrics takes longer than most commands."""

from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.utilities import dim_zero_cat

from clarity_cxr.metrics.classification import macro_auc


class MacroAUC(Metric):
    """Macro AUC over an epoch; scores and labels are gathered from all processes."""

    is_differentiable = False
    higher_is_better = True
    full_state_update = False
    scores: list[Tensor]
    labels: list[Tensor]

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.add_state("scores", default=[], dist_reduce_fx="cat")
        self.add_state("labels", default=[], dist_reduce_fx="cat")

    def update(self, scores: Tensor, labels: Tensor) -> None:
        """Add a batch.

        Args:
            scores: (B, C) scores.
            labels: (B, C) hard labels.
        """
        self.scores.append(scores.detach().float())
        self.labels.append(labels.detach().bool())

    def compute(self) -> Tensor:
        """Macro AUC of everything seen so far.

        Returns:
            Scalar float64; NaN when no finding is defined.
        """
        scores, labels = dim_zero_cat(self.scores), dim_zero_cat(self.labels)
        return torch.tensor(macro_auc(scores.cpu(), labels.cpu()).value, dtype=torch.float64)
