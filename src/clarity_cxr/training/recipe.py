"""One training step of CLARiTy as a Lightning module, read from top to bottom."""

import math
from typing import Any

import lightning as L
import torch
from torch import Tensor, nn

from clarity_cxr.data.augmentation import AugmentationConfig, augment
from clarity_cxr.data.priors import unpack_priors
from clarity_cxr.data.store import FilmStore
from clarity_cxr.errors import TrainingError
from clarity_cxr.models import Clarity
from clarity_cxr.training.batches import Batch
from clarity_cxr.training.config import LossConfig, OptimizationConfig
from clarity_cxr.training.objective import combined_loss, loss_components

NO_DECAY = ("class_tokens", "positions")


class ClarityRecipe(L.LightningModule):
    """Augment on the device, forward, Eq. 18, AdamW.

    Every random draw of a step is a function of (seed, step), so a resumed run repeats an uninterrupted one exactly.

    Args:
        model: the student.
        store: the films, for the image ids of a batch that fails.
        augmentation: magnitudes of the stateless augmentation.
        loss: weights and options of the losses.
        optimization: AdamW and its schedule.
        steps_per_epoch: optimizer steps in one epoch.
        seed: run seed.
    """

    def __init__(
        self,
        model: Clarity,
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
        output = self.model(self.model.preprocess(films))
        components = loss_components(output, batch["labels"], batch["labels"], priors, self.loss)
        loss = combined_loss(components, self.loss)
        if not torch.isfinite(loss):
            raise TrainingError(self._explain(components, batch["rows"]))
        return {"loss": loss, "components": {"total": loss.detach()} | {k: v.detach() for k, v in components.items()}}

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


def parameter_groups(model: nn.Module, options: OptimizationConfig) -> list[dict[str, Any]]:
    """Backbone and heads, each in two: matrices and kernels with decay; norms, biases, tokens and positions without.

    Args:
        model: a `Clarity`; what is not under `backbone` is a head.
        options: learning rates and weight decay.
    """
    groups: dict[tuple[bool, bool], list[nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        decayed = parameter.ndim >= 2 and name.split(".")[-1] not in NO_DECAY
        groups.setdefault((name.startswith("backbone."), decayed), []).append(parameter)
    return [
        {
            "params": parameters,
            "lr": options.learning_rate * (1.0 if in_backbone else options.head_learning_rate_scale),
            "weight_decay": options.weight_decay if decayed else 0.0,
        }
        for (in_backbone, decayed), parameters in groups.items()
    ]


def cosine_with_warmup(step: int, warmup: int, total: int, floor: float) -> float:
    """Factor on the peak learning rate: linear to 1 over `warmup` steps, then half a cosine down to `floor`."""
    if step < warmup:
        return (step + 1) / (warmup + 1)
    progress = min((step - warmup) / max(total - warmup, 1), 1.0)
    return floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * progress))
