"""What happens around the steps: validation, best weights, the metrics table, resume points."""

import math
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import lightning as L
import pandas as pd
import torch
from torch import Tensor

from clarity_cxr.files import atomic_path
from clarity_cxr.models import Clarity
from clarity_cxr.models.teacher import Teacher
from clarity_cxr.processes import mean_over_processes, process_rank
from clarity_cxr.training.selection import Selection

RESUME_POINT = "last.ckpt"
BEST_WEIGHTS = "best.safetensors"
METRICS = "metrics.csv"
LOG_EVERY = 10
"""Steps between TensorBoard points."""


class EpochMetrics(L.Callback):
    """One row per epoch: mean of every loss component, learning rate, validation scores; to CSV and TensorBoard.

    Args:
        out: run folder; rows go to `metrics.csv`.
        validate: scores a model; run every `every` epochs, the highest value chooses the best weights, which are the
            latest as long as no value is defined.
        every: epochs between validations; the last is always validated.
        provenance: goes into the header of the best weights.
    """

    def __init__(
        self, out: Path, validate: Callable[[Clarity | Teacher], Selection], every: int, provenance: dict[str, Any]
    ) -> None:
        self.out = out
        self.validate = validate
        self.every = every
        self.provenance = provenance
        self.rows: list[dict[str, float]] = []
        self.sums: dict[str, Tensor] = {}
        self.steps = 0
        self.best: float | None = None

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        values = {f"train/L_{name}": value for name, value in outputs["components"].items()}
        self.steps += 1
        for name, value in values.items():
            self.sums[name] = self.sums[name].to(value.device) + value if name in self.sums else value.double()
        if trainer.logger is not None and trainer.global_step % LOG_EVERY == 0:
            shown = {name: value.item() for name, value in values.items()} | {"lr": _learning_rate(trainer)}
            trainer.logger.log_metrics(shown, trainer.global_step)

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        epoch = trainer.current_epoch
        row: dict[str, float] = {"epoch": epoch, "step": trainer.global_step, "lr": _learning_rate(trainer)}
        for name, value in self.sums.items():
            row[name] = mean_over_processes(value).item() / self.steps
        self.sums, self.steps = {}, 0
        if (epoch + 1) % self.every == 0 or epoch + 1 == trainer.max_epochs:
            row |= self._validated(pl_module, epoch, trainer.global_step)
        self.rows.append(row)
        if not trainer.is_global_zero:
            return
        print(_summary(row), flush=True)
        with atomic_path(self.out / METRICS) as temporary:
            pd.DataFrame(self.rows).to_csv(temporary, index=False)
        if trainer.logger is not None:
            trainer.logger.log_metrics({k: v for k, v in row.items() if k.startswith("val/")}, trainer.global_step)

    def _validated(self, pl_module: L.LightningModule, epoch: int, step: int) -> dict[str, float]:
        model = pl_module.model
        assert isinstance(model, Clarity | Teacher)
        selection = self.validate(model)
        if self.best is None or selection.value > self.best:
            self.best = None if math.isnan(selection.value) else selection.value
            if process_rank() == 0:
                self._save(selection, epoch, step)
        return {f"val/{name}": value for name, value in selection.scores.items()}

    def _save(self, selection: Selection, epoch: int, step: int) -> None:
        validation = {name: value for name, value in selection.scores.items() if not math.isnan(value)}
        selection.save(
            self.out / BEST_WEIGHTS, self.provenance | {"epoch": epoch, "step": step, "validation": validation}
        )

    def state_dict(self) -> dict[str, Any]:
        sums = {name: mean_over_processes(value).item() for name, value in self.sums.items()}
        return {"rows": self.rows, "sums": sums, "steps": self.steps, "best": self.best}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.rows = state_dict["rows"]
        self.sums = {name: torch.tensor(value, dtype=torch.float64) for name, value in state_dict["sums"].items()}
        self.steps, self.best = state_dict["steps"], state_dict["best"]


class ResumePoints(L.Callback):
    """Keep `last.ckpt` (weights, optimizer, progress), replaced whole at epoch ends and every `steps` steps."""

    def __init__(self, out: Path, steps: int) -> None:
        self.out = out
        self.steps = steps

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        within_epoch = batch_idx + 1 < trainer.num_training_batches
        if self.steps and within_epoch and (batch_idx + 1) % self.steps == 0:
            self._save(trainer)

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._save(trainer)

    def _save(self, trainer: L.Trainer) -> None:
        with atomic_path(self.out / RESUME_POINT) if trainer.is_global_zero else nullcontext(RESUME_POINT) as path:
            trainer.save_checkpoint(path, weights_only=False)  # all processes meet here, the first one writes


def _learning_rate(trainer: L.Trainer) -> float:
    return trainer.optimizers[0].param_groups[0]["lr"]


def _summary(row: dict[str, float]) -> str:
    scores = [f"{name.removeprefix('val/')} {value:.4f}" for name, value in row.items() if name.startswith("val/")]
    return ", ".join([f"epoch {row['epoch']:.0f}: loss {row['train/L_total']:.4f}", *scores])
