"""Weights and what is needed to use them, in one safetensors file."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from clarity_cxr.calibration import Calibration
from clarity_cxr.errors import CheckpointError, ConfigError
from clarity_cxr.files import atomic_path
from clarity_cxr.findings import FINDINGS
from clarity_cxr.models.clarity import Clarity
from clarity_cxr.models.config import ModelConfig
from clarity_cxr.version import __version__

HEADER = "clarity_cxr"
FORMAT_VERSION = 1


@dataclass(frozen=True)
class CheckpointMetadata:
    """The header of a CLARiTy checkpoint.

    Attributes:
        config: the model's `ModelConfig`.
        thresholds: heatmap threshold per finding in (0, 1), or None before any were searched.
        provenance: where the weights come from: training config, data fingerprint, epoch, scores, versions.
        calibration: calibrated probabilities and operating points, or None before any were fitted.
    """

    config: ModelConfig
    thresholds: dict[str, float] | None = None
    provenance: dict[str, Any] = field(default_factory=dict)
    calibration: Calibration | None = None

    @property
    def findings(self) -> tuple[str, ...]:
        """Class order of the outputs."""
        return self.config.findings

    @property
    def image_size(self) -> int:
        """Side of the input in pixels."""
        return self.config.image_size


@dataclass(frozen=True)
class Checkpoint:
    """A model in eval mode and the header it came with."""

    model: Clarity
    metadata: CheckpointMetadata


def save_checkpoint(
    path: Path,
    model: Clarity,
    *,
    thresholds: Mapping[str, float] | None = None,
    provenance: Mapping[str, Any] | None = None,
    calibration: Calibration | None = None,
) -> None:
    """Write the model's weights and header, whole or not at all.

    Raises:
        ClarityError: the file cannot be written.
    """
    header = {
        "config": model.config.to_dict(),
        "thresholds": None if thresholds is None else dict(thresholds),
        "provenance": dict(provenance or {}),
        "calibration": None if calibration is None else calibration.to_dict(),
    }
    write_checkpoint(path, model, HEADER, header)


def write_checkpoint(path: Path, model: nn.Module, key: str, header: Mapping[str, Any]) -> None:
    """Write a module's tensors and a header under `key`, whole or not at all.

    Raises:
        ClarityError: the file cannot be written.
    """
    content = {"format_version": FORMAT_VERSION, "package_version": __version__, **header}
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in model.state_dict().items()}
    with atomic_path(path) as temporary:
        temporary.write_bytes(save(tensors, metadata={key: json.dumps(content)}))


def read_metadata(path: Path) -> CheckpointMetadata:
    """Read a checkpoint's header alone.

    Raises:
        CheckpointError: no file, not safetensors, not ours, or of a later format.
    """
    content = read_header(
        path,
        HEADER,
        "a CLARiTy checkpoint written by `clarity train`. A teacher only classifies, and weights in timm's layout "
        "can start a training run (model.weights), not predict",
    )
    try:
        config = ModelConfig.from_dict(content["config"])
    except ConfigError as error:
        raise CheckpointError(f"{path}: {error}") from error
    fitted = content.get("calibration")  # absent in checkpoints of 0.1.0
    calibration = None if fitted is None else Calibration.from_dict(fitted)
    return CheckpointMetadata(config, content["thresholds"], content["provenance"], calibration)


def has_header(path: Path, key: str) -> bool:
    """Whether `path` is a safetensors file with a header under `key`."""
    return path.suffix == ".safetensors" and path.is_file() and key in (_open(path).metadata() or {})


def read_header(path: Path, key: str, expected: str) -> dict[str, Any]:
    """The header under `key`.

    Args:
        path: a safetensors file.
        key: the kind of checkpoint.
        expected: that kind, in the words of an error message.

    Raises:
        CheckpointError: no file, not safetensors, of another kind or of another format version.
    """
    header = _open(path).metadata() or {}
    if key not in header:
        raise CheckpointError(f"{path}: safetensors without a CLARiTy header of the right kind; expected {expected}")
    content = json.loads(header[key])
    if content["format_version"] != FORMAT_VERSION:
        raise CheckpointError(
            f"{path}: checkpoint format {content['format_version']}, this version reads {FORMAT_VERSION}; "
            "use the clarity-cxr version that wrote it"
        )
    return content


def read_tensors(path: Path) -> dict[str, Tensor]:
    """All tensors of a safetensors file.

    Raises:
        CheckpointError: no file, or not safetensors.
    """
    handle = _open(path)
    return {name: handle.get_tensor(name) for name in handle.keys()}  # noqa: SIM118 (not a mapping)


def load_checkpoint(path: Path | str) -> Checkpoint:
    """Build the model of a checkpoint, in eval mode on the CPU.

    Raises:
        CheckpointError: the file is missing, unsafe, damaged, or of another finding set.
    """
    path = Path(path)
    metadata = read_metadata(path)
    if metadata.findings != FINDINGS:
        raise CheckpointError(
            f"{path}: made for the findings {list(metadata.findings)}, expected {list(FINDINGS)} in this order; "
            "choose a checkpoint of this finding set"
        )
    model = Clarity(metadata.config)
    try:
        model.load_state_dict(read_tensors(path))
    except RuntimeError as error:
        raise CheckpointError(f"{path}: tensors do not fit {metadata.config.name}: {error}") from error
    return Checkpoint(model.eval(), metadata)


def _open(path: Path) -> Any:
    if not path.is_file():
        raise CheckpointError(f"{path}: no such checkpoint; expected a .safetensors file written by `clarity train`")
    try:
        return safe_open(path, framework="pt")
    except SafetensorError as error:
        raise CheckpointError(
            f"{path}: not a safetensors file ({error}). Pickled weights (.pt, .pth, .ckpt) can run code when "
            "loaded and are refused; expected a .safetensors file written by `clarity train`"
        ) from error
