"""A whole training run: check, resume or start, train, leave the best weights."""

import dataclasses
from importlib.metadata import version
from pathlib import Path
from typing import Any

import lightning as L
import torch
import yaml
from lightning.pytorch.callbacks import RichProgressBar
from lightning.pytorch.loggers import TensorBoardLogger

from clarity_cxr.anatomy.store_priors import verify_priors
from clarity_cxr.data.augmentation import AugmentationConfig
from clarity_cxr.data.store import FilmStore, open_store
from clarity_cxr.errors import ConfigError, TrainingError
from clarity_cxr.evaluation.validation import ValidationScores, validation_scores
from clarity_cxr.files import atomic_path, output_errors
from clarity_cxr.models import Clarity, ModelOptions, create_model, save_checkpoint
from clarity_cxr.training.batches import EpochBatches, training_loader
from clarity_cxr.training.callbacks import BEST_WEIGHTS, RESUME_POINT, EpochMetrics, ResumePoints
from clarity_cxr.training.config import LossConfig, OptimizationConfig, RunConfig
from clarity_cxr.training.recipe import ClarityRecipe

CONFIG = "config.yaml"


def train(
    store: Path,
    out: Path,
    model: ModelOptions,
    augmentation: AugmentationConfig,
    loss: LossConfig,
    optimization: OptimizationConfig,
    run: RunConfig,
) -> Path:
    """Train a CLARiTy on a prepared store; continue where an interrupted run of the same config stopped.

    Args:
        store: a prepared store of the model's input size.
        out: run folder: `config.yaml`, `metrics.csv`, `best.safetensors`, `last.ckpt`, TensorBoard events.
        model: which model, from which weights.
        augmentation: magnitudes.
        loss: weights and options.
        optimization: epochs, batch, learning rate.
        run: seed, device, precision, checkpoints.

    Returns:
        Path of the best weights.

    Raises:
        ConfigError: the folder holds a run of another config.
        StoreError: the store does not fit the model, or its priors were made from other films.
        TrainingError: no training films, or a loss that is not finite.
    """
    L.seed_everything(run.seed, verbose=False)
    student = create_model(model.name, weights=model.weights, **model.overrides())
    films = open_store(store, size=student.config.image_size)
    settings = _settings(model, augmentation, loss, optimization, run) | {"data": films.fingerprint}
    if films.priors is not None:
        verify_priors(films)
    _claim(out, settings)
    _announce(films, student, loss)

    resume_point = out / RESUME_POINT
    first_step = 0
    if resume_point.is_file():
        first_step = torch.load(resume_point, map_location="cpu", weights_only=True)["global_step"]
        print(f"continuing {out} at step {first_step}", flush=True)
    batches = EpochBatches(films, optimization.batch_size, run.seed, first_step)
    recipe = ClarityRecipe(student, films, augmentation, loss, optimization, batches.steps, run.seed)
    trainer = L.Trainer(
        max_epochs=optimization.epochs,
        accelerator=run.accelerator,
        devices=1,
        precision=run.precision,
        logger=TensorBoardLogger(out, name="", version="tensorboard"),
        callbacks=[_metrics(films, out, run, settings), ResumePoints(out, run.checkpoint_steps), RichProgressBar()],
        enable_checkpointing=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        use_distributed_sampler=False,
    )
    loader = training_loader(films, batches, run.workers, pin_memory=trainer.strategy.root_device.type == "cuda")
    with output_errors(out):
        trainer.fit(recipe, loader, ckpt_path=resume_point if first_step else None, weights_only=True)
    if trainer.interrupted:
        raise TrainingError(f"{out}: interrupted at step {trainer.global_step}; the same command continues the run")
    if not (out / BEST_WEIGHTS).is_file():
        save_checkpoint(out / BEST_WEIGHTS, student, provenance=settings)
    return out / BEST_WEIGHTS


def _metrics(films: FilmStore, out: Path, run: RunConfig, settings: dict[str, Any]) -> EpochMetrics:
    def validate(model: Clarity) -> ValidationScores:
        return validation_scores(
            model,
            films,
            device=next(model.parameters()).device,
            batch_size=run.evaluation_batch_size,
            bfloat16=run.precision == "bf16-mixed",
        )

    return EpochMetrics(out, validate, run.validation_every, settings)


def _settings(model: ModelOptions, *sections: Any) -> dict[str, Any]:
    augmentation, loss, optimization, run = (dataclasses.asdict(section) for section in sections)
    return {
        "model": dataclasses.asdict(model),
        "augmentation": {key: list(v) if isinstance(v, tuple) else v for key, v in augmentation.items()},
        "loss": loss,
        "optimization": optimization,
        "run": run,
        "package_version": version("clarity-cxr"),
    }


def _claim(out: Path, settings: dict[str, Any]) -> None:
    path = out / CONFIG
    if path.is_file():
        earlier = yaml.safe_load(path.read_text(encoding="utf-8"))
        differing = _differences(earlier, settings)
        if differing:
            raise ConfigError(
                f"{out}: holds a run of another config: {'; '.join(differing)}. "
                "Choose another --out, or remove the folder to start again"
            )
    with atomic_path(path) as temporary:
        temporary.write_text(yaml.safe_dump(settings, sort_keys=False), encoding="utf-8")


def _differences(earlier: Any, now: Any, key: str = "") -> list[str]:
    if isinstance(earlier, dict) and isinstance(now, dict):
        return [
            text
            for name in sorted(earlier.keys() | now.keys())
            for text in _differences(earlier.get(name), now.get(name), f"{key}.{name}" if key else name)
        ]
    return [] if earlier == now else [f"{key} was {earlier!r}, now {now!r}"]


def _announce(films: FilmStore, student: Clarity, loss: LossConfig) -> None:
    count = len(films.rows("train"))
    if count < 2:
        raise TrainingError(f"{films.path}: {count} training films; expected a store with films in the split 'train'")
    print(f"{student.config.name}: {count} training films from {films.path}", flush=True)
    if student.segment_cam is not None and films.priors is None:
        print(
            "the store has no anatomical priors: L_PRX and L_CNF are off "
            f"(weights {loss.gamma_proximity} and {loss.gamma_confinement} are not used)",
            flush=True,
        )
