"""Vision transformer with one class token per finding, built from timm's blocks."""

from typing import Any, NamedTuple

import torch
from timm.layers.attention import Attention
from timm.layers.patch_embed import PatchEmbed
from timm.layers.weight_init import trunc_normal_
from timm.models.vision_transformer import Block
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from clarity_cxr.models.config import ModelConfig
from clarity_cxr.models.dropout import use_cheap_dropout
from clarity_cxr.models.stem import ConvolutionalStem


class ClassRowAttention(Attention):
    """timm's self-attention that can also return the class tokens' attention to the patches."""

    def forward(self, x: Tensor, attn_mask: Tensor | None = None, is_causal: bool = False) -> Tensor:
        """Self-attention on normed tokens (B, T, D); masks are not supported.

        Fused, but on a CPU explicit where it trains in bf16 or with dropout: both make the fused kernel slow there.
        """
        query, key, value = self._project(x)
        dropped = self.training and self.attn_drop.p > 0
        if x.device.type == "cpu" and torch.is_grad_enabled() and (dropped or torch.is_autocast_enabled("cpu")):
            weights = ((query * self.scale) @ key.transpose(-2, -1)).softmax(dim=-1)
            return self._merge(self.attn_drop(weights).to(value.dtype) @ value)
        return self._merge(self._fused(query, key, value))

    def forward_with_class_rows(self, x: Tensor, classes: int) -> tuple[Tensor, Tensor]:
        """The output of `forward` and the class tokens' attention.

        Only the first `classes` rows of the softmax are made explicit; it runs over all T keys, before dropout.

        Args:
            x: normed tokens (B, T, D), class tokens first.
            classes: C.

        Returns:
            Output tokens (B, T, D) and the class rows' mean over heads, patch columns only (B, C, T - C).
        """
        query, key, value = self._project(x)
        scores = (query[:, :, :classes].float() * self.scale) @ key.float().transpose(-2, -1)
        rows = scores.softmax(dim=-1)[..., classes:].mean(dim=1)
        return self._merge(self._fused(query, key, value)), rows

    def _project(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        query, key, value = self.qkv(x).unflatten(-1, (3, self.num_heads, self.head_dim)).permute(2, 0, 3, 1, 4)
        return query, key, value

    def _fused(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        dropout = self.attn_drop.p if self.training else 0.0
        return nn.functional.scaled_dot_product_attention(query, key, value, dropout_p=dropout)

    def _merge(self, mixed: Tensor) -> Tensor:
        return self.proj_drop(self.proj(mixed.transpose(1, 2).flatten(2)))


class BackboneOutput(NamedTuple):
    """Tokens after the last block.

    Attributes:
        class_tokens: (B, C, D), not normed.
        patch_tokens: (B, P, D), after the final LayerNorm.
        block_class_tokens: (q, B, C, D), outputs of the last q blocks before the norm, or None.
        attention: (B, C, N, N), class-to-patch attention averaged over heads and the last p blocks, or None.
    """

    class_tokens: Tensor
    patch_tokens: Tensor
    block_class_tokens: Tensor | None
    attention: Tensor | None


class ClassTokenTransformer(nn.Module):
    """ViT whose C class tokens come first and have positions of their own.

    Its names are timm's (`patch_embed`, `blocks`, `norm`) but for `class_tokens` (1, C, D) and `positions`
    (1, C + P, D).
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        norm_layer = LayerNorm
        if config.stem == "convolutional":
            self.patch_embed = ConvolutionalStem(config.patch_size, config.width)
        else:
            self.patch_embed = PatchEmbed(config.image_size, config.patch_size, 3, config.width)
        self.class_tokens = nn.Parameter(torch.empty(1, config.classes, config.width))
        self.positions = nn.Parameter(torch.empty(1, config.classes + config.grid**2, config.width))
        rates = torch.linspace(0, config.drop_path, config.depth).tolist()
        self.blocks = nn.ModuleList(
            Block(
                config.width,
                config.heads,
                mlp_ratio=config.mlp_ratio,
                qkv_bias=True,
                proj_drop=config.mlp_dropout,
                attn_drop=config.attention_dropout,
                drop_path=rate,
                norm_layer=norm_layer,
                attn_layer=ClassRowAttention,
            )
            for rate in rates
        )
        use_cheap_dropout(self.blocks)
        self.grad_checkpointing = False
        self.norm = norm_layer(config.width)
        self.initialize()

    def initialize(self) -> None:
        """Xavier for linear weights, as the original ViT; truncated normal of 0.02 for tokens and positions.

        A fixed 0.02 for linear weights is made for wide models: at D = 128 attention then starts nearly uniform.
        """
        trunc_normal_(self.class_tokens, std=0.02)
        trunc_normal_(self.positions, std=0.02)
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.xavier_uniform_(module.weight)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        """Keep only the blocks' inputs for the backward pass and compute the rest again; timm's name for it."""
        self.grad_checkpointing = enable

    def forward(self, images: Tensor, return_tokens: bool = False, return_attention: bool = False) -> BackboneOutput:
        """Run the blocks.

        Args:
            images: (B, 3, S, S), normalised.
            return_tokens: collect the class tokens of the last q blocks.
            return_attention: collect the attention maps of the last p blocks.
        """
        config = self.config
        classes = config.classes
        patches = self.patch_embed(images)
        tokens = torch.cat([self.class_tokens.expand(images.shape[0], -1, -1), patches], dim=1) + self.positions
        kept_tokens, kept_rows = [], []
        for index, block in enumerate(self.blocks):
            if return_attention and index >= config.depth - config.attention_blocks:
                tokens, rows = _block_with_class_rows(block, tokens, classes)
                kept_rows.append(rows)
            elif self.grad_checkpointing and torch.is_grad_enabled():
                tokens = checkpoint(block, tokens, use_reentrant=False)
            else:
                tokens = block(tokens)
            if return_tokens and index >= config.depth - config.token_blocks:
                kept_tokens.append(tokens[:, :classes])
        attention = None
        if return_attention:
            attention = torch.stack(kept_rows).mean(dim=0).unflatten(-1, (config.grid, config.grid))
        return BackboneOutput(
            class_tokens=tokens[:, :classes],
            patch_tokens=self.norm(tokens[:, classes:]),
            block_class_tokens=torch.stack(kept_tokens) if return_tokens else None,
            attention=attention,
        )


class LayerNorm(nn.LayerNorm):
    """LayerNorm with the eps of 1e-6 that ViT weights are made for."""

    def __init__(self, width: int, **factory: torch.device | torch.dtype | None) -> None:
        super().__init__(width, eps=1e-6, **factory)  # pyright: ignore[reportArgumentType]


def _block_with_class_rows(block: Any, tokens: Tensor, classes: int) -> tuple[Tensor, Tensor]:
    mixed, rows = block.attn.forward_with_class_rows(block.norm1(tokens), classes)
    tokens = tokens + block.drop_path1(block.ls1(mixed))
    tokens = tokens + block.drop_path2(block.ls2(block.mlp(block.norm2(tokens))))
    return tokens, rows
