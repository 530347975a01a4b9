"""The teacher: any timm classifier with a head of its own for the findings, and its checkpoint file."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import timm
import torch
from torch import Tensor, nn

from clarity_cxr.errors import CheckpointError, ConfigError
from clarity_cxr.findings import FINDINGS
from clarity_cxr.models.checkpoints import has_header, read_header, read_tensors, write_checkpoint
from clarity_cxr.models.films import network_input
from clarity_cxr.models.pretrained import load_into, timm_tensors

HEADER = "clarity_cxr_teacher"
_EXPECTED = "a teacher written by `clarity train` with a timm classifier as model.name"


@dataclass(frozen=True)
class TeacherConfig:
    """What defines a teacher.

    Args:
        name: timm's name of the architecture.
        image_size: side of the square input in pixels.
        head_dropout: dropout before the last linear layer.
        drop_path: stochastic depth rate of the last block.
        mean: per-channel mean that `Teacher.preprocess` subtracts, films in [0, 1].
        std: per-channel standard deviation that it divides by.
        findings: class order of the logits.
    """

    name: str
    image_size: int = 224
    head_dropout: float = 0.1
    drop_path: float = 0.1
    mean: tuple[float, ...] = (0.485, 0.456, 0.406)
    std: tuple[float, ...] = (0.229, 0.224, 0.225)
    findings: tuple[str, ...] = FINDINGS


class Teacher(nn.Module):
    """A timm network without its classifier under `backbone`, and dropout and one linear layer under `head`."""

    mean: Tensor
    std: Tensor

    def __init__(self, config: TeacherConfig) -> None:
        super().__init__()
        self.config = config
        self.backbone = _backbone(config)
        classifier = nn.Linear(_width(self.backbone), len(FINDINGS))
        nn.init.trunc_normal_(classifier.weight, std=0.02)
        nn.init.zeros_(classifier.bias)
        self.head = nn.Sequential(nn.Dropout(config.head_dropout), classifier)
        self.register_buffer("mean", torch.tensor(config.mean).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(config.std).view(1, 3, 1, 1), persistent=False)
        self.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]

    def preprocess(self, films: Tensor) -> Tensor:
        """Grey films, uint8 (B, S, S) or float (B, 1, S, S) in [0, 1], to (B, 3, S, S) float32, normalised."""
        return network_input(films, self.mean, self.std).contiguous(memory_format=torch.channels_last)

    def forward(self, images: Tensor) -> Tensor:
        """Logits (B, C) of images (B, 3, S, S), normalised."""
        return self.head(self.backbone(images))


def is_teacher_name(name: str) -> bool:
    """Whether timm knows a classifier of that name; registered CLARiTy models are not timm's."""
    return timm.is_model(name)


def create_teacher(name: str, weights: str | None = None, **options: Any) -> Teacher:
    """Build a teacher.

    Args:
        name: a timm classifier, e.g. `convnextv2_base`.
        weights: a timm name with its tag (`convnextv2_base.fcmae_ft_in22k_in1k`, fetched from its hub), a file in
            timm's layout, or a trained teacher; None is random.
        **options: `image_size`, `head_dropout`, `drop_path`.

    Raises:
        ConfigError: timm has no such classifier, or an option does not exist or does not fit it.
        CheckpointError: the weights cannot be had or do not fit.
    """
    known = ("image_size", "head_dropout", "drop_path")
    unknown = sorted(set(options) - set(known))
    if unknown:
        raise ConfigError(f"model {name}: {', '.join(unknown)} is for CLARiTy models; a teacher has {', '.join(known)}")
    described = timm.get_pretrained_cfg(weights if weights and timm.is_model(weights) else name)
    if described is None:
        raise ConfigError(f"unknown teacher {name!r}; expected the name of a timm classifier, e.g. convnextv2_base")
    teacher = Teacher(TeacherConfig(name, mean=described.mean, std=described.std, **options))
    if weights is not None and has_header(Path(weights), HEADER):
        load_into(teacher, read_tensors(Path(weights)), weights)
    elif weights is not None:
        classifiers = described.classifier if isinstance(described.classifier, tuple) else (described.classifier,)
        dropped = tuple(f"{classifier}." for classifier in classifiers)
        tensors = {key: value for key, value in timm_tensors(weights).items() if not key.startswith(dropped)}
        load_into(teacher.backbone, tensors, weights)
    return teacher


def weights_licence(name: str, weights: str) -> str:
    """One line on the terms of a teacher's starting weights, as far as timm knows them.

    Args:
        name: the architecture.
        weights: a timm name or a file; a file is taken for timm's weights of the architecture.
    """
    described = timm.get_pretrained_cfg(weights if timm.is_model(weights) else name)
    licence = described.license if described is not None and described.license else "unknown to timm"
    restricted = "-nc" in licence.lower()
    warning = ": no commercial use, of the teacher or of what is made with it" if restricted else ""
    return f"timm's weights of {name}, licence {licence}{warning}"


def save_teacher(path: Path, teacher: Teacher, provenance: Mapping[str, Any]) -> None:
    """Write a teacher's weights and header, whole or not at all.

    Raises:
        ClarityError: the file cannot be written.
    """
    write_checkpoint(path, teacher, HEADER, {"config": asdict(teacher.config), "provenance": dict(provenance)})


def is_teacher(path: Path) -> bool:
    """Whether a file is a teacher's checkpoint."""
    return has_header(path, HEADER)


def load_teacher(path: Path) -> Teacher:
    """Build the teacher of a checkpoint, in eval mode on the CPU.

    Raises:
        CheckpointError: the file is missing, damaged, not a teacher, or of another finding set.
    """
    content = read_header(path, HEADER, _EXPECTED)["config"]
    known = {field.name for field in fields(TeacherConfig)}
    if content.keys() != known:
        raise CheckpointError(f"{path}: header has the fields {sorted(content)}, expected {sorted(known)}")
    values: dict[str, Any] = {key: tuple(value) if isinstance(value, list) else value for key, value in content.items()}
    config = TeacherConfig(**values)
    if config.findings != FINDINGS:
        raise CheckpointError(
            f"{path}: made for the findings {list(config.findings)}, expected {list(FINDINGS)} in this order; "
            "choose a teacher of this finding set"
        )
    teacher = Teacher(config)
    load_into(teacher, read_tensors(path), str(path))
    return teacher.eval()


def read_teacher_provenance(path: Path) -> dict[str, Any]:
    """Where a teacher's weights come from: training config, data fingerprint, epoch, scores, licence.

    Raises:
        CheckpointError: the file is missing, damaged, or not a teacher.
    """
    return read_header(path, HEADER, _EXPECTED)["provenance"]


def _backbone(config: TeacherConfig) -> nn.Module:
    described = timm.get_pretrained_cfg(config.name)
    options: dict[str, Any] = {"drop_path_rate": config.drop_path} if config.drop_path else {}
    if described is not None and described.fixed_input_size:
        options["img_size"] = config.image_size
    try:
        return timm.create_model(config.name, num_classes=0, **options)
    except TypeError as error:
        if "drop_path_rate" not in str(error):
            raise
        raise ConfigError(f"model {config.name}: it has no stochastic depth; set model.drop_path to 0") from error


def _width(backbone: nn.Module) -> int:
    """Width of the features that timm's head takes, which for some models is not `num_features`."""
    width = getattr(backbone, "head_hidden_size", None) or backbone.num_features
    assert isinstance(width, int)
    return width
