"""One training step of CLARiTy, or of a teacher, as a Lightning module, read from top to bottom."""

import math
from typing import Any, NamedTuple

import lightning as L
import torch
from torch import Tensor, nn

from clarity_cxr.data.augmentation import AugmentationConfig, augment_by_state, film_states
from clarity_cxr.data.priors import unpack_priors
from clarity_cxr.data.store import FilmStore
from clarity_cxr.errors import ConfigError, TrainingError
from clarity_cxr.losses.anatomy import LOSS_SIZE
from clarity_cxr.models import Clarity
from clarity_cxr.models.teacher import Teacher
from clarity_cxr.training.batches import Batch, DeviceFilms
from clarity_cxr.training.config import LossConfig, OptimizationConfig, RunConfig
from clarity_cxr.training.objective import classification_loss, combined_loss, loss_components

NO_DECAY = ("class_tokens", "positions", "cls_token", "pos_embed")
LOOK_EVERY = 20
"""Steps on a GPU between two looks at whether the losses are finite."""


class FilmRecipe(L.LightningModule):
    """Augment on the device, forward, loss, AdamW.

    Every random draw of a step is a function of (seed, step, process), so a resumed run repeats an uninterrupted one
    exactly. A step on a GPU never waits for it: whether losses were finite is asked every `LOOK_EVERY` steps, at
    the end of an epoch, and before a resume point is written.

    Args:
        model: what to train.
        store: the films, for the image ids of a batch that fails.
        augmentation: magnitudes of the stateless augmentation.
        loss: weights and options of the losses.
        optimization: AdamW and its schedule.
        steps_per_epoch: optimizer steps in one epoch.
        run: seed, compilation and activation checkpointing.
        resident: the films, if they are in the device's memory.
    """

    def __init__(
        self,
        model: Clarity | Teacher,
        store: FilmStore,
        augmentation: AugmentationConfig,
        loss: LossConfig,
        optimization: OptimizationConfig,
        steps_per_epoch: int,
        run: RunConfig,
        resident: DeviceFilms | None = None,
    ) -> None:
        super().__init__()
        self.model = model
        self.store = store
        self.augmentation = augmentation
        self.loss = loss
        self.optimization = optimization
        self.steps_per_epoch = steps_per_epoch
        self.seed = run.seed
        self.resident = resident
        self.unseen: list[_Step] = []
        self.compute = torch.compile(self._compute, dynamic=False) if run.compile else self._compute
        if run.activation_checkpointing:
            backbone: Any = model.backbone
            backbone.set_grad_checkpointing(True)

    def on_train_batch_start(self, batch: Batch, batch_idx: int) -> None:
        """Key this step's dropout."""
        torch.manual_seed((self.seed * 1_000_003 + self.global_step + self.global_rank * 0x9E3779B97F4A7C15) % 2**63)

    def training_step(self, batch: Batch, batch_idx: int) -> dict[str, Any]:
        """Loss and components of one batch.

        Raises:
            TrainingError: the loss is not finite; names the films.
        """
        if self.resident is not None:
            batch = self.resident.fill(batch)
        states = film_states(batch["keys"], batch["epoch"], self.seed)
        loss, components = self.compute(
            batch["films"], states, batch.get("priors"), batch["labels"], batch.get("teacher_logits")
        )
        components = {name: value.detach() for name, value in components.items()}
        self.unseen.append(_Step(self.global_step, batch["rows"], loss.detach(), components))
        last = batch_idx + 1 == self.steps_per_epoch
        if self.device.type == "cpu" or len(self.unseen) >= LOOK_EVERY or last:
            self.require_finite()
        return {"loss": loss, "components": {"total": loss.detach()} | components}

    def _compute(
        self, films: Tensor, states: Tensor, packed: Tensor | None, labels: Tensor, teacher_logits: Tensor | None
    ) -> tuple[Tensor, dict[str, Tensor]]:
        priors = None if packed is None else unpack_priors(packed)
        films, priors = augment_by_state(films, states, self.augmentation, priors, LOSS_SIZE)
        components = self.components(films, priors, labels, teacher_logits)
        return combined_loss(components, self.loss), components

    def require_finite(self) -> None:
        """Look at the losses since the last look.

        Raises:
            TrainingError: one is not finite.
        """
        steps, self.unseen = self.unseen, []
        if steps and not torch.stack([step.loss for step in steps]).isfinite().all():
            raise TrainingError(self._explain(next(step for step in steps if not step.loss.isfinite())))

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Never leave a resume point from which the run could not go on."""
        self.require_finite()

    def components(
        self, films: Tensor, priors: Tensor | None, labels: Tensor, teacher_logits: Tensor | None
    ) -> dict[str, Tensor]:
        """Every loss of augmented films (B, 1, S, S) with priors (B, R, H, W) under its paper name, unweighted."""
        raise NotImplementedError

    def _explain(self, step: "_Step") -> str:
        ids = self.store.index["image_id"].to_numpy()[step.rows.cpu().numpy()]
        values = ", ".join(f"L_{name} = {value.item():.4g}" for name, value in step.components.items())
        return (
            f"the loss is not finite at step {step.number} (epoch {step.number // self.steps_per_epoch}): {values}. "
            f"Films of the batch: {', '.join(ids)}. The last resume point is intact; look at these films, lower "
            "optimization.learning_rate or use run.precision: 32-true"
        )

    def configure_optimizers(self) -> Any:
        """AdamW, no decay on vectors, tokens and positions; cosine with warm-up, per step."""
        options = self.optimization
        optimizer = torch.optim.AdamW(parameter_groups(self.model, options), lr=options.learning_rate, fused=True)
        total = options.epochs * self.steps_per_epoch
        warmup = round(options.warmup_epochs * self.steps_per_epoch)
        floor = options.final_learning_rate / options.learning_rate
        schedule = torch.optim.lr_scheduler.LambdaLR(
            optimizer, lambda step: cosine_with_warmup(step, warmup, total, floor)
        )
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


class ClarityRecipe(FilmRecipe):
    """Eq. 18; where the batch has a teacher's logits, their sigmoid is the target of the classification losses."""

    def components(
        self, films: Tensor, priors: Tensor | None, labels: Tensor, teacher_logits: Tensor | None
    ) -> dict[str, Tensor]:
        """See `FilmRecipe.components`."""
        targets = labels if teacher_logits is None else teacher_logits.sigmoid()
        return loss_components(self.model(self.model.preprocess(films)), labels, targets, priors, self.loss)


