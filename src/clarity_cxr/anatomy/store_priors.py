"""Priors for every film of a prepared store; continues after an interruption.

The masks are written to `priors.npy.partial` beside a journal that says how many films are done, so that a run that was
killed at any moment continues behind them. When all are there the file gets its name and the manifest its entry.
"""

import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from clarity_cxr.anatomy.regions import pack_priors
from clarity_cxr.anatomy.segmenters import Provider
from clarity_cxr.data.store import PRIORS_SHAPE, FilmStore, open_store
from clarity_cxr.errors import StoreError
from clarity_cxr.files import file_digest, output_errors, write_json
from clarity_cxr.progress import progress_bar

_PARTIAL = "priors.npy.partial"
_JOURNAL = "priors.journal"
_ORIGIN = ("provider", "weights", "threshold", "film_digest")


def write_store_priors(path: Path, provider: Provider, batch_size: int = 32, replace: bool = False) -> FilmStore:
    """Give a store its priors; returns at once if it has the same already.

    Args:
        path: the store's folder.
        provider: where the regions come from.
        batch_size: films segmented together.
        replace: whether priors of another provider or other weights may be replaced.

    Returns:
        The store, with `priors` (n, 4, 128, 16) and `manifest["priors"]`: provider, digest of its weights, threshold,
        digest of the films, number of films with a prior and without lungs, date, digest of `priors.npy`.

    Raises:
        StoreError: the folder is no store, has other priors, or another process is at work on it.
        ClarityError: the provider fails, or the store cannot be written.
    """
    store = open_store(path)
    origin = {
        "provider": provider.name,
        "weights": provider.weights_digest,
        "threshold": provider.threshold,
        "film_digest": store.manifest["film_digest"],
    }
    if _finished(store, origin, replace):
        return store
    with output_errors(store.path), _locked_journal(store.path) as journal:
        store = open_store(path)
        if _finished(store, origin, replace):  # another process was faster
            (store.path / _JOURNAL).unlink()
            return store
        done, empty = _resume(store, journal, origin)
        if done < len(store) or (store.path / _PARTIAL).exists():
            empty = _write_masks(store, provider, batch_size, journal, done, empty)
            _publish(store)
        entry = {**origin, "films": len(store), "without_lungs": empty, "date": datetime.now(UTC).date().isoformat()}
        entry["digest"] = file_digest(store.path / "priors.npy")
        write_json(store.path / "manifest.json", {**store.manifest, "priors": entry})
        (store.path / _JOURNAL).unlink()
    return open_store(path)


def verify_priors(store: FilmStore) -> None:
    """Refuse priors that are missing, damaged or made from other films; call it before using them.

    Raises:
        StoreError: naming the command that makes them.
    """
    entry: dict[str, Any] | None = store.manifest["priors"]
    command = f"`clarity anatomy {store.path}`"
    if entry is None:
        raise StoreError(f"{store.path}: the store has no anatomical priors; make them with {command}")
    made_from = entry.get("film_digest", store.manifest["film_digest"])
    if made_from != store.manifest["film_digest"]:
        raise StoreError(
            f"{store.path}: its priors were made from other films (digest {made_from[:12]}, the store's films have "
            f"{store.manifest['film_digest'][:12]}); make them again with {command} --replace"
        )
    if "digest" in entry and file_digest(store.path / "priors.npy") != entry["digest"]:
        raise StoreError(
            f"{store.path / 'priors.npy'}: not the file that the manifest describes; "
            f"make it again with {command} --replace"
        )


def _finished(store: FilmStore, origin: dict[str, Any], replace: bool) -> bool:
    entry = store.manifest["priors"]
    if entry is None:
        return False
    if {key: entry.get(key) for key in _ORIGIN} == origin:
        return not replace
    if not replace:
        raise StoreError(
            f"{store.path}: has priors already, of provider {entry.get('provider')!r} or of other weights or films; "
            "`--replace` makes them anew"
        )
    return False


@contextmanager
def _locked_journal(folder: Path) -> Iterator[BinaryIO]:
    path = folder / _JOURNAL
    with path.open("a+b") as journal:
        try:
            fcntl.flock(journal, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise StoreError(f"{folder}: another process is making its priors; wait for it to end") from None
        if not path.exists() or not os.path.samestat(path.stat(), os.fstat(journal.fileno())):
            raise StoreError(f"{folder}: another process has just finished its priors; run the command again")
        yield journal


def _resume(store: FilmStore, journal: BinaryIO, origin: dict[str, Any]) -> tuple[int, int]:
    """Films done by an earlier run of the same origin, and how many of them have no lungs; begins anew otherwise."""
    journal.seek(0)
    content = journal.read()
    whole = content[: content.rfind(b"\n") + 1]
    header, *steps = [json.loads(line) for line in whole.splitlines()] or [None]
    if header == origin and steps:
        published = steps[-1]["done"] == len(store) and store.manifest["priors"] is None
        if (store.path / _PARTIAL).exists() or (published and (store.path / "priors.npy").exists()):
            journal.truncate(len(whole))
            return steps[-1]["done"], steps[-1]["empty"]
    journal.truncate(0)
    _append(journal, origin)
    return 0, 0


def _append(journal: BinaryIO, line: dict[str, Any]) -> None:
    journal.write(json.dumps(line).encode() + b"\n")
    journal.flush()
    os.fsync(journal.fileno())


def _write_masks(
    store: FilmStore, provider: Provider, batch_size: int, journal: BinaryIO, done: int, empty: int
) -> int:
    """Write the masks of all films from number `done` on; returns how many films have no lungs."""
    partial = store.path / _PARTIAL
    if not done:
        _allocate(partial, len(store))
    names = store.index["image_id"].tolist()
    begin = np.load(partial, mmap_mode="r", allow_pickle=False).offset
    with progress_bar("Segmenting films", len(store), done) as advance, partial.open("r+b") as handle:
        while done < len(store):
            rows = range(done, min(done + batch_size, len(store)))
            packed = pack_priors(provider.regions(_read_films(store, rows), names[rows.start : rows.stop]))
            handle.seek(begin + rows.start * packed[0].nbytes)
            handle.write(packed.tobytes())
            handle.flush()
            os.fsync(handle.fileno())
            done = rows.stop
            empty += int((packed[:, 0].max(axis=(1, 2)) == 0).sum())
            _append(journal, {"done": done, "empty": empty})
            advance(len(packed))
    return empty


def _allocate(partial: Path, count: int) -> None:
    """Make the array at its final length, so that a disk that cannot hold it is known at once."""
    array = np.lib.format.open_memmap(partial, mode="w+", dtype=np.uint8, shape=(count, *PRIORS_SHAPE))
    array.flush()
    if hasattr(os, "posix_fallocate"):
        with partial.open("r+b") as handle:
            os.posix_fallocate(handle.fileno(), 0, array.offset + array.nbytes)


def _read_films(store: FilmStore, rows: range) -> np.ndarray:
    # Read, not taken from the memory map, whose pages would stay in this process until the end of a long pass.
    pixels = store.size * store.size
    offset = store.films.offset + rows.start * pixels  # pyright: ignore[reportAttributeAccessIssue]
    films = np.fromfile(store.path / "films.npy", dtype=np.uint8, count=len(rows) * pixels, offset=offset)
    return films.reshape(len(rows), store.size, store.size)


def _publish(store: FilmStore) -> None:
    """Give the masks their name; until the manifest is written the store has no priors, so never wrong ones."""
    if store.manifest["priors"] is not None:
        write_json(store.path / "manifest.json", {**store.manifest, "priors": None})
    (store.path / _PARTIAL).replace(store.path / "priors.npy")
