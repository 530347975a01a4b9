"""How fast one process decodes and resizes films while all others do the same, and the memory that it takes.

Nothing here imports torch, so that a worker is as small as those of `clarity prepare`.
"""

import resource
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from clarity_cxr.data.images import read_film, resize_film
from clarity_cxr.data.workers import map_unordered


@dataclass(frozen=True)
class DecodingRates:
    """Of one process, with all at work.

    Attributes:
        decoded: films decoded per second.
        resized: films decoded and resized per second.
        peak_bytes: most memory that a process held.
    """

    decoded: float
    resized: float
    peak_bytes: int


@dataclass(frozen=True)
class _Task:
    films: list[Path]
    size: int
    seconds: float


def decoding_rates(films: Sequence[Path], size: int, processes: int, seconds: float) -> DecodingRates:
    """Decode films over and over in some processes at once.

    Args:
        films: the films' files.
        size: side to resize to, in pixels.
        processes: processes at work.
        seconds: how long each of them works, at least one pass over the films.

    Raises:
        FilmError: a film cannot be decoded.
    """
    tasks = [_Task(list(films), size, seconds)] * processes
    results = [result for _, result in map_unordered(_work, tasks, processes)]
    decoded, resized, peaks = zip(*results, strict=True)
    return DecodingRates(sum(decoded) / processes, sum(resized) / processes, max(peaks))


def _work(task: _Task) -> tuple[float, float, int]:
    """Films decoded, and films decoded and resized, per second; peak memory in bytes."""
    decoding = total = 0.0
    count = 0
    while total < task.seconds or not count:
        for path in task.films:
            begin = time.perf_counter()
            film = read_film(path)
            middle = time.perf_counter()
            resize_film(film, task.size)
            decoding += middle - begin
            total += time.perf_counter() - begin
        count += len(task.films)
    unit = 1 if sys.platform == "darwin" else 1024
    return count / decoding, count / total, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
