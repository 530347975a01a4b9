"""What a run of the whole pipeline will take: disk, memory, hours, and the resource that each step waits for.

docs/planning.md has every formula. They are sums and products of `Constants`; nothing is fitted.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from clarity_cxr.errors import ConfigError
from clarity_cxr.findings import BOXED_FINDINGS, FINDINGS
from clarity_cxr.models import create_model
from clarity_cxr.models.teacher import create_teacher
from clarity_cxr.planning.constants import Constants

NIH_FILMS, NIH_TRAINING, NIH_VALIDATION, NIH_BOXED = 112_120, 75_312, 11_212, 880
"""Films of NIH ChestX-ray14 and of its splits; an archive is taken to be split in the same proportions."""
PRIORS_BYTES = 4 * 128 * 16
"""One film's packed priors."""
STATE_BYTES = 16
"""Of a parameter in training: weight, gradient and two moments, float32. As many lie in a run's folder afterwards: a
resume point of weights and moments, and the best weights."""


@dataclass(frozen=True)
class Archive:
    """What is to be done.

    Args:
        films: N, all films.
        size: side S of the prepared films in pixels.
        epochs: E, of the student and of the teacher's logits.
        teacher_epochs: of the teacher.
        devices: D, accelerators (or machines without one) that share the work of models.
        processes: P, that decode films.

    Raises:
        ConfigError: a number is below 1.
    """

    films: int
    size: int = 224
    epochs: int = 200
    teacher_epochs: int = 100
    devices: int = 1
    processes: int = 1

    def __post_init__(self) -> None:
        wrong = {name: value for name, value in vars(self).items() if value < 1}
        if wrong:
            given = ", ".join(f"{name} {value}" for name, value in wrong.items())
            raise ConfigError(f"{given}: expected 1 or more of each")

    @property
    def training(self) -> int:
        """Films to train on."""
        return round(self.films * NIH_TRAINING / NIH_FILMS)

    @property
    def validation(self) -> int:
        """Films to choose the best epoch on."""
        return round(self.films * NIH_VALIDATION / NIH_FILMS)

    @property
    def evaluated(self) -> int:
        """Films of `clarity evaluate`: validation and test."""
        return self.films - self.training

    @property
    def store_bytes(self) -> int:
        """N * S * S."""
        return self.films * self.size**2

    @property
    def priors_bytes(self) -> int:
        """N * 4 * 128 * 16."""
        return self.films * PRIORS_BYTES

    @property
    def logits_bytes(self) -> int:
        """E * N_train * 14 * 2: float16."""
        return self.epochs * self.training * len(FINDINGS) * 2


@dataclass(frozen=True)
class Part:
    """Work whose resources are busy at the same time, so that it takes as long as the slowest.

    Attributes:
        what: the work.
        seconds: resource -> how long it is busy.
    """

    what: str
    seconds: Mapping[str, float]

    @property
    def slowest(self) -> str:
        """The resource that the work waits for."""
        return max(self.seconds, key=lambda resource: self.seconds[resource])

    @property
    def duration(self) -> float:
        """Seconds."""
        return self.seconds[self.slowest]


@dataclass(frozen=True)
class Step:
    """One command of the pipeline.

    Attributes:
        name: what the command is called here.
        parts: done one after the other.
        disk_bytes: what it leaves on the disk.
        host_bytes: main memory that it holds at most.
        device_bytes: memory of each accelerator that it holds at most; 0 where models run on the CPU.
    """

    name: str
    parts: tuple[Part, ...]
    disk_bytes: float
    host_bytes: float
    device_bytes: float = 0

    @property
    def hours(self) -> float:
        """Of all parts."""
        return sum(part.duration for part in self.parts) / 3600

    @property
    def bottleneck(self) -> str:
        """Resource and work of the longest part."""
        longest = max(self.parts, key=lambda part: part.duration)
        return f"{longest.slowest}: {longest.what}"


def plan(archive: Archive, constants: Constants) -> list[Step]:
    """Every step from the release to predictions, in order.

    Args:
        archive: how many films of what size, epochs and devices.
        constants: of a machine. At another size than theirs, times of models are scaled by the models' multiply-adds
            and memory by the films' pixels.

    Raises:
        ConfigError: a model is unknown, or does not exist at this size.
    """
    models = _Models(archive, constants)
    return [
        _check(archive, constants),
        _prepare(archive, constants),
        _anatomy(archive, constants, models),
        models.training_step("teacher", archive.teacher_epochs),
        _dump(archive, constants, models),
        models.training_step("student", archive.epochs),
        _evaluate(archive, constants, models),
        _predict(archive, constants, models),
    ]


def _check(archive: Archive, constants: Constants) -> Step:
    reading = archive.films * constants.film_bytes / constants.disk_read_bytes
    parts = (
        Part("decode", {"processors": _decoding(archive, constants.decoded_films), "disk": reading}),
        Part("film check", {"processors": archive.films / constants.checked_files, "disk": reading}),
    )
    return Step("check", parts, 0, _decoding_memory(archive, constants))


def _prepare(archive: Archive, constants: Constants) -> Step:
    moving = (
        archive.films * constants.film_bytes / constants.disk_read_bytes
        + archive.store_bytes / constants.disk_written_bytes
    )
    parts = (
        Part("decode and resize", {"processors": _decoding(archive, constants.resized_films), "disk": moving}),
        Part("digest", {"processors": archive.store_bytes / constants.digested_bytes}),
        Part("film check", {"processors": archive.films / constants.checked_films}),
    )
    return Step("prepare", parts, archive.store_bytes, _decoding_memory(archive, constants))


