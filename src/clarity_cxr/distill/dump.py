"""Filling a logit store: any number of processes, epochs in any order, each continued where it was left."""

import fcntl
import importlib.metadata
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from clarity_cxr.distill.manifest import NAME, Manifest, differences, read_manifest, write_manifest
from clarity_cxr.distill.partial import append, locked_partial, resume
from clarity_cxr.distill.source import LogitSource
from clarity_cxr.distill.store import LogitStore, spans
from clarity_cxr.errors import ConfigError, LogitsError
from clarity_cxr.files import output_errors
from clarity_cxr.progress import progress_bar
from clarity_cxr.version import __version__

_WAIT_SECONDS = 0.5


def dump(
    source: LogitSource,
    out: Path,
    epochs: int,
    *,
    only: range | None = None,
    batch_size: int = 64,
    origin: dict[str, Any],
) -> LogitStore:
    """Compute the logits of every training film for every epoch; whatever is there is kept.

    Processes that are given the same folder share the work: each takes the next epoch that nobody is making, and waits
    at the end for the epochs that others have in hand, to take over any that is left unfinished.

    Args:
        source: teacher, films, augmentation and seed.
        out: the store's folder, made if need be.
        epochs: how many the store is planned to hold; a finished store can be extended.
        only: the epochs that this process looks after; None is all of them.
        batch_size: films per forward pass. The same one gives the same bytes.
        origin: where teacher and films are, for the manifest.

    Returns:
        The store, with all epochs of `only`.

    Raises:
        LogitsError: the folder holds other logits, or a logit is not finite.
        ConfigError: `epochs`, `only` or `batch_size` is out of range.
        ClarityError: the folder cannot be written to, or the disk is full.
    """
    only = range(epochs) if only is None else only
    if epochs < 1 or batch_size < 1 or not len(only) or only[0] < 0 or only[-1] >= epochs:
        raise ConfigError(
            f"epochs {epochs}, only {only.start}:{only.stop}, batch size {batch_size}: expected at least one epoch, "
            "only some of 0 to epochs, and at least one film per batch"
        )
    how = computation(source, batch_size)
    store = _claim(out, Manifest(source.identity, epochs, origin | {"weights_licence": source.licence} | how))
    left, announced = _unfinished(store, only), False
    with progress_bar(
        "Teacher's logits", len(only) * len(source.rows), done=(len(only) - len(left)) * len(source.rows)
    ) as advance:
        while left:
            mine = [epoch for epoch in left if make_epoch(store, source, epoch, batch_size, how, advance)]
            before, left = left, _unfinished(store, only)
            advance((len(before) - len(left) - len(mine)) * len(source.rows))
            if left:
                if not announced:
                    print(f"waiting for epochs {spans(left)}, which another process is making", file=sys.stderr)
                announced = True
                time.sleep(_WAIT_SECONDS)
    return store


def make_epoch(
    store: LogitStore,
    source: LogitSource,
    epoch: int,
    batch_size: int,
    origin: dict[str, Any],
    advance: Callable[[int], None] = lambda films: None,
) -> bool:
    """Compute one epoch, or what is left of it.

    Args:
        store: where it goes.
        source: where it comes from.
        epoch: which.
        batch_size: films per forward pass.
        origin: kept beside the epoch's digest.
        advance: told the number of films as they are done.

    Returns:
        False if another process has the epoch in hand or has finished it, and nothing was done here.
    """
    path = store.partial_path(epoch)
    with locked_partial(path) as handle:
        if handle is None:
            return False
        finished = store.has(epoch)
        if not finished:
            _remove_unfinished_writes(store, epoch)
            logits = np.empty(store.shape, np.float16)
            done = resume(handle, logits)
            advance(done)
            for first in range(done, len(logits), batch_size):
                batch = source.logits(np.arange(first, min(first + batch_size, len(logits))), epoch)
                append(handle, first, batch)
                logits[first : first + len(batch)] = batch
                advance(len(batch))
            store.write(epoch, logits, origin)
        path.unlink()
    return not finished


def _claim(out: Path, manifest: Manifest) -> LogitStore:
    """Open `out` for this manifest, writing it if it is the first or plans more epochs."""
    with output_errors(out):
        out.mkdir(parents=True, exist_ok=True)
        with (out / ".lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            for leftover in out.glob(f".{NAME}.*.tmp.json"):
                leftover.unlink()
            if not (out / NAME).exists():
                if any(out.glob("epoch_*")):
                    raise LogitsError(f"{out}: holds epochs without a {NAME}; choose another folder")
                write_manifest(out, manifest)
            earlier = read_manifest(out)
            differing = differences(earlier.identity, manifest.identity)
            if differing:
                raise LogitsError(f"{out}: holds other logits: {'; '.join(differing)}. Choose another --out")
            if manifest.epochs > earlier.epochs:
                write_manifest(out, Manifest(earlier.identity, manifest.epochs, earlier.origin))
    return LogitStore(out)


def _unfinished(store: LogitStore, epochs: range) -> list[int]:
    """Epochs that are not there, or whose maker was killed before it removed its partial file."""
    return [epoch for epoch in epochs if not store.has(epoch) or store.partial_path(epoch).exists()]


def _remove_unfinished_writes(store: LogitStore, epoch: int) -> None:
    """What a process killed while finishing the epoch left; only this process is making it now."""
    for path in (store.array_path(epoch), store.record_path(epoch)):
        for leftover in store.path.glob(f".{path.name}.*.tmp{path.suffix}"):
            leftover.unlink()


def computation(source: LogitSource, batch_size: int) -> dict[str, Any]:
    """How an epoch is computed here, to be kept beside its digest."""
    versions = {name: importlib.metadata.version(name) for name in ("torch", "timm", "numpy")}
    return {"batch_size": batch_size, "device": source.device.type, "versions": {"clarity-cxr": __version__} | versions}
