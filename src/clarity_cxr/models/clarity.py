"""CLARiTy: class tokens and SegmentCAM on one transformer."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from clarity_cxr.models.config import ModelConfig
from clarity_cxr.models.films import network_input
from clarity_cxr.models.pooling import AttentionPooling, MeanPooling
from clarity_cxr.models.segment_cam import SegmentCAM
from clarity_cxr.models.vit import ClassTokenTransformer


@dataclass
class ClarityOutput:
    """Everything one forward pass gives; B films, C findings, N x N patches, q regularised blocks.

    Attributes:
        class_logits: (B, C), of the class tokens.
        foreground_logits: (B, C), of the masked patches; None without SegmentCAM.
        patch_logits: (B, C), of all patches; None without SegmentCAM.
        background_logits: (B, C), of what the mask left out; None in eval mode and without SegmentCAM.
        heatmap: H (B, C, N, N) in (0, 1); None without SegmentCAM.
        class_tokens: (q, B, C, D), block outputs before the final norm; None in eval mode.
        attention: A (B, C, N, N) in [0, 1]; None unless asked for.
    """

    class_logits: Tensor
    foreground_logits: Tensor | None = None
    patch_logits: Tensor | None = None
    background_logits: Tensor | None = None
    heatmap: Tensor | None = None
    class_tokens: Tensor | None = None
    attention: Tensor | None = None

    @property
    def logits(self) -> Tensor:
        """(B, C): the mean of class and foreground logits; the class logits alone without SegmentCAM."""
        if self.foreground_logits is None:
            return self.class_logits.float()
        return (self.class_logits.float() + self.foreground_logits.float()) / 2

    @property
    def probabilities(self) -> Tensor:
        """(B, C) in (0, 1): the sigmoid of `logits`."""
        return self.logits.sigmoid()


class Clarity(nn.Module):
    """The model of Figure 1; build it with `create_model`."""

    mean: Tensor
    std: Tensor

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.backbone = ClassTokenTransformer(config)
        if config.pooling == "attention":
            self.pooling = AttentionPooling(config.classes, config.width, config.pool_dropout)
        else:
            self.pooling = MeanPooling(config.pool_dropout)
        self.segment_cam = SegmentCAM(config) if config.segment_cam else None
        self.register_buffer("mean", torch.tensor(config.mean).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(config.std).view(1, 3, 1, 1), persistent=False)

    def preprocess(self, films: Tensor) -> Tensor:
        """Grey films to the model's input.

        Args:
            films: uint8 (B, S, S), or float (B, 1, S, S) in [0, 1].

        Returns:
            (B, 3, S, S) float32, normalised.
        """
        return network_input(films, self.mean, self.std)

    def forward(self, images: Tensor, return_attention: bool = False) -> ClarityOutput:
        """Classify, and localise.

        Args:
            images: (B, 3, S, S), normalised.
            return_attention: also make the attention maps A.

        Raises:
            ValueError: the images are not (B, 3, S, S) of the model's size.
        """
        size = self.config.image_size
        if images.shape[1:] != (3, size, size):
            raise ValueError(f"{self.config.name} takes images (B, 3, {size}, {size}), got {tuple(images.shape)}")
        features = self.backbone(images, return_tokens=self.training, return_attention=return_attention)
        class_tokens = features.class_tokens
        if self.config.class_token_norm:
            class_tokens = self.backbone.norm(class_tokens)
        output = ClarityOutput(
            class_logits=self.pooling(class_tokens),
            class_tokens=features.block_class_tokens,
            attention=features.attention,
        )
        if self.segment_cam is not None:
            cam = self.segment_cam(features.patch_tokens)
            output.heatmap = cam.heatmap
            output.patch_logits = cam.patch_logits
            output.foreground_logits = cam.foreground_logits
            output.background_logits = cam.background_logits
        return output
