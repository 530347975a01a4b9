"""Every model by its name: one plain function each."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from clarity_cxr.errors import ConfigError
from clarity_cxr.models.clarity import Clarity
from clarity_cxr.models.config import ModelConfig, override
from clarity_cxr.models.pretrained import load_starting_weights

_MODELS: dict[str, Callable[[], ModelConfig]] = {}


def register(function: Callable[[], ModelConfig]) -> Callable[[], ModelConfig]:
    """Make `function` known as a model of its own name."""
    _MODELS[function.__name__] = function
    return function


def list_models() -> list[str]:
    """Names that `create_model` knows."""
    return sorted(_MODELS)


def create_model(name: str, weights: str | Path | None = None, **options: Any) -> Clarity:
    """Build a registered model.

    Args:
        name: one of `list_models()`.
        weights: starting weights, see `clarity_cxr.models.pretrained.load_starting_weights`; None is random.
        **options: fields of `ModelConfig` to replace.

    Raises:
        ConfigError: unknown name or option, or an impossible value.
        CheckpointError: the weights cannot be had or do not fit.
    """
    if name not in _MODELS:
        raise ConfigError(f"unknown model {name!r}; known models are {', '.join(list_models())}, and timm's to teach")
    model = Clarity(override(_MODELS[name](), options))
    if weights is not None:
        load_starting_weights(model, weights)
    return model


@register
def clarity_s16_224() -> ModelConfig:
    """CLARiTy-S-16-224: ViT-S/16, 14 x 14 patches."""
    return ModelConfig("clarity_s16_224", image_size=224)


@register
def clarity_s16_512() -> ModelConfig:
    """CLARiTy-S-16-512: ViT-S/16, 32 x 32 patches; starts from a trained clarity_s16_224."""
    return ModelConfig("clarity_s16_512", image_size=512)


@register
def clarity_t8_64() -> ModelConfig:
    """A tiny one for studies on phantoms: 64 px, 8 x 8 patches of 8 px, no dropout."""
    return ModelConfig(
        "clarity_t8_64",
        image_size=64,
        patch_size=8,
        width=96,
        depth=6,
        heads=3,
        attention_blocks=4,
        token_blocks=4,
        pool_dropout=0.0,
        mlp_dropout=0.0,
        attention_dropout=0.0,
        drop_path=0.0,
        mean=(0.5, 0.5, 0.5),
        std=(0.25, 0.25, 0.25),
    )


@register
def clarity_t8_64_conv() -> ModelConfig:
    """The demo's: `clarity_t8_64` with four blocks behind a convolutional stem, and soft masks, to learn in minutes."""
    return replace(clarity_t8_64(), name="clarity_t8_64_conv", stem="convolutional", depth=4, mask_gradient="soft")
