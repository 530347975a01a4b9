"""What defines a CLARiTy model: its architecture, and the choices of the method that are options."""

from dataclasses import asdict, dataclass, fields, replace
from typing import Any, Literal

from clarity_cxr.errors import ConfigError
from clarity_cxr.findings import FINDINGS

MaskGradient = Literal["straight_through", "soft", "hard"]
BackgroundNorm = Literal["joint", "running", "own"]
Pooling = Literal["attention", "mean"]
Stem = Literal["linear", "convolutional"]


@dataclass(frozen=True)
class ModelConfig:
    """Architecture and options of one CLARiTy.

    Args:
        name: registry name.
        image_size: side of the square input in pixels.
        patch_size: side of a patch in pixels; the grid side N is image_size / patch_size.
        width: embedding width D.
        depth: number of transformer blocks L.
        heads: attention heads per block.
        mlp_ratio: hidden width of the MLP over D.
        stem: patches to tokens by one `linear` map, as in any ViT, or by `convolutional` layers of stride 2, which
            learn faster from random weights; the patch size is then a power of two.
        attention_blocks: p, last blocks whose class-to-patch attention is averaged.
        token_blocks: q, last blocks whose class tokens are returned for regularisation.
        segment_cam: whether the SegmentCAM module exists (False is the ablation of Table 6).
        pooling: class token to logit: learned attention over D (Eq. 8-9) or the mean over D ("GAP" in Table 6).
        class_token_norm: apply the final LayerNorm to the class tokens before pooling.
        class_token_noise: standard deviation of the noise that tells class tokens apart when all start from one
            pretrained class token.
        position_antialias: antialias the bicubic resizing of pretrained positions.
        mask_threshold: t in S_f = [H > t].
        mask_gradient: gradient of the mask to H: `straight_through` (binary forward, gradient of H), `soft` (S_f = H)
            or `hard` (none, the paper read literally).
        background_norm: statistics of the background pass through the classification head's BatchNorm: `joint` (one
            batch of 2B), `running`, or its `own` batch.
        pool_dropout: dropout on class tokens before pooling.
        mlp_dropout: dropout in MLPs and after attention projections.
        attention_dropout: dropout on attention weights.
        drop_path: stochastic depth rate of the last block, rising linearly from 0.
        mean: per-channel mean that `Clarity.preprocess` subtracts, films in [0, 1].
        std: per-channel standard deviation that it divides by.
        findings: class order of every output.
    """

    name: str
    image_size: int
    patch_size: int = 16
    width: int = 384
    depth: int = 12
    heads: int = 6
    mlp_ratio: float = 4.0
    stem: Stem = "linear"
    attention_blocks: int = 8
    token_blocks: int = 8
    segment_cam: bool = True
    pooling: Pooling = "attention"
    class_token_norm: bool = False
    class_token_noise: float = 0.02
    position_antialias: bool = False
    mask_threshold: float = 0.5
    mask_gradient: MaskGradient = "straight_through"
    background_norm: BackgroundNorm = "joint"
    pool_dropout: float = 0.1
    mlp_dropout: float = 0.1
    attention_dropout: float = 0.1
    drop_path: float = 0.1
    mean: tuple[float, float, float] = (0.485, 0.456, 0.406)
    std: tuple[float, float, float] = (0.229, 0.224, 0.225)
    findings: tuple[str, ...] = FINDINGS

    def __post_init__(self) -> None:
        problems = []
        if self.image_size % self.patch_size:
            problems.append(f"image_size {self.image_size} is not a multiple of patch_size {self.patch_size}")
        if self.width % self.heads:
            problems.append(f"width {self.width} is not a multiple of heads {self.heads}")
        if self.stem == "convolutional" and self.patch_size.bit_count() != 1:
            problems.append(f"patch_size {self.patch_size} is not a power of two, as a convolutional stem needs")
        problems += [
            f"{field} is {getattr(self, field)}; expected 1 to depth ({self.depth})"
            for field in ("attention_blocks", "token_blocks")
            if not 1 <= getattr(self, field) <= self.depth
        ]
        if not 0 < self.mask_threshold < 1:
            problems.append(f"mask_threshold is {self.mask_threshold}; expected a value between 0 and 1")
        problems += [
            f"{field} is {getattr(self, field)}; expected 0 <= rate < 1"
            for field in ("pool_dropout", "mlp_dropout", "attention_dropout", "drop_path")
            if not 0 <= getattr(self, field) < 1
        ]
        if problems:
            raise ConfigError(f"model {self.name}: " + "; ".join(problems))

    @property
    def grid(self) -> int:
        """N, the side of the patch grid."""
        return self.image_size // self.patch_size

    @property
    def classes(self) -> int:
        """C, the number of findings."""
        return len(self.findings)

    def to_dict(self) -> dict[str, Any]:
        """All fields as plain values that JSON can hold."""
        return {key: list(value) if isinstance(value, tuple) else value for key, value in asdict(self).items()}

    @classmethod
    def from_dict(cls, content: Any) -> "ModelConfig":
        """Inverse of `to_dict`.

        Raises:
            ConfigError: a field is unknown or missing.
        """
        known = {field.name for field in fields(cls)}
        unknown = sorted(set(content) - known)
        if unknown:
            raise ConfigError(f"unknown model fields {unknown}; written by a newer version? known are {sorted(known)}")
        try:
            values: Any = {key: tuple(value) if isinstance(value, list) else value for key, value in content.items()}
            return cls(**values)
        except TypeError as error:
            raise ConfigError(f"model fields are missing: {error}") from error


