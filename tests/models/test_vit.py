import pytest
import timm
import torch

from clarity_cxr.models import Clarity


def explicit_attention(model: Clarity, images: torch.Tensor) -> torch.Tensor:
    """A by its definition: whole softmax, mean over heads and the last p blocks, C rows, P columns."""
    config, backbone = model.config, model.backbone
    classes = config.classes
    tokens = torch.cat([backbone.class_tokens.expand(len(images), -1, -1), backbone.patch_embed(images)], dim=1)
    tokens = tokens + backbone.positions
    maps = []
    for block in backbone.blocks:
        normed = block.norm1(tokens)
        batch, length, width = normed.shape
        qkv = block.attn.qkv(normed).reshape(batch, length, 3, config.heads, width // config.heads)
        query, key, _ = qkv.permute(2, 0, 3, 1, 4)
        weights = (query @ key.transpose(-2, -1) / (width // config.heads) ** 0.5).softmax(dim=-1)
        maps.append(weights.mean(dim=1)[:, :classes, classes:])
        tokens = block(tokens)
    fused = torch.stack(maps[-config.attention_blocks :]).mean(dim=0)
    return fused.reshape(len(images), classes, config.grid, config.grid)


def test_attention_rows_equal_the_whole_softmax(model: Clarity, images: torch.Tensor) -> None:
    model.eval()
    with torch.no_grad():
        attention = model(images, return_attention=True).attention
        torch.testing.assert_close(attention, explicit_attention(model, images), atol=1e-6, rtol=1e-5)
    assert attention.min() >= 0
    assert attention.sum(dim=(2, 3)).max() <= 1 + 1e-6


def test_attention_is_a_by_product(model: Clarity, images: torch.Tensor) -> None:
    model.eval()
    with torch.no_grad():
        plain, with_maps = model(images), model(images, return_attention=True)
    torch.testing.assert_close(plain.logits, with_maps.logits, atol=1e-5, rtol=1e-5)


def test_bfloat16_training_takes_the_explicit_path_and_agrees(model: Clarity, images: torch.Tensor) -> None:
    """Explicit and fused attention differ by bfloat16 rounding only (8 bits of mantissa, three blocks)."""
    expected = model.eval()(images).class_logits
    with torch.autocast("cpu", torch.bfloat16):
        actual = model(images).class_logits
    torch.testing.assert_close(actual.float(), expected, atol=0.03, rtol=0.05)


def test_with_one_class_token_it_is_timms_transformer() -> None:
    """Same weights, one token: the patch tokens equal those of timm's own ViT."""
    reference = timm.create_model(
        "vit_small_patch16_224", img_size=64, patch_size=8, embed_dim=32, depth=3, num_heads=2, num_classes=0
    ).eval()
    from clarity_cxr.models.config import ModelConfig
    from clarity_cxr.models.vit import ClassTokenTransformer

    config = ModelConfig(
        "one", 64, 8, 32, 3, 2, attention_blocks=1, token_blocks=1, findings=("Mass",), mlp_dropout=0, drop_path=0
    )
    ours = ClassTokenTransformer(config).eval()
    weights = dict(reference.state_dict())
    weights["class_tokens"], weights["positions"] = weights.pop("cls_token"), weights.pop("pos_embed")
    ours.load_state_dict(weights)
    images = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        expected = reference.forward_features(images)
        actual = ours(images)
    torch.testing.assert_close(actual.patch_tokens, expected[:, 1:], atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(ours.norm(actual.class_tokens), expected[:, :1], atol=1e-5, rtol=1e-5)


def test_block_tokens_are_the_last_q_before_the_norm(model: Clarity, images: torch.Tensor) -> None:
    features = model.train().backbone(images, return_tokens=True)
    assert features.block_class_tokens is not None
    torch.testing.assert_close(features.block_class_tokens[-1], features.class_tokens)


def test_images_of_another_size_are_refused(model: Clarity) -> None:
    with pytest.raises(ValueError, match=r"takes images \(B, 3, 64, 64\), got \(1, 3, 32, 32\)"):
        model(torch.zeros(1, 3, 32, 32))
