"""`clarity bench`."""

from pathlib import Path
from typing import Literal


def bench(
    *,
    out: Path = Path("runs/constants.json"),
    model: str = "clarity_s16_224",
    teacher: str = "convnextv2_base",
    size: int = 224,
    batch_size: int = 16,
    device: str = "cpu",
    processes: int | None = None,
    films: Path | None = None,
    compiled: bool = False,
    dump_precision: Literal["float32", "bfloat16"] = "float32",
    quick: bool = False,
) -> None:
    """Measure this machine: disk, decoding, matrix products, films per second of every step; `clarity plan` reads it.

    Takes a minute or two on two cores. Nothing else should be running. Weights are random, which costs what trained
    ones cost; scratch files lie beside OUT and are removed.

    Args:
        out: JSON file to write.
        model: student to measure.
        teacher: teacher to measure, a timm classifier.
        size: side of the prepared films in pixels.
        batch_size: films per training step and forward pass.
        device: where models run: cpu, cuda, cuda:1.
        processes: processes that decode films at once (default: one per processor).
        films: folder of your own films to decode and predict; without it phantoms of 1024 px are drawn.
        compiled: compile the training steps, as `run.compile` of a config does.
        dump_precision: of the teacher's forward pass, as `--precision` of `distill dump`.
        quick: measure everything once and small, to see that it runs; the figures mean little.
    """
    from clarity_cxr.planning.bench import QUICK, Effort, Subject, measure
    from clarity_cxr.planning.constants import write_constants
    from clarity_cxr.planning.tables import origin

    subject = Subject(model, teacher, size, batch_size, device, processes, films, compiled, dump_precision)
    constants = measure(subject, out.parent, QUICK if quick else Effort())
    write_constants(out, constants)
    print(f"{out}: {origin(constants)}")