@dataclass(frozen=True)
class ModelOptions:
    """The `model:` section of a training config; a field left out keeps the registered model's own value.

    Args:
        name: registered model, e.g. `clarity_s16_224`; or a timm classifier, e.g. `convnextv2_base`, which is trained
            as a teacher: `image_size`, `head_dropout` and `drop_path` are its options.
        weights: what to start from: a timm name (`vit_small_patch16_224.dino`), a file in timm's layout
            (safetensors), or a CLARiTy checkpoint (positions are interpolated); None starts from random weights.
        image_size: side of the square input in pixels.
        attention_blocks: p, last blocks whose class-to-patch attention is averaged.
        token_blocks: q, last blocks whose class tokens are regularised.
        segment_cam: false removes the SegmentCAM module (Table 6).
        pooling: class token to logit by learned `attention` (Eq. 8-9) or the `mean` over D.
        class_token_norm: apply the final LayerNorm to the class tokens before pooling.
        class_token_noise: noise that tells class tokens apart when they start from one pretrained token.
        position_antialias: antialias the resizing of pretrained positions.
        mask_threshold: t in S_f = [H > t].
        mask_gradient: gradient of the mask to H: `straight_through`, `soft` (S_f = H) or `hard` (none).
        background_norm: BatchNorm statistics of the background pass: `joint`, `running` or `own`.
        pool_dropout: dropout on class tokens before pooling.
        mlp_dropout: dropout in MLPs and after attention projections.
        attention_dropout: dropout on attention weights.
        drop_path: stochastic depth rate of the last block.
        head_dropout: a teacher's dropout before its last linear layer.
    """

    name: str
    weights: str | None = None
    image_size: int | None = None
    attention_blocks: int | None = None
    token_blocks: int | None = None
    segment_cam: bool | None = None
    pooling: Pooling | None = None
    class_token_norm: bool | None = None
    class_token_noise: float | None = None
    position_antialias: bool | None = None
    mask_threshold: float | None = None
    mask_gradient: MaskGradient | None = None
    background_norm: BackgroundNorm | None = None
    pool_dropout: float | None = None
    mlp_dropout: float | None = None
    attention_dropout: float | None = None
    drop_path: float | None = None
    head_dropout: float | None = None

    def overrides(self) -> dict[str, Any]:
        """The fields that were set, without `name` and `weights`."""
        content = {key: value for key, value in asdict(self).items() if value is not None}
        content.pop("name")
        content.pop("weights", None)
        return content


def override(config: ModelConfig, options: dict[str, Any]) -> ModelConfig:
    """A copy of `config` with `options` replaced.

    Raises:
        ConfigError: an option is unknown or its value is not possible.
    """
    known = {field.name for field in fields(ModelConfig)} - {"name"}
    unknown = sorted(set(options) - known)
    if unknown:
        raise ConfigError(f"model {config.name}: unknown options {unknown}; known are {sorted(known)}")
    return replace(config, **options)