def _decoding(archive: Archive, films_per_second: float) -> float:
    return archive.films / (films_per_second * archive.processes)


def _decoding_memory(archive: Archive, constants: Constants) -> float:
    return constants.base_bytes + archive.processes * constants.worker_bytes + archive.films * constants.index_bytes


def _anatomy(archive: Archive, constants: Constants, models: "_Models") -> Step:
    moving = (
        archive.store_bytes / constants.disk_read_bytes + archive.priors_bytes / constants.disk_written_bytes
    ) / archive.devices
    working = archive.films / (constants.segmented_films * archive.devices)
    parts = (Part("segment", {models.resource: working, "disk": moving}),)
    return Step("anatomy", parts, archive.priors_bytes, models.host_bytes)


def _dump(archive: Archive, constants: Constants, models: "_Models") -> Step:
    films = archive.epochs * archive.training
    working = films / (constants.dumped_films * archive.devices) * models.teacher_growth
    parts = (Part("teacher's forward pass", {models.resource: working, "disk": models.rereading(archive.epochs)}),)
    return Step("dump", parts, archive.logits_bytes, *models.memory(4 * constants.teacher_parameters))


def _evaluate(archive: Archive, constants: Constants, models: "_Models") -> Step:
    working = archive.evaluated / (constants.forward_films * archive.devices) * models.student_growth
    parts = (Part("forward pass", {models.resource: working}),)
    boxed = archive.films * NIH_BOXED / NIH_FILMS
    maps = boxed * len(BOXED_FINDINGS) * (archive.size // 16) ** 2 * 4
    disk = archive.evaluated * len(FINDINGS) * 5 + maps
    return Step("evaluate", parts, disk, *models.memory(4 * constants.model_parameters))


def _predict(archive: Archive, constants: Constants, models: "_Models") -> Step:
    forward = 1 / constants.forward_films
    each = 1 / constants.predicted_films + forward * (models.student_growth - 1)
    reading = archive.films * constants.film_bytes / constants.disk_read_bytes
    seconds = {models.resource: archive.films * each / archive.devices, "disk": reading / archive.devices}
    parts = (Part("film to JSON and overlay", seconds),)
    host, device = models.memory(4 * constants.model_parameters)
    return Step("predict", parts, archive.films * constants.prediction_bytes, host, device)


class _Models:
    """What of a plan depends on the models: how much more work another film size is, and where their memory lies."""

    def __init__(self, archive: Archive, constants: Constants) -> None:
        self.archive, self.constants = archive, constants
        self.resource = "processors" if constants.device == "cpu" else "device"
        self.host_bytes = constants.base_bytes + archive.films * constants.index_bytes
        self.pixel_growth = (archive.size / constants.size) ** 2
        self.student_growth = self.teacher_growth = 1.0
        if archive.size != constants.size:
            sizes = (archive.size, constants.size)
            larger, own = (multiply_adds(create_model(constants.model, image_size=size), size) for size in sizes)
            self.student_growth = larger / own
            larger, own = (multiply_adds(create_teacher(constants.teacher, image_size=size), size) for size in sizes)
            self.teacher_growth = larger / own

    def training_step(self, name: str, epochs: int) -> Step:
        """Of the student, or of the teacher."""
        archive, constants = self.archive, self.constants
        if name == "student":
            growth, rate, parameters = self.student_growth, constants.training_films, constants.model_parameters
            forward, per_film = constants.forward_films, constants.training_bytes
        else:
            growth, rate, parameters = (
                self.teacher_growth,
                constants.teacher_training_films,
                constants.teacher_parameters,
            )
            forward, per_film = constants.dumped_films, constants.teacher_training_bytes
        steps = epochs * archive.training / (rate * archive.devices) * growth
        scoring = epochs * archive.validation / (forward * archive.devices) * growth
        parts = (
            Part("training steps", {self.resource: steps, "disk": self.rereading(epochs)}),
            Part("validation", {self.resource: scoring}),
        )
        state = STATE_BYTES * parameters + constants.batch_size * per_film * self.pixel_growth
        return Step(name, parts, STATE_BYTES * parameters, *self.memory(state))

    def memory(self, model_bytes: float) -> tuple[float, float]:
        """Main memory and each accelerator's memory when a model takes some bytes."""
        on_device = self.constants.device != "cpu"
        return self.host_bytes + (0 if on_device else model_bytes), model_bytes if on_device else 0

    def rereading(self, epochs: int) -> float:
        """Seconds of reading the training films from the disk: every epoch, if the store is larger than the memory."""
        archive, constants = self.archive, self.constants
        stored = archive.store_bytes + archive.priors_bytes
        passes = epochs if stored > constants.memory_bytes * archive.devices else 1
        share = archive.training / archive.films / archive.devices
        return passes * stored * share / constants.disk_read_bytes


def multiply_adds(network: nn.Module, size: int) -> float:
    """Of one film's forward pass, counted on tensors without memory.

    Args:
        network: takes images (B, 3, S, S); it is moved to torch's meta device.
        size: S.
    """
    network = network.to("meta").eval()
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        network(torch.zeros(1, 3, size, size, device="meta"))
    return counter.get_total_flops() / 2
