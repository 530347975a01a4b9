"""From films to patch tokens by strided convolutions, for models that train from random weights in minutes."""

from itertools import pairwise

import torch
from torch import Tensor, nn

from clarity_cxr.models.global_batch_norm import GlobalBatchNorm2d


class ConvolutionalStem(nn.Module):
    """2x2 convolutions of stride 2 with BN and ReLU down to the patch grid, then a 1x1 convolution.

    Widths double up to the tokens'. As with timm's `PatchEmbed`, whose place it takes, a token knows its own patch
    alone: overlapping convolutions (Xiao et al., 2021) classify better and localise worse, see docs/results.md.

    Args:
        patch_size: side of a patch in pixels, a power of two.
        width: embedding width D.
    """

    def __init__(self, patch_size: int, width: int) -> None:
        super().__init__()
        halvings = patch_size.bit_length() - 1
        widths = [3, *(width >> left for left in reversed(range(halvings)))]
        layers: list[nn.Module] = []
        for inputs, outputs in pairwise(widths):
            layers += [nn.Conv2d(inputs, outputs, 2, 2, bias=False), GlobalBatchNorm2d(outputs), nn.ReLU()]
        self.layers = nn.Sequential(*layers, nn.Conv2d(width, width, 1))
        self.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]

    def forward(self, images: Tensor) -> Tensor:
        """(B, 3, S, S) to (B, P, D), row by row."""
        return self.layers(images).flatten(2).transpose(1, 2)
