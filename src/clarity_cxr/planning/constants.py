"""What `clarity bench` measures and `clarity plan` reads: one machine's constants, as JSON."""

import json
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from clarity_cxr.errors import ConfigError
from clarity_cxr.files import write_json

FORMAT_VERSION = 1


@dataclass(frozen=True)
class Constants:
    """Measured on one machine with one accelerator, or with none; films are those of the measurement.

    Attributes:
        date: when, UTC.
        machine: system, processor, cores, memory, accelerator.
        versions: of the packages that decide the speed.
        device: where the models ran: cpu, cuda.
        processes: processes that decoded films at once.
        size: side S of the prepared films in pixels.
        batch_size: films in a training step and in a forward pass.
        model: name of the student.
        teacher: timm's name of the teacher.
        compiled: whether training steps were compiled.
        dump_precision: of the teacher's forward pass.
        model_parameters: the student's.
        teacher_parameters: the teacher's.
        memory_bytes: main memory of the machine.
        film_bytes: of a film's file, mean.
        index_bytes: of an open store's tables in memory, per film.
        prediction_bytes: of a predicted film's JSON and overlay on the disk.
        base_bytes: resident memory of a process with torch and a model before its first film.
        worker_bytes: most memory of a process that decodes and resizes films.
        training_bytes: memory of a training step per film, beyond weights, gradients and moments.
        teacher_training_bytes: the same of the teacher.
        float32_multiply_adds: per second, in a square matrix product.
        bfloat16_multiply_adds: the same with factors in bfloat16.
        copied_bytes: read plus written in the device's memory, per second.
        disk_written_bytes: per second, fsync included.
        disk_read_bytes: per second, not from the page cache.
        digested_bytes: SHA-256 of a file, per second.
        decoded_films: per second and process, all at work.
        resized_films: decoded and resized, per second and process, all at work.
        checked_files: films read and checked to be chest films, per second.
        checked_films: prepared films checked to be chest films, per second.
        segmented_films: by the built-in segmenter, per second.
        training_films: through the student's whole step, from store to optimizer, per second.
        forward_films: through the student with all heatmaps, float32, per second.
        teacher_training_films: through the teacher's whole step, per second.
        dumped_films: augmented and through the teacher, per second.
        predicted_films: from file to JSON and overlay on the disk, per second.
    """

    date: str
    machine: dict[str, Any]
    versions: dict[str, str]
    device: str
    processes: int
    size: int
    batch_size: int
    model: str
    teacher: str
    compiled: bool
    dump_precision: str
    model_parameters: int
    teacher_parameters: int
    memory_bytes: int
    film_bytes: float
    index_bytes: float
    prediction_bytes: float
    base_bytes: int
    worker_bytes: int
    training_bytes: float
    teacher_training_bytes: float
    float32_multiply_adds: float
    bfloat16_multiply_adds: float
    copied_bytes: float
    disk_written_bytes: float
    disk_read_bytes: float
    digested_bytes: float
    decoded_films: float
    resized_films: float
    checked_files: float
    checked_films: float
    segmented_films: float
    training_films: float
    forward_films: float
    teacher_training_films: float
    dumped_films: float
    predicted_films: float


def write_constants(path: Path, constants: Constants) -> None:
    """Write constants as JSON, whole or not at all.

    Raises:
        ClarityError: the file cannot be written.
    """
    write_json(path, {"format_version": FORMAT_VERSION, **asdict(constants)})


def read_constants(path: Path) -> Constants:
    """Read what `write_constants` wrote.

    Raises:
        ConfigError: the file is missing or damaged, or a constant is missing, unknown or not positive.
    """
    hint = f"measure them with `clarity bench --out {path}`"
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConfigError(f"{path}: no such constants; {hint}") from None
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path}: cannot be read ({error}); {hint}") from None
    if not isinstance(content, dict) or content.pop("format_version", None) != FORMAT_VERSION:
        raise ConfigError(f"{path}: not constants of format {FORMAT_VERSION}; {hint}")
    known = {field.name for field in fields(Constants)}
    if content.keys() != known:
        differing = ", ".join(sorted(content.keys() ^ known))
        raise ConfigError(f"{path}: constants missing or unknown: {differing}; {hint}")
    wrong = [
        name
        for name, value in content.items()
        if isinstance(value, int | float) and not isinstance(value, bool) and value <= 0
    ]
    if wrong:
        raise ConfigError(f"{path}: expected positive values of {', '.join(wrong)}; {hint}")
    return Constants(**content)
