"""A whole training run: check, resume or start, train, leave the best weights."""

import dataclasses
from pathlib import Path
from typing import Any

import lightning as L
import torch
import yaml
from lightning.fabric.utilities.rank_zero import rank_zero_only
from lightning.pytorch.callbacks import RichProgressBar
from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.strategies import DDPStrategy

from clarity_cxr.anatomy.store_priors import verify_priors
from clarity_cxr.data.augmentation import AugmentationConfig
from clarity_cxr.data.store import FilmStore, open_store
from clarity_cxr.distill.manifest import film_identity
from clarity_cxr.distill.store import LogitStore
from clarity_cxr.errors import ConfigError, TrainingError
from clarity_cxr.files import atomic_path, output_errors
from clarity_cxr.models import Clarity, ModelOptions, create_model
from clarity_cxr.models.teacher import Teacher, create_teacher, is_teacher_name, weights_licence
from clarity_cxr.training.batches import DeviceFilms, EpochBatches, TrainingFilms, resident_bytes, training_loader
from clarity_cxr.training.callbacks import BEST_WEIGHTS, RESUME_POINT, EpochMetrics, ResumePoints
from clarity_cxr.training.config import LossConfig, OptimizationConfig, RunConfig
from clarity_cxr.training.recipe import ClarityRecipe, TeacherRecipe
from clarity_cxr.training.selection import select
from clarity_cxr.version import __version__

CONFIG = "config.yaml"
PLACE = ("accelerator", "devices", "nodes", "workers", "films_on_device", "compile", "activation_checkpointing")


def train(
    store: Path,
    out: Path,
    model: ModelOptions,
    augmentation: AugmentationConfig,
    loss: LossConfig,
    optimization: OptimizationConfig,
    run: RunConfig,
    distill: Path | None = None,
) -> Path:
    """Train a CLARiTy or a teacher on a prepared store; continue where an interrupted run of the same config stopped.

    Args:
        store: a prepared store of the model's input size.
        out: run folder: `config.yaml`, `metrics.csv`, `best.safetensors`, `last.ckpt`, TensorBoard events.
        model: which model, from which weights.
        augmentation: magnitudes.
        loss: weights and options.
        optimization: epochs, batch, learning rate.
        run: seed, device, precision, checkpoints.
        distill: a store of a teacher's logits for this run, see `clarity_cxr.distill`; None trains on labels.

    Returns:
        Path of the best weights.

    Raises:
        ConfigError: the folder holds a run of another config.
        StoreError: the store does not fit the model, its priors were made from other films, or the config requires
            priors and it has none.
        LogitsError: the logits were made for another run, or epochs are missing.
        TrainingError: no training films, or a loss that is not finite.
    """
    L.seed_everything(run.seed, verbose=False)
    learner = _create(model)
    films = open_store(store, size=learner.config.image_size)
    films.require_labels("train")
    is_student = isinstance(learner, Clarity)
    logits = None if distill is None else _open_logits(distill, learner, films, augmentation, run.seed, optimization)
    settings = _settings(model, augmentation, loss, optimization, run) | {
        "data": films.fingerprint,
        "distill": None
        if logits is None
        else {"key": logits.manifest.key, "teacher": logits.manifest.identity["teacher"]},
    }
    if is_student and (films.priors is not None or loss.priors == "required"):
        verify_priors(films)
    _claim(out, settings)
    _announce(films, learner, loss, logits)
    if model.weights is not None and not is_student:
        settings["weights_licence"] = weights_licence(model.name, model.weights)
        _say(settings["weights_licence"])

    resume_point = out / RESUME_POINT
    first_step = 0
    if resume_point.is_file():
        first_step = torch.load(resume_point, map_location="cpu", weights_only=True)["global_step"]
        _say(f"continuing {out} at step {first_step}")
    trainer = L.Trainer(
        max_epochs=optimization.epochs,
        accelerator=run.accelerator,
        devices=run.devices,
        num_nodes=run.nodes,
        strategy="auto" if run.devices * run.nodes == 1 else DDPStrategy(static_graph=True),
        precision=run.precision,
        logger=TensorBoardLogger(out, name="", version="tensorboard"),
        callbacks=[
            EpochMetrics(out, lambda model: select(model, films, run), run.validation_every, settings),
            ResumePoints(out, run.checkpoint_steps),
            RichProgressBar(),
        ],
        enable_checkpointing=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        use_distributed_sampler=False,
    )
    batches = EpochBatches(
        films, optimization.batch_size, run.seed, first_step, trainer.global_rank, trainer.world_size
    )
    device = trainer.strategy.root_device
    batch_films = TrainingFilms(films, priors=is_student, logits=logits)
    batch_films.resident = _fits(run, resident_bytes(batch_films), device)
    recipe = (ClarityRecipe if is_student else TeacherRecipe)(
        learner,
        films,
        augmentation,
        loss,
        optimization,
        batches.steps,
        run,
        DeviceFilms(batch_films, device) if batch_films.resident else None,
    )
    loader = training_loader(batch_films, batches, run.workers, pin_memory=device.type == "cuda")
    with output_errors(out):
        trainer.fit(recipe, loader, ckpt_path=resume_point if first_step else None, weights_only=True)
    if trainer.interrupted:
        raise TrainingError(f"{out}: interrupted at step {trainer.global_step}; the same command continues the run")
    return out / BEST_WEIGHTS


