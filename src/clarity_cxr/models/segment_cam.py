"""SegmentCAM: a mask per finding, and logits of foreground, film and background (Figures 6 to 8)."""

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import batch_norm

from clarity_cxr.models.config import BackgroundNorm, MaskGradient, ModelConfig
from clarity_cxr.models.global_batch_norm import GlobalBatchNorm2d
from clarity_cxr.models.winograd import WinogradConv2d

EXPANSION = 2


class FusedInverseBottleneck(nn.Module):
    """3x3 convolution to r times the channels, BN, SiLU, 1x1 convolution, BN; residual if widths match (Figure 8).

    The convolutions' biases stay zero: the batch norms cancel them, and their gradients are rounding errors, which
    AdamW would scale up to full steps, different ones on every device.
    """

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        hidden = EXPANSION * inputs
        self.expand = WinogradConv2d(inputs, hidden)
        self.expand_norm = GlobalBatchNorm2d(hidden)
        self.act = nn.SiLU()
        self.reduce = nn.Conv2d(hidden, outputs, 1)
        self.reduce_norm = GlobalBatchNorm2d(outputs)
        self.residual = inputs == outputs
        for convolution in (self.expand, self.reduce):
            assert convolution.bias is not None
            nn.init.zeros_(convolution.bias).requires_grad_(False)

    def forward(self, x: Tensor, running_statistics: bool = False) -> Tensor:
        """(B, inputs, N, N) to (B, outputs, N, N).

        Args:
            x: features.
            running_statistics: normalise with the running statistics even while training.
        """
        y = self.act(_normalise(self.expand_norm, self.expand(x), running_statistics))
        y = _normalise(self.reduce_norm, self.reduce(y), running_statistics)
        return x + y if self.residual else y


def _normalise(norm: nn.BatchNorm2d, x: Tensor, running_statistics: bool) -> Tensor:
    if not running_statistics:
        return norm(x)
    return batch_norm(x, norm.running_mean, norm.running_var, norm.weight, norm.bias, training=False, eps=norm.eps)


class SegmentCAMOutput(NamedTuple):
    """Outputs of SegmentCAM.

    Attributes:
        heatmap: H in (0, 1), (B, C, N, N).
        patch_logits: (B, C), of the whole film.
        foreground_logits: (B, C), of the head's output under the mask.
        background_logits: (B, C), of the head on features outside the mask; None in eval mode.
    """

    heatmap: Tensor
    patch_logits: Tensor
    foreground_logits: Tensor
    background_logits: Tensor | None


class SegmentCAM(nn.Module):
    """Heatmap head, feature head and shared classification head on the patch tokens."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.grid = config.grid
        self.mask_threshold = config.mask_threshold
        self.mask_gradient: MaskGradient = config.mask_gradient
        self.background_norm: BackgroundNorm = config.background_norm
        self.heatmap_head = FusedInverseBottleneck(config.width, config.classes)
        self.feature_head = FusedInverseBottleneck(config.width, config.classes)
        self.classification_head = nn.ModuleList(
            FusedInverseBottleneck(config.classes, config.classes) for _ in range(3)
        )
        self.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]

    def forward(self, patch_tokens: Tensor) -> SegmentCAMOutput:
        """Args:
        patch_tokens: (B, P, D), normed.
        """
        grid = patch_tokens.unflatten(1, (self.grid, self.grid)).permute(0, 3, 1, 2)
        heatmap = self.heatmap_head(grid).sigmoid()
        features = self.feature_head(grid)
        mask = self.mask(heatmap)
        background = None
        if self.training:
            scores, background = self._classify_with_background(features, (1 - mask) * features)
        else:
            scores = self._classify(features)
        return SegmentCAMOutput(
            heatmap=heatmap,
            patch_logits=scores.mean(dim=(2, 3)),
            foreground_logits=(mask * scores).mean(dim=(2, 3)),
            background_logits=None if background is None else background.mean(dim=(2, 3)),
        )

    def mask(self, heatmap: Tensor) -> Tensor:
        """S_f (B, C, N, N) of H, with the gradient that `mask_gradient` asks for."""
        if self.mask_gradient == "soft":
            return heatmap
        hard = (heatmap > self.mask_threshold).to(heatmap.dtype)
        if self.mask_gradient == "hard":
            return hard
        return hard + (heatmap - heatmap.detach())

    def _classify(self, features: Tensor, running_statistics: bool = False) -> Tensor:
        for block in self.classification_head:
            features = block(features, running_statistics)
        return features

    def _classify_with_background(self, features: Tensor, background: Tensor) -> tuple[Tensor, Tensor]:
        if self.background_norm == "joint":
            scores, background_scores = self._classify(torch.cat([features, background])).chunk(2)
            return scores, background_scores
        scores = self._classify(features)
        return scores, self._classify(background, running_statistics=self.background_norm == "running")
