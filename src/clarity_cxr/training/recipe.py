"""One training step of CLARiTy, or of a teacher, as a Lightning module, read from top to bottom."""

import math
from typing import Any

import lightning as L
import torch
from torch import Tensor, nn

from clarity_cxr.data.augmentation import AugmentationConfig, augment
from clarity_cxr.data.priors import unpack_priors
from clarity_cxr.data.store import FilmStore
from clarity_cxr.errors import ConfigError, TrainingError
from clarity_cxr.models import Clarity
from clarity_cxr.models.teacher import Teacher
from clarity_cxr.training.batches import Batch
from clarity_cxr.training.config import LossConfig, OptimizationConfig
from clarity_cxr.training.objective import classification_loss, combined_loss, loss_components

NO_DECAY = ("class_tokens", "positions", "cls_token", "pos_embed")


class FilmRecipe(L.LightningModule):
    """Augment on the device, forward, loss, AdamW.

    Every random draw of a step is a function of (seed, step), so a resumed run repeats an uninterrupted one exactly.

    Args:
        model: what to train.
        store: the films, for the image ids of a batch that fails.
        augmentation: magnitudes of the stateless augmentation.
        loss: weights and options of the losses.
        optimization: AdamW and its schedule.
        steps_per_epoch: optimizer steps in one epoch.
        seed: run seed.
    """

    def __init__(
        self,
        model: Clarity | Teacher,
        store: FilmStore,
        augmentation: AugmentationConfig,
        loss: LossConfig,
        optimization: OptimizationConfig,
        steps_per_epoch: int,
        seed: int,
    ) -> None:
        super().__init__()
        self.model = model
        self.store = store
        self.augmentation = augmentation
        self.loss = loss
        self.optimization = optimization
        self.steps_per_epoch = steps_per_epoch
        self.seed = seed

    def on_train_batch_start(self, batch: Batch, batch_idx: int) -> None:
        """Key this step's dropout."""
        torch.manual_seed((self.seed * 1_000_003 + self.global_step) % 2**63)

    def training_step(self, batch: Batch, batch_idx: int) -> dict[str, Any]:
        """Loss and components of one batch.

        Raises:
            TrainingError: the loss is not finite; names the films.
        """
        packed = batch.get("priors")
        priors = None if packed is None else unpack_priors(packed)
        films, priors = augment(
            batch["films"], batch["keys"], batch["epoch"], self.seed, self.augmentation, priors=priors
        )
        components = self.components(films, priors, batch)
        loss = combined_loss(components, self.loss)
        if not torch.isfinite(loss):
            raise TrainingError(self._explain(components, batch["rows"]))
        return {"loss": loss, "components": {"total": loss.detach()} | {k: v.detach() for k, v in components.items()}}

    def components(self, films: Tensor, priors: Tensor | None, batch: Batch) -> dict[str, Tensor]:
        """Every loss of augmented films (B, 1, S, S) with priors (B, R, H, W) under its paper name, unweighted."""
        raise NotImplementedError

    def _explain(self, components: dict[str, Tensor], rows: Tensor) -> str:
        ids = self.store.index["image_id"].to_numpy()[rows.cpu().numpy()]
        values = ", ".join(f"L_{name} = {value.item():.4g}" for name, value in components.items())
        return (
            f"the loss is not finite at step {self.global_step} (epoch {self.current_epoch}): {values}. "
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

    def components(self, films: Tensor, priors: Tensor | None, batch: Batch) -> dict[str, Tensor]:
        """See `FilmRecipe.components`."""
        labels = batch["labels"]
        targets = batch["teacher_logits"].sigmoid() if "teacher_logits" in batch else labels
        return loss_components(self.model(self.model.preprocess(films)), labels, targets, priors, self.loss)


class TeacherRecipe(FilmRecipe):
    """Eq. 3 on the teacher's logits."""

    def components(self, films: Tensor, priors: Tensor | None, batch: Batch) -> dict[str, Tensor]:
        """See `FilmRecipe.components`."""
        logits = self.model(self.model.preprocess(films))
        return {"CLS": classification_loss(logits, batch["labels"], batch["labels"], self.loss)}


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
