"""Starting weights: a timm ViT or another CLARiTy, fitted to the model's own tokens and grid."""

from pathlib import Path
from urllib.error import URLError

import timm
import torch
from timm.layers.pos_embed import resample_abs_pos_embed
from torch import Tensor

from clarity_cxr.errors import CheckpointError
from clarity_cxr.models.checkpoints import HEADER, has_header, read_metadata, read_tensors
from clarity_cxr.models.clarity import Clarity
from clarity_cxr.models.config import ModelConfig

TIMM_SUFFIXES = (".safetensors", ".pth", ".pt", ".bin")


def load_starting_weights(model: Clarity, source: str | Path) -> None:
    """Initialise `model` in place.

    From a plain ViT every class token starts as its class token, and every class position as its class position, each
    token with its own N(0, `class_token_noise`) noise from a fixed key; pooling and SegmentCAM stay as they are. From
    a CLARiTy checkpoint everything is taken. Patch positions are resized to the model's grid (bicubic).

    Args:
        model: the model to fill.
        source: a timm name such as `vit_small_patch16_224.dino` (fetched from its hub), a file in timm's layout, or a
            CLARiTy checkpoint.

    Raises:
        CheckpointError: the weights cannot be fetched or read, or do not fit the model.
    """
    tensors = timm_tensors(source)
    if has_header(Path(source), HEADER):
        fitted = _fit_clarity(tensors, read_metadata(Path(source)).config, model.config, str(source))
        load_into(model, fitted, str(source))
    else:
        load_into(model.backbone, _fit_vit(tensors, model.config, str(source)), str(source))


def timm_tensors(source: str | Path) -> dict[str, Tensor]:
    """Floating-point tensors of a timm name (fetched from its hub, without the classifier) or of a weights file.

    Raises:
        CheckpointError: the weights cannot be fetched or read.
    """
    path = Path(source)
    if path.suffix not in TIMM_SUFFIXES:
        tensors = _fetch(str(source))
    else:
        tensors = read_tensors(path) if path.suffix == ".safetensors" else _read_pickle(path)
    return {name: tensor.float() for name, tensor in tensors.items() if tensor.is_floating_point()}


def _fetch(name: str) -> dict[str, Tensor]:
    if not timm.is_model(name.split(".")[0]):
        raise CheckpointError(
            f"{name!r} is neither a file nor a model that timm knows; expected a timm name such as "
            "'vit_small_patch16_224.dino', a file in timm's layout, or a CLARiTy checkpoint"
        )
    try:
        return timm.create_model(name, pretrained=True, num_classes=0).state_dict()
    except (OSError, URLError, RuntimeError) as error:
        raise CheckpointError(
            f"{name}: timm could not fetch these weights ({type(error).__name__}: {error}). Without network access, "
            "download the model's safetensors file elsewhere and give its path as model.weights"
        ) from error


def _read_pickle(path: Path) -> dict[str, Tensor]:
    if not path.is_file():
        raise CheckpointError(f"{path}: no such weights file")
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        raise CheckpointError(f"{path}: not a plain file of tensors ({error}); convert it to safetensors") from error
    content = content.get("model", content.get("state_dict", content))
    return {name: value for name, value in content.items() if isinstance(value, Tensor)}


def _fit_vit(tensors: dict[str, Tensor], config: ModelConfig, source: str) -> dict[str, Tensor]:
    missing = [name for name in ("cls_token", "pos_embed", "norm.weight") if name not in tensors]
    if missing:
        raise CheckpointError(f"{source}: not a ViT in timm's layout, {missing} are missing")
    kept = ("patch_embed.", "blocks.", "norm.")
    fitted = {name: tensor for name, tensor in tensors.items() if name.startswith(kept)}
    token, positions = tensors["cls_token"], tensors["pos_embed"]
    class_position, patch_positions = positions[:, :1], positions[:, 1:]
    noise = torch.Generator().manual_seed(0)
    shape = (1, config.classes, token.shape[-1])
    fitted["class_tokens"] = token + config.class_token_noise * torch.randn(shape, generator=noise)
    fitted["positions"] = torch.cat(
        [
            class_position.expand(shape),
            resize_positions(patch_positions, config.grid, config.position_antialias),
        ],
        dim=1,
    )
    return fitted


def _fit_clarity(
    tensors: dict[str, Tensor], source_config: ModelConfig, config: ModelConfig, source: str
) -> dict[str, Tensor]:
    if source_config.findings != config.findings:
        raise CheckpointError(f"{source}: made for the findings {list(source_config.findings)}")
    positions = tensors["backbone.positions"]
    classes = config.classes
    tensors["backbone.positions"] = torch.cat(
        [
            positions[:, :classes],
            resize_positions(positions[:, classes:], config.grid, config.position_antialias),
        ],
        dim=1,
    )
    return tensors


def resize_positions(positions: Tensor, grid: int, antialias: bool) -> Tensor:
    """Resize patch positions (1, P, D) of a square grid to (1, grid * grid, D), bicubic."""
    return resample_abs_pos_embed(positions, [grid, grid], num_prefix_tokens=0, antialias=antialias)


def load_into(module: torch.nn.Module, tensors: dict[str, Tensor], source: str) -> None:
    """Load every tensor of a module; only BatchNorm's counters may be missing.

    Raises:
        CheckpointError: shapes or names do not fit.
    """
    counters = {name for name in module.state_dict() if name.endswith("num_batches_tracked")}
    try:
        missing, unexpected = module.load_state_dict(tensors, strict=False)
    except RuntimeError as error:
        raise CheckpointError(f"{source}: shapes do not fit this model: {error}") from error
    missing = [name for name in missing if name not in counters]
    if missing or unexpected:
        raise CheckpointError(
            f"{source}: does not fit this model; missing {missing[:4]} ({len(missing)}), "
            f"unexpected {list(unexpected)[:4]} ({len(unexpected)})"
        )