class TeacherRecipe(FilmRecipe):
    """Eq. 3 on the teacher's logits."""

    def components(
        self, films: Tensor, priors: Tensor | None, labels: Tensor, teacher_logits: Tensor | None
    ) -> dict[str, Tensor]:
        """See `FilmRecipe.components`."""
        logits = self.model(self.model.preprocess(films))
        return {"CLS": classification_loss(logits, labels, labels, self.loss)}


class _Step(NamedTuple):
    """What is needed to say which step went wrong."""

    number: int
    rows: Tensor
    loss: Tensor
    components: dict[str, Tensor]


def parameter_groups(model: nn.Module, options: OptimizationConfig) -> list[dict[str, Any]]:
    """Matrices and kernels with weight decay; norms, biases, tokens and positions without; learning rates by depth.

    Block l of the backbone learns at learning_rate * layer_decay ** (L - l), l from 0, and patch embedding and
    positions at the rate of a block below the first, as in BEiT's fine-tuning. Heads, the final norm and the class
    tokens, which pretrained weights fill with copies of one, learn at the full rate.

    Args:
        model: a `Clarity` or a `Teacher`.
        options: learning rate, its decay by layer, and weight decay.

    Raises:
        ConfigError: a decay by layer is asked of a teacher.
    """
    if options.layer_decay != 1 and not isinstance(model, Clarity):
        raise ConfigError(
            f"optimization.layer_decay is {options.layer_decay}; a teacher's layers have none, expected 1"
        )
    depth = model.config.depth if isinstance(model, Clarity) else 0
    groups: dict[tuple[int, bool], list[nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        decayed = parameter.ndim >= 2 and name.split(".")[-1] not in NO_DECAY
        groups.setdefault((_layers_above(name, depth), decayed), []).append(parameter)
    return [
        {
            "params": parameters,
            "lr": options.learning_rate * options.layer_decay**above,
            "weight_decay": options.weight_decay if decayed else 0.0,
        }
        for (above, decayed), parameters in groups.items()
    ]


def _layers_above(name: str, depth: int) -> int:
    """How many layers lie between a parameter and the heads."""
    parts = name.split(".")
    if parts[:2] == ["backbone", "blocks"]:
        return depth - int(parts[2])
    return depth + 1 if parts[:2] in (["backbone", "patch_embed"], ["backbone", "positions"]) else 0


def cosine_with_warmup(step: int, warmup: int, total: int, floor: float) -> float:
    """Factor on the peak learning rate: linear to 1 over `warmup` steps, then half a cosine down to `floor`."""
    if step < warmup:
        return (step + 1) / (warmup + 1)
    progress = min((step - warmup) / max(total - warmup, 1), 1.0)
    return floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * progress))
