from pathlib import Path
from urllib.error import URLError

import pytest
import timm
import torch
import torch.nn.functional as F
from safetensors.torch import save_file

from clarity_cxr.errors import CheckpointError
from clarity_cxr.models import Clarity, create_model, save_checkpoint

WEIGHTS = Path(__file__).parents[2].parent / "shared/weights/vit_small_patch16_224.dinov2_resampled.fp16.safetensors"
SMALL = {"width": 32, "heads": 2, "depth": 2, "attention_blocks": 1, "token_blocks": 1}


@pytest.fixture
def vit() -> dict[str, torch.Tensor]:
    torch.manual_seed(3)
    model = timm.create_model(
        "vit_small_patch16_224", img_size=32, patch_size=8, embed_dim=32, depth=2, num_heads=2, num_classes=0
    )
    return model.state_dict()


def test_every_class_token_starts_as_the_pretrained_one(vit: dict[str, torch.Tensor], tmp_path: Path) -> None:
    save_file(vit, tmp_path / "vit.safetensors")
    model = create_model("clarity_t8_64", weights=tmp_path / "vit.safetensors", class_token_noise=0.0, **SMALL)
    backbone = model.backbone
    assert torch.equal(backbone.class_tokens, vit["cls_token"].expand(1, 14, 32))
    assert torch.equal(backbone.positions[:, :14], vit["pos_embed"][:, :1].expand(1, 14, 32))
    patches = vit["pos_embed"][:, 1:].reshape(1, 4, 4, 32).permute(0, 3, 1, 2)
    resized = F.interpolate(patches, size=(8, 8), mode="bicubic", antialias=False).permute(0, 2, 3, 1).flatten(1, 2)
    torch.testing.assert_close(backbone.positions[:, 14:], resized)
    assert torch.equal(backbone.blocks[1].attn.qkv.weight, vit["blocks.1.attn.qkv.weight"])


def test_noise_tells_class_tokens_apart_and_is_the_same_each_time(vit: dict[str, torch.Tensor], tmp_path: Path) -> None:
    save_file(vit, tmp_path / "vit.safetensors")
    tokens = [
        create_model("clarity_t8_64", weights=tmp_path / "vit.safetensors", **SMALL).backbone.class_tokens.detach()
        for _ in range(2)
    ]
    assert torch.equal(*tokens)
    noise = tokens[0] - vit["cls_token"]
    assert noise.std().item() == pytest.approx(0.02, rel=0.1)
    assert torch.unique(tokens[0], dim=1).shape[1] == 14


def test_plain_pickle_of_tensors(vit: dict[str, torch.Tensor], tmp_path: Path) -> None:
    torch.save({"model": vit}, tmp_path / "vit.pth")
    model = create_model("clarity_t8_64", weights=tmp_path / "vit.pth", **SMALL)
    assert torch.equal(model.backbone.norm.weight, vit["norm.weight"])


def test_from_a_smaller_clarity_with_interpolated_positions(tmp_path: Path) -> None:
    source = create_model("clarity_t8_64", image_size=32, **SMALL)
    save_checkpoint(tmp_path / "small.safetensors", source)
    model = create_model("clarity_t8_64", weights=tmp_path / "small.safetensors", **SMALL)
    assert torch.equal(model.backbone.positions[:, :14], source.backbone.positions[:, :14])
    assert model.backbone.positions.shape == (1, 14 + 64, 32)
    assert torch.equal(model.segment_cam.feature_head.expand.weight, source.segment_cam.feature_head.expand.weight)
    assert torch.equal(model.pooling.weights, source.pooling.weights)


def test_no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise URLError("no route")

    monkeypatch.setattr(timm, "create_model", refuse)
    with pytest.raises(CheckpointError, match=r"vit_small_patch16_224\.dino: timm could not fetch.*give its path"):
        create_model("clarity_s16_224", weights="vit_small_patch16_224.dino")


def test_unknown_source() -> None:
    with pytest.raises(CheckpointError, match="'vit_smal' is neither a file nor a model that timm knows"):
        create_model("clarity_t8_64", weights="vit_smal")


def test_not_a_vit(tmp_path: Path) -> None:
    save_file({"conv.weight": torch.zeros(1)}, tmp_path / "cnn.safetensors")
    with pytest.raises(CheckpointError, match=r"not a ViT in timm's layout, \['cls_token'"):
        create_model("clarity_t8_64", weights=tmp_path / "cnn.safetensors")


def test_weights_of_another_width(vit: dict[str, torch.Tensor], tmp_path: Path) -> None:
    save_file(vit, tmp_path / "vit.safetensors")
    with pytest.raises(CheckpointError, match="shapes do not fit this model"):
        create_model("clarity_t8_64", weights=tmp_path / "vit.safetensors")


@pytest.mark.skipif(not WEIGHTS.is_file(), reason="the pretrained ViT-S is not beside the project")
def test_real_vit_s_fits_both_sizes() -> None:
    small = create_model("clarity_s16_224", weights=WEIGHTS)
    large = create_model("clarity_s16_512", weights=WEIGHTS)
    assert isinstance(small, Clarity)
    assert torch.equal(small.backbone.norm.weight, large.backbone.norm.weight)
    assert large.backbone.positions.shape == (1, 14 + 1024, 384)
