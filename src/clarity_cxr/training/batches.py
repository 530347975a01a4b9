"""Training batches from a store: which films, in which order, as a function of seed, epoch and step alone."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from clarity_cxr.data.store import FilmStore
from clarity_cxr.distill.store import LogitStore
from clarity_cxr.errors import ConfigError

Batch = dict[str, Any]
_READ_AT_ONCE = 512


def epoch_order(keys: np.ndarray, seed: int, epoch: int) -> np.ndarray:
    """Permutation of `len(keys)` positions for one epoch.

    Args:
        keys: (n,) int64 film keys; the order follows from them, not from the films' place in the store.
        seed: run seed.
        epoch: epoch, from 0.
    """
    stream = np.uint64((seed * 0x9E3779B97F4A7C15 + epoch * 0xD1B54A32D192ED03) % 2**64)
    return np.argsort(mix(keys.astype(np.uint64) ^ mix(np.atleast_1d(stream))), kind="stable")


def mix(x: np.ndarray) -> np.ndarray:
    """SplitMix64's finalizer on uint64: a bijection whose every output bit depends on every input bit."""
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


class EpochBatches(Sampler[tuple[int, np.ndarray]]):
    """Yields (epoch, rows) for each step of an epoch; films that do not fill a last batch sit the epoch out.

    Several processes yield equal, disjoint shares of the batches that one process would yield.

    Args:
        store: the films.
        batch_size: films per batch, of all processes together; fewer films than this make one batch of all.
        seed: run seed.
        first_step: global step to begin at, from a resume point.
        rank: this process's place among the processes.
        processes: how many there are.

    Raises:
        ConfigError: the batch cannot be shared equally.
    """

    def __init__(
        self, store: FilmStore, batch_size: int, seed: int, first_step: int = 0, rank: int = 0, processes: int = 1
    ) -> None:
        if batch_size % processes:
            raise ConfigError(
                f"optimization.batch_size is {batch_size}, which {processes} processes cannot share equally; "
                f"expected a multiple of {processes}"
            )
        self.rows = store.rows("train")
        self.keys = store.keys[self.rows]
        self.batch_size = min(batch_size, len(self.rows) // processes * processes)
        self.share = slice(self.batch_size // processes * rank, self.batch_size // processes * (rank + 1))
        self.seed = seed
        self.steps = len(self.rows) // self.batch_size
        self.first_epoch, self.first_batch = divmod(first_step, self.steps)
        self.epoch = self.first_epoch

    def set_epoch(self, epoch: int) -> None:
        """Called by Lightning before each epoch."""
        self.epoch = epoch

    def __len__(self) -> int:
        return self.steps

    def __iter__(self) -> Iterator[tuple[int, np.ndarray]]:
        order = self.rows[epoch_order(self.keys, self.seed, self.epoch)]
        begin = self.first_batch if self.epoch == self.first_epoch else 0
        for step in range(begin, self.steps):
            yield self.epoch, order[step * self.batch_size : (step + 1) * self.batch_size][self.share]


class TrainingFilms(Dataset[Batch]):
    """A whole batch by its rows: `rows`, `films`, `labels`, `keys`, `epoch`, `priors` and `teacher_logits`.

    Args:
        store: the films.
        priors: read the anatomical priors, if the store has them.
        logits: a teacher's logits on the same films, or None.
        resident: films, labels, keys and priors are on the device already (`DeviceFilms`), and left out.
    """

    def __init__(
        self, store: FilmStore, priors: bool = True, logits: LogitStore | None = None, resident: bool = False
    ) -> None:
        self.store = store
        self.priors = store.priors if priors else None
        self.logits = logits
        self.resident = resident
        self.positions = np.full(len(store), -1)
        self.positions[store.rows("train")] = np.arange(len(store.rows("train")))

    def __getitem__(self, index: tuple[int, np.ndarray]) -> Batch:
        epoch, rows = index
        batch: Batch = {"epoch": epoch, "rows": torch.from_numpy(rows)}
        if self.resident:
            batch["positions"] = torch.from_numpy(self.positions[rows])
        else:
            batch |= _read(self.store, self.priors, rows)
        if self.logits is not None:
            logits = self.logits.epoch(epoch)[self.positions[rows]]
            batch["teacher_logits"] = torch.from_numpy(logits.astype(np.float32))
        return batch


class DeviceFilms:
    """The training films in the device's memory, read once: 112,120 films of 224 px and their priors take 6.5 GB.

    Args:
        films: what batches are made of.
        device: where to keep it.
    """

    def __init__(self, films: TrainingFilms, device: torch.device) -> None:
        rows = films.store.rows("train")
        parts: dict[str, Tensor] = {}
        for first in range(0, len(rows), _READ_AT_ONCE):
            for name, part in _read(films.store, films.priors, rows[first : first + _READ_AT_ONCE]).items():
                if first == 0:
                    parts[name] = torch.empty((len(rows), *part.shape[1:]), dtype=part.dtype, device=device)
                parts[name][first : first + len(part)] = part.to(device)
        self.parts = parts

    def fill(self, batch: Batch) -> Batch:
        """Add to a batch, in place, what `TrainingFilms` left out; (B,) `positions` are on the device."""
        for name, part in self.parts.items():
            batch[name] = part[batch["positions"]]
        return batch


def resident_bytes(films: TrainingFilms) -> int:
    """Memory that `DeviceFilms` takes."""
    film = films.store.size**2 + (0 if films.priors is None else films.priors[0].nbytes)
    return len(films.store.rows("train")) * film


def _read(store: FilmStore, priors: np.ndarray | None, rows: np.ndarray) -> dict[str, Tensor]:
    arrays = {
        "films": store.films[rows],
        "labels": store.labels[rows].astype(np.float32),
        "keys": store.keys[rows],
    }
    if priors is not None:
        arrays["priors"] = priors[rows]
    return {name: torch.from_numpy(array) for name, array in arrays.items()}


def training_loader(films: TrainingFilms, batches: EpochBatches, workers: int, pin_memory: bool) -> DataLoader[Batch]:
    """The loader that Lightning iterates once per epoch."""
    return DataLoader(
        films,
        batch_size=None,
        sampler=batches,
        num_workers=workers,
        pin_memory=pin_memory,
        persistent_workers=False,
    )
