"""From grey films to probabilities and maps: the one graph that `Predictor` runs and `clarity export` writes."""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from clarity_cxr.localization.heatmaps import localization_heatmaps
from clarity_cxr.models import Clarity


class FilmOutput(NamedTuple):
    """What a model gives for B films of side S; C findings, N x N patches.

    Attributes:
        probabilities: (B, C) float32.
        heatmaps: Xi (B, C, S, S) float32 in [0, 1].
        attention: A (B, C, N, N) float32.
        masks: S_f (B, C, N, N) bool; all True for a model without SegmentCAM.
    """

    probabilities: Tensor
    heatmaps: Tensor
    attention: Tensor
    masks: Tensor


class FilmModel(nn.Module):
    """A CLARiTy with what comes before and after it."""

    def __init__(self, clarity: Clarity) -> None:
        super().__init__()
        self.clarity = clarity

    def forward(self, films: Tensor) -> FilmOutput:
        """Args:
        films: (B, S, S) uint8, air dark and bone bright.
        """
        clarity = self.clarity
        output = clarity(clarity.preprocess(films), return_attention=True)
        attention = output.attention.float()
        threshold = clarity.config.mask_threshold
        heatmap = None if output.heatmap is None else output.heatmap.float()
        return FilmOutput(
            probabilities=output.probabilities.float(),
            heatmaps=localization_heatmaps(attention, heatmap, threshold, clarity.config.image_size),
            attention=attention,
            masks=torch.ones_like(attention, dtype=torch.bool) if heatmap is None else heatmap > threshold,
        )
