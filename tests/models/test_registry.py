import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from clarity_cxr.errors import ConfigError
from clarity_cxr.models import create_model, list_models


def count(module: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


@pytest.mark.parametrize(
    ("name", "backbone", "total", "giga_multiply_adds"),
    [
        ("clarity_s16_224", 21_675_648, 27_027_774, 5.99),
        ("clarity_s16_512", 21_993_600, 27_345_726, 37.84),
    ],
)
def test_sizes_are_the_published_ones(name: str, backbone: int, total: int, giga_multiply_adds: float) -> None:
    """Table 7; multiply-adds include the background pass and are half of the counted operations."""
    model = create_model(name).train()
    assert count(model.backbone) == backbone
    assert count(model.pooling) == 5_376
    assert model.segment_cam is not None
    assert count(model.segment_cam) == 5_346_750
    assert count(model) == total
    size = model.config.image_size
    with FlopCounterMode(display=False) as counter, torch.device("meta"):
        model.to("meta")(torch.empty(2, 3, size, size))
    assert counter.get_total_flops() / 2 / 2 / 1e9 == pytest.approx(giga_multiply_adds, rel=0.01)


@pytest.mark.parametrize("name", list_models())
def test_every_model_is_named_as_it_is_registered(name: str) -> None:
    assert create_model(name).config.name == name


@pytest.mark.parametrize(
    ("name", "segment_cam"), [("clarity_t8_64", True), ("clarity_t8_64", False), ("clarity_t8_64_conv", True)]
)
def test_small_model_gives_documented_shapes(name: str, segment_cam: bool) -> None:
    model = create_model(name, segment_cam=segment_cam)
    classes, grid, config = 14, 8, model.config
    images = torch.randn(3, 3, 64, 64)
    output = model.train()(images, return_attention=True)
    assert output.class_logits.shape == (3, classes)
    assert output.class_tokens.shape == (config.token_blocks, 3, classes, config.width)
    assert output.attention.shape == (3, classes, grid, grid)
    assert output.logits.shape == output.probabilities.shape == (3, classes)
    masked = (output.foreground_logits, output.patch_logits, output.background_logits, output.heatmap)
    if segment_cam:
        assert [tuple(value.shape) for value in masked] == [(3, classes)] * 3 + [(3, classes, grid, grid)]
    else:
        assert masked == (None, None, None, None)
    output = model.eval()(images)
    assert output.background_logits is None
    assert output.class_tokens is None
    assert output.attention is None


def test_unknown_name_lists_the_known_ones() -> None:
    with pytest.raises(ConfigError, match=r"unknown model 'clarity_s16_225'.*clarity_s16_224"):
        create_model("clarity_s16_225")


def test_unknown_option_is_named() -> None:
    with pytest.raises(ConfigError, match=r"unknown options \['depht'\]"):
        create_model("clarity_t8_64", depht=3)


def test_impossible_values_are_reported_together() -> None:
    with pytest.raises(ConfigError, match=r"multiple of patch_size.*attention_blocks is 9.*mask_threshold is 1"):
        create_model("clarity_t8_64", image_size=65, attention_blocks=9, mask_threshold=1.0)


def test_a_convolutional_stem_halves_down_to_a_patch() -> None:
    with pytest.raises(ConfigError, match="patch_size 12 is not a power of two"):
        create_model("clarity_t8_64_conv", image_size=96, patch_size=12)
