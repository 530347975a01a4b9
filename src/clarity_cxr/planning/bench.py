"""All constants of this machine, measured on phantoms and random weights in a folder that is removed again."""

import datetime
import math
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from clarity_cxr.anatomy.film_check import check_files, check_films
from clarity_cxr.data.phantom import PhantomConfig, write_release
from clarity_cxr.data.prepare import prepare
from clarity_cxr.data.store import FilmStore
from clarity_cxr.data.workers import available_processors
from clarity_cxr.distill.source import Precision
from clarity_cxr.errors import ConfigError
from clarity_cxr.models import Clarity, create_model, save_checkpoint
from clarity_cxr.models.device import usable_device
from clarity_cxr.models.teacher import Teacher, create_teacher, save_teacher
from clarity_cxr.planning.constants import Constants
from clarity_cxr.planning.decoding import decoding_rates
from clarity_cxr.planning.machine import describe_machine, memory_bytes, package_versions
from clarity_cxr.planning.model_rates import (
    TrainingRate,
    dump_rate,
    forward_rate,
    prediction_rate,
    resident_bytes,
    segmenter_rate,
    training_rate,
)
from clarity_cxr.planning.rates import copy_rate, disk_rates, matmul_rate, timings
from clarity_cxr.progress import progress_bar

_FEWEST = 24
"""Films of the store: about two thirds of them are for training, which a batch is taken from."""
_FILM_SUFFIXES = (".png", ".jpg", ".jpeg")


@dataclass(frozen=True)
class Effort:
    """How thoroughly to measure.

    Attributes:
        seconds: of each rate, at least one repetition.
        film_side: side of the phantom films that are decoded, in pixels; the NIH's are 1024.
        films: how many of them are decoded and predicted.
        matmul_side: rows and columns of the matrices.
        block: bytes copied, and written to the disk.
    """

    seconds: float = 3.0
    film_side: int = 1024
    films: int = 16
    matmul_side: int = 2048
    block: int = 1 << 28


QUICK = Effort(seconds=0.0, film_side=128, films=4, matmul_side=128, block=1 << 23)
"""Every measurement once and small: says that all of it runs, and little about the machine."""


@dataclass(frozen=True)
class Subject:
    """What is measured.

    Attributes:
        model: name of the student.
        teacher: timm's name of the teacher.
        size: side of the prepared films in pixels.
        batch_size: films in a step.
        device: where models run.
        processes: processes that decode.
        films: a folder of own films to decode and predict; None draws phantoms.
        compiled: whether training steps are compiled.
        dump_precision: of the teacher's forward pass.
    """

    model: str = "clarity_s16_224"
    teacher: str = "convnextv2_base"
    size: int = 224
    batch_size: int = 16
    device: str = "cpu"
    processes: int | None = None
    films: Path | None = None
    compiled: bool = False
    dump_precision: Precision = "float32"


def measure(subject: Subject, folder: Path, effort: Effort | None = None) -> Constants:
    """Measure every constant.

    Args:
        subject: models, size, batch, device.
        folder: where scratch files may lie, on the disk that is meant.
        effort: None is `Effort()`.

    Raises:
        ConfigError: a model is unknown or does not exist at this size, or `films` holds no film.
        ClarityError: the device does not exist here, or the folder cannot be written to.
    """
    effort = effort or Effort()
    device = usable_device(subject.device)
    processes = subject.processes or available_processors()
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        bench = _Bench(subject, effort, device, processes, Path(scratch))
        found: dict[str, Any] = {}
        with progress_bar("Measuring", len(bench.stages)) as advance:
            for stage in bench.stages:
                found |= stage()
                advance(1)
    return Constants(
        date=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        machine=describe_machine(),
        versions=package_versions(),
        device=device.type,
        processes=processes,
        size=subject.size,
        batch_size=subject.batch_size,
        model=subject.model,
        teacher=subject.teacher,
        compiled=subject.compiled,
        dump_precision=subject.dump_precision,
        memory_bytes=memory_bytes(),
        **found,
    )


