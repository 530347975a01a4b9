"""What worker processes do with a chunk of films, and the pool that runs them.

Nothing here imports pandas or torch, so that a worker starts in a fraction of a second.
"""

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TypeVar

import numpy as np

from clarity_cxr.data.images import film_size, read_film, read_priors, resize_film
from clarity_cxr.errors import ClarityError, FilmError
from clarity_cxr.files import output_errors

Task = TypeVar("Task")
Result = TypeVar("Result")


@dataclass(frozen=True)
class StoreChunk:
    """Films to decode, resize and write into neighbouring rows of a store's arrays.

    Attributes:
        number: position of the chunk among all chunks.
        first: row of its first film.
        films: the films' files.
        priors: the films' prior files (None for a film without), or None when the store has no priors.
        size: side of the stored films.
        films_array: the array file, already of its final length, and the offset of its data in bytes.
        priors_array: the same for the priors.
    """

    number: int
    first: int
    films: list[Path]
    priors: list[Path | None] | None
    size: int
    films_array: tuple[Path, int]
    priors_array: tuple[Path, int] | None


@dataclass(frozen=True)
class InspectedChunk:
    """Films to look at without storing them: `first` is the position of the first, `priors` their prior files."""

    first: int
    films: list[Path]
    priors: list[Path | None]
    headers_only: bool


@dataclass(frozen=True)
class ChunkResult:
    """Width and height of each film's file (0, 0 where unreadable) and the message of each unreadable film."""

    sizes: list[tuple[int, int]]
    unreadable: list[str]


def write_chunk(chunk: StoreChunk) -> ChunkResult:
    """Decode, resize and write a chunk; on return its rows are on the disk, unless a film was unreadable.

    Raises:
        ClarityError: the store cannot be written.
    """
    rows = np.zeros((len(chunk.films), chunk.size, chunk.size), np.uint8)
    packed = np.zeros((len(chunk.films), 4, 128, 16), np.uint8)
    sizes, unreadable = [], []
    for position, path in enumerate(chunk.films):
        try:
            film = read_film(path)
            rows[position] = resize_film(film, chunk.size)
            prior = chunk.priors[position] if chunk.priors else None
            if prior is not None:
                packed[position] = np.packbits(read_priors(prior), axis=-1, bitorder="big")
            sizes.append((film.shape[1], film.shape[0]))
        except FilmError as error:
            sizes.append((0, 0))
            unreadable.append(str(error))
    if not unreadable:
        _write_rows(chunk.films_array, chunk.first, rows)
        if chunk.priors_array:
            _write_rows(chunk.priors_array, chunk.first, packed)
    return ChunkResult(sizes, unreadable)


def inspect_chunk(chunk: InspectedChunk) -> ChunkResult:
    """Decode films and priors, or only read the films' headers, to learn their sizes and which are unreadable."""
    sizes, unreadable = [], []
    for path, prior in zip(chunk.films, chunk.priors, strict=True):
        try:
            if chunk.headers_only:
                sizes.append(film_size(path))
            else:
                height, width = read_film(path).shape
                sizes.append((width, height))
        except FilmError as error:
            sizes.append((0, 0))
            unreadable.append(str(error))
        if prior is not None and not chunk.headers_only:
            try:
                read_priors(prior)
            except FilmError as error:
                unreadable.append(str(error))
    return ChunkResult(sizes, unreadable)


def _write_rows(array: tuple[Path, int], first: int, rows: np.ndarray) -> None:
    # Written, not assigned through a memory map: on a full disk a map kills the process instead of raising.
    path, offset = array
    with output_errors(path):
        descriptor = os.open(path, os.O_WRONLY)
        try:
            left = memoryview(rows.tobytes())
            position = offset + first * rows[0].nbytes
            while left:
                written = os.pwrite(descriptor, left, position)
                left, position = left[written:], position + written
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def available_processors() -> int:
    """Number of processors that this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def map_unordered(
    function: Callable[[Task], Result], tasks: Iterable[Task], processes: int
) -> Iterator[tuple[Task, Result]]:
    """Yield `(task, function(task))` as they finish, holding at most two tasks per process in flight.

    One process works without a pool. Workers are started afresh (not forked), ignore Ctrl-C and end with their parent.

    Raises:
        ClarityError: a worker was killed from outside, or `function` raised it.
    """
    if processes == 1:
        for task in tasks:
            yield task, function(task)
        return
    pool = ProcessPoolExecutor(processes, multiprocessing.get_context("spawn"), initializer=_start_worker)
    waiting, running = iter(tasks), dict[Future[Result], Task]()
    try:
        while True:
            for task in islice(waiting, 2 * processes - len(running)):
                running[pool.submit(function, task)] = task
            if not running:
                return
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                yield running.pop(future), future.result()
    except BrokenProcessPool:
        raise ClarityError(
            "a worker process was killed, most often for want of memory; run the command again with fewer --processes"
        ) from None
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _start_worker() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
