"""Training batches from a store: which films, in which order, as a function of seed, epoch and step alone."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset, Sampler

from clarity_cxr.data.store import FilmStore
from clarity_cxr.distill.store import LogitStore

Batch = dict[str, Any]


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

    Args:
        store: the films.
        batch_size: films per batch; fewer films than this make one batch of all.
        seed: run seed.
        first_step: global step to begin at, from a resume point.
    """

    def __init__(self, store: FilmStore, batch_size: int, seed: int, first_step: int = 0) -> None:
        self.rows = store.rows("train")
        self.keys = store.keys[self.rows]
        self.batch_size = min(batch_size, len(self.rows))
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
            yield self.epoch, order[step * self.batch_size : (step + 1) * self.batch_size]


class TrainingFilms(Dataset[Batch]):
    """A whole batch by its rows: `rows`, `films`, `labels`, `keys`, `epoch`, `priors` and `teacher_logits`.

    Args:
        store: the films.
        priors: read the anatomical priors, if the store has them.
        logits: a teacher's logits on the same films, or None.
    """

    def __init__(self, store: FilmStore, priors: bool = True, logits: LogitStore | None = None) -> None:
        self.store = store
        self.priors = store.priors if priors else None
        self.logits = logits
        self.positions = np.full(len(store), -1)
        self.positions[store.rows("train")] = np.arange(len(store.rows("train")))

    def __getitem__(self, index: tuple[int, np.ndarray]) -> Batch:
        epoch, rows = index
        batch: Batch = {
            "epoch": epoch,
            "rows": torch.from_numpy(rows),
            "films": torch.from_numpy(self.store.films[rows]),
            "labels": torch.from_numpy(self.store.labels[rows]).float(),
            "keys": torch.from_numpy(self.store.keys[rows]),
        }
        if self.priors is not None:
            batch["priors"] = torch.from_numpy(self.priors[rows])
        if self.logits is not None:
            logits = self.logits.epoch(epoch)[self.positions[rows]]
            batch["teacher_logits"] = torch.from_numpy(logits.astype(np.float32))
        return batch


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
