"""How many films a second a model trains on, looks at and predicts here, and the memory that a film takes."""

import resource
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from clarity_cxr.anatomy.builtin import load_builtin
from clarity_cxr.data.augmentation import AugmentationConfig
from clarity_cxr.data.store import FilmStore
from clarity_cxr.distill.source import LogitSource, Precision
from clarity_cxr.inference.film_jobs import plan_films
from clarity_cxr.inference.predict import FolderRun, predict_films
from clarity_cxr.inference.predictor import load
from clarity_cxr.models import Clarity
from clarity_cxr.models.teacher import Teacher
from clarity_cxr.planning.rates import timings
from clarity_cxr.training.batches import DeviceFilms, TrainingFilms
from clarity_cxr.training.config import LossConfig, OptimizationConfig, RunConfig
from clarity_cxr.training.recipe import ClarityRecipe, TeacherRecipe

_STEPS = 1_000_000
"""Steps of an epoch that never ends here."""


@dataclass(frozen=True)
class TrainingRate:
    """Attributes:
    films: per second, from store to optimizer.
    bytes_per_film: memory of a step beyond weights, gradients and moments, over the films of its batch.
    """

    films: float
    bytes_per_film: float


def training_rate(
    model: Clarity | Teacher, store: FilmStore, batch_size: int, device: torch.device, seconds: float, compiled: bool
) -> TrainingRate:
    """Whole training steps: rows of the store, augmentation, forward in bfloat16, losses, backward, AdamW.

    On a GPU the films are in its memory, as `run.films_on_device: auto` has them where they fit.

    Args:
        model: moved to the device and trained.
        store: prepared films of its size, more for training than a batch.
        batch_size: films per step.
        device: where.
        seconds: how long.
        compiled: whether the step is compiled, as `run.compile` has it.
    """
    student = isinstance(model, Clarity)
    films = TrainingFilms(store, priors=student, resident=device.type == "cuda")
    recipe = (ClarityRecipe if student else TeacherRecipe)(
        model.to(device).train(),
        store,
        AugmentationConfig(),
        LossConfig(),
        OptimizationConfig(learning_rate=1e-5),
        _STEPS,
        RunConfig(compile=compiled),
        DeviceFilms(films, device) if films.resident else None,
    )
    recipe.to(device)
    optimizer = recipe.configure_optimizers()["optimizer"]
    index = (0, store.rows("train")[:batch_size])

    def step() -> None:
        batch = {name: _placed(value, device) for name, value in films[index].items()}
        with torch.autocast(device.type, torch.bfloat16):
            loss = recipe.training_step(batch, 0)["loss"]
        loss.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    step()  # the moments are there from now on
    grown = peak_growth(step, device)
    gradients = sum(4 * parameter.numel() for parameter in model.parameters())
    taken = timings(step, seconds, device)
    return TrainingRate(len(index[1]) * len(taken) / sum(taken), max(grown - gradients, 1) / len(index[1]))


def forward_rate(checkpoint: Path, store: FilmStore, batch_size: int, device: torch.device, seconds: float) -> float:
    """Films per second from prepared grey films to probabilities and all heatmaps, float32."""
    film_model = load(checkpoint, str(device)).film_model
    films = torch.from_numpy(np.array(store.films[:batch_size])).to(device)

    def forward() -> None:
        with torch.inference_mode():
            film_model(films)

    taken = timings(forward, seconds, device)
    return len(films) * len(taken) / sum(taken)


def dump_rate(
    teacher: Path, store: FilmStore, batch_size: int, device: torch.device, seconds: float, precision: Precision
) -> float:
    """Films per second that are read, augmented and shown to a teacher, as `clarity distill dump` does."""
    source = LogitSource(teacher, store.path, AugmentationConfig(), 0, str(device), precision)
    positions = np.arange(min(batch_size, len(source.rows)))
    taken = timings(lambda: source.logits(positions, 0), seconds, device)
    return len(positions) * len(taken) / sum(taken)


def segmenter_rate(store: FilmStore, batch_size: int, device: torch.device, seconds: float) -> float:
    """Films per second to priors, by the built-in segmenter."""
    segmenter = load_builtin(device=str(device))
    films = np.array(store.films[:batch_size])
    taken = timings(lambda: segmenter.regions(films), seconds, device)
    return len(films) * len(taken) / sum(taken)


def prediction_rate(
    checkpoint: Path, films: list[Path], out: Path, batch_size: int, device: torch.device
) -> tuple[float, float]:
    """Films per second from file to JSON and overlay, and the bytes that one film's results have on the disk."""
    predictor = load(checkpoint, str(device))
    runs = iter(range(2))

    def predict() -> None:
        folder = out / str(next(runs))
        predict_films(predictor, plan_films(films, folder), folder, FolderRun("", True, {}), batch_size)

    taken = timings(predict, 0, device)
    written = sum(path.stat().st_size for path in (out / "0").rglob("*") if path.is_file())
    return len(films) * len(taken) / sum(taken), written / len(films)


def resident_bytes() -> int:
    """Memory that this process holds now; where the system does not say, the most that it has held."""
    status = Path("/proc/self/status")
    if not status.exists():
        unit = 1 if sys.platform == "darwin" else 1024
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
    line = next(line for line in status.read_text(encoding="utf-8").splitlines() if line.startswith("VmRSS:"))
    return int(line.split()[1]) * 1024


def peak_growth(function: Callable[[], object], device: torch.device) -> int:
    """Bytes by which a call's memory exceeded, at most, what was held before.

    On a CPU it is looked at every millisecond: the system's own high-water mark is of the whole process, and can be
    set back on few systems.
    """
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        function()
        return torch.cuda.max_memory_allocated(device) - before
    before = resident_bytes()
    held = [before]
    ended = threading.Event()

    def watch() -> None:
        while not ended.wait(0.001):
            held.append(resident_bytes())

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        result = function()
        held.append(resident_bytes())
        del result
    finally:
        ended.set()
        watcher.join()
    return max(held) - before


def _placed(value: Any, device: torch.device) -> Any:
    return value.to(device) if isinstance(value, torch.Tensor) else value