class _Bench:
    """The stages of a measurement, in an order in which each finds what it needs; every one returns its constants."""

    def __init__(self, subject: Subject, effort: Effort, device: torch.device, processes: int, scratch: Path) -> None:
        self.subject, self.effort, self.device = subject, effort, device
        self.processes, self.scratch = processes, scratch
        self.student = create_model(subject.model, image_size=subject.size)
        self.teacher = create_teacher(subject.teacher, image_size=subject.size)
        self.checkpoint, self.teacher_path = scratch / "student.safetensors", scratch / "teacher.safetensors"
        self.stages: list[Callable[[], dict[str, Any]]] = [
            self.hardware, self.films, self.store, self.anatomy, self.forward, self.predict, self.train, self.teach,
        ]  # fmt: skip

    def hardware(self) -> dict[str, Any]:
        """Disk, memory and arithmetic."""
        effort, device = self.effort, self.device
        written, read, digested = disk_rates(self.scratch, effort.block)
        rates = {
            f"{name}_multiply_adds": matmul_rate(device, dtype, effort.matmul_side, effort.seconds)
            for name, dtype in (("float32", torch.float32), ("bfloat16", torch.bfloat16))
        }
        disk = {"disk_written_bytes": written, "disk_read_bytes": read, "digested_bytes": digested}
        return rates | disk | {"copied_bytes": copy_rate(device, effort.block, effort.seconds)}

    def films(self) -> dict[str, Any]:
        """Films as files: decoding, and the film check."""
        if self.subject.films is None:
            release = self.scratch / "films"
            write_release(release, PhantomConfig(films=self.effort.films, size=self.effort.film_side), self.processes)
            self.paths = sorted(release.glob("images_*/images/*.png"))
        else:
            self.paths = _own_films(self.subject.films, self.effort.films)
        rates = decoding_rates(self.paths, self.subject.size, self.processes, self.effort.seconds)
        taken = timings(lambda: check_files(self.paths), self.effort.seconds, self.device)
        return {
            "film_bytes": float(np.mean([path.stat().st_size for path in self.paths])),
            "decoded_films": rates.decoded,
            "resized_films": rates.resized,
            "worker_bytes": rates.peak_bytes,
            "checked_files": len(self.paths) * len(taken) / sum(taken),
        }

    def store(self) -> dict[str, Any]:
        """A small store, for the models; the memory that its tables take, and what the process holds with them."""
        release = self.scratch / "release"
        films = max(2 * self.subject.batch_size, _FEWEST)
        write_release(release, PhantomConfig(films=films, size=max(self.subject.size, 64)), self.processes)
        self.prepared: FilmStore = prepare(release, self.scratch / "store", self.subject.size, processes=1)
        save_checkpoint(self.checkpoint, self.student)
        save_teacher(self.teacher_path, self.teacher, {})
        return {
            "index_bytes": float(self.prepared.index.memory_usage(deep=True).sum()) / len(self.prepared),
            "base_bytes": resident_bytes(),
        }

    def anatomy(self) -> dict[str, Any]:
        """The film check and the segmenter on prepared films."""
        films = np.array(self.prepared.films[: self.subject.batch_size])
        taken = timings(lambda: check_films(films), self.effort.seconds, self.device)
        rate = segmenter_rate(self.prepared, self.subject.batch_size, self.device, self.effort.seconds)
        return {"checked_films": len(films) * len(taken) / sum(taken), "segmented_films": rate}

    def forward(self) -> dict[str, Any]:
        """Student and teacher, looking."""
        options = (self.prepared, self.subject.batch_size, self.device, self.effort.seconds)
        return {
            "forward_films": forward_rate(self.checkpoint, *options),
            "dumped_films": dump_rate(self.teacher_path, *options, self.subject.dump_precision),
        }

    def predict(self) -> dict[str, Any]:
        """Films to results."""
        rate, written = prediction_rate(
            self.checkpoint, self.paths, self.scratch / "predictions", self.subject.batch_size, self.device
        )
        return {"predicted_films": rate, "prediction_bytes": written}

    def train(self) -> dict[str, Any]:
        """The student, learning."""
        rate = self._training_rate(self.student)
        self.student.cpu()
        return {
            "model_parameters": _parameters(self.student),
            "training_films": rate.films,
            "training_bytes": rate.bytes_per_film,
        }

    def teach(self) -> dict[str, Any]:
        """The teacher, learning."""
        rate = self._training_rate(self.teacher)
        return {
            "teacher_parameters": _parameters(self.teacher),
            "teacher_training_films": rate.films,
            "teacher_training_bytes": rate.bytes_per_film,
        }

    def _training_rate(self, model: Clarity | Teacher) -> TrainingRate:
        subject = self.subject
        return training_rate(
            model, self.prepared, subject.batch_size, self.device, self.effort.seconds, subject.compiled
        )


def _parameters(model: Clarity | Teacher) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


def _own_films(folder: Path, count: int) -> list[Path]:
    """Films of a folder and its subfolders, evenly spread over their names: neighbours are often one patient's."""
    films = sorted(path for path in folder.rglob("*") if path.suffix.lower() in _FILM_SUFFIXES)
    if not films:
        raise ConfigError(f"{folder}: no PNG or JPEG films there; expected a release or a folder of films")
    return films[:: math.ceil(len(films) / count)]