@rank_zero_only
def _say(text: str) -> None:
    print(text, flush=True)


def _fits(run: RunConfig, size: int, device: torch.device) -> bool:
    """Whether films of `size` bytes are kept on the device."""
    if run.films_on_device != "auto":
        return run.films_on_device == "always"
    return device.type == "cuda" and 2 * size <= torch.cuda.mem_get_info(device)[0]


def _create(model: ModelOptions) -> Clarity | Teacher:
    create = create_teacher if is_teacher_name(model.name) else create_model
    return create(model.name, weights=model.weights, **model.overrides())


def _open_logits(
    path: Path,
    learner: Clarity | Teacher,
    films: FilmStore,
    augmentation: AugmentationConfig,
    seed: int,
    optimization: OptimizationConfig,
) -> LogitStore:
    if isinstance(learner, Teacher):
        raise ConfigError(f"distill: {learner.config.name} is a teacher, which learns from labels; leave distill out")
    logits = LogitStore(path)
    logits.require(film_identity(films, augmentation, seed), optimization.epochs)
    return logits


def _settings(model: ModelOptions, *sections: Any) -> dict[str, Any]:
    augmentation, loss, optimization, run = (dataclasses.asdict(section) for section in sections)
    return {
        "model": dataclasses.asdict(model),
        "augmentation": {key: list(v) if isinstance(v, tuple) else v for key, v in augmentation.items()},
        "loss": loss,
        "optimization": optimization,
        "run": run,
        "package_version": __version__,
    }


def _claim(out: Path, settings: dict[str, Any]) -> None:
    path = out / CONFIG
    if path.is_file():
        earlier = yaml.safe_load(path.read_text(encoding="utf-8"))
        differing = _differences(_numbers_only(earlier), _numbers_only(settings))
        if differing:
            raise ConfigError(
                f"{out}: holds a run of another config: {'; '.join(differing)}. "
                "Choose another --out, or remove the folder to start again"
            )
    with atomic_path(path) as temporary:
        temporary.write_text(yaml.safe_dump(settings, sort_keys=False), encoding="utf-8")


def _numbers_only(settings: dict[str, Any]) -> dict[str, Any]:
    """Settings without those that say where a run computes, which may change when it is continued."""
    return settings | {"run": {key: value for key, value in settings["run"].items() if key not in PLACE}}


def _differences(earlier: Any, now: Any, key: str = "") -> list[str]:
    if isinstance(earlier, dict) and isinstance(now, dict):
        return [
            text
            for name in sorted(earlier.keys() | now.keys())
            for text in _differences(earlier.get(name), now.get(name), f"{key}.{name}" if key else name)
        ]
    return [] if earlier == now else [f"{key} was {earlier!r}, now {now!r}"]


@rank_zero_only
def _announce(films: FilmStore, learner: Clarity | Teacher, loss: LossConfig, logits: LogitStore | None) -> None:
    count = len(films.rows("train"))
    if count < 2:
        raise TrainingError(f"{films.path}: {count} training films; expected a store with films in the split 'train'")
    print(f"{learner.config.name}: {count} training films from {films.path}", flush=True)
    if logits is not None:
        print(f"classification targets: the teacher's probabilities in {logits.path}", flush=True)
        licence = logits.manifest.origin.get("weights_licence")
        if licence is not None:
            print(f"the teacher's starting weights: {licence}", flush=True)
    if isinstance(learner, Clarity) and learner.segment_cam is not None and films.priors is None:
        print(
            "the store has no anatomical priors: L_PRX and L_CNF are off "
            f"(weights {loss.gamma_proximity} and {loss.gamma_confinement} are not used)",
            flush=True,
        )
