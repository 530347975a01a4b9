"""Priors for every film of a prepared store; continues after an interruption.

The masks are written to `priors.npy.partial` beside journals that say which films are done, so that a run that was
killed at any moment continues with the others, and the shards of a job array can share the store. When all are there
the file gets its name and the manifest its entry.
"""

import os
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from clarity_cxr.anatomy.regions import pack_priors
from clarity_cxr.anatomy.segmenters import Provider
from clarity_cxr.data.store import PRIORS_SHAPE, FilmStore, open_store
from clarity_cxr.errors import StoreError
from clarity_cxr.files import file_digest, output_errors, write_json
from clarity_cxr.journals import Journal, Journals, exclusive
from clarity_cxr.progress import progress_bar
from clarity_cxr.shards import WHOLE, Shard

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
    store = write_shard_priors(path, provider, WHOLE, batch_size, replace)
    if store is None:
        raise StoreError(f"{path}: other processes are making shards of its priors; the last of them finishes them")
    return store


def write_shard_priors(
    path: Path, provider: Provider, shard: Shard, batch_size: int = 32, replace: bool = False
) -> FilmStore | None:
    """Make the priors of a shard's films; whichever shard is the last gives them all to the store.

    Args:
        path, provider, batch_size: as for `write_store_priors`, the same for every shard.
        shard: which films to do here.
        replace: as for `write_store_priors`; but a shard that comes late keeps what the others have just made.

    Returns:
        The store with its priors, or None while other shards have not done theirs.

    Raises:
        StoreError, ClarityError: as `write_store_priors`.
    """
    store = open_store(path)
    origin = {
        "provider": provider.name,
        "weights": provider.weights_digest,
        "threshold": provider.threshold,
        "film_digest": store.manifest["film_digest"],
    }
    anew = replace and shard == WHOLE
    if _finished(store, origin, replace, anew):
        return store
    journals, door = Journals(path, _JOURNAL, origin), path / "priors.lock"
    with output_errors(path):
        with exclusive(door):
            store = open_store(path)
            if _finished(store, origin, replace, anew):  # another process was faster
                return store
            _begin(store, journals)
            journal = journals.claim(shard)
            journal.begin()
        with journal:
            _write_masks(store, provider, batch_size, shard, journals, journal)
        with exclusive(door):
            store = open_store(path)
            if _finished(store, origin, replace, anew):
                return store
            if journals.in_use() or not _done(store, journals).all():
                return None
            if (path / _PARTIAL).exists():
                _publish(store)
            _describe(store, journals)
            journals.remove()
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


def _finished(store: FilmStore, origin: dict[str, Any], replace: bool, anew: bool) -> bool:
    """Whether the store has priors of this origin, which do not have to be made anew."""
    entry = store.manifest["priors"]
    if entry is None:
        return False
    if {key: entry.get(key) for key in _ORIGIN} == origin:
        return not anew
    if not replace:
        raise StoreError(
            f"{store.path}: has priors already, of provider {entry.get('provider')!r} or of other weights or films; "
            "`--replace` makes them anew"
        )
    return False


def _begin(store: FilmStore, journals: Journals) -> None:
    """Make room for the masks, unless an unfinished pass of the same origin has.

    Raises:
        StoreError: a pass of another origin is at work.
    """
    begun = journals.headers()
    if begun and all(header == journals.header for header in begun):
        published = store.manifest["priors"] is None and (store.path / "priors.npy").exists()
        if (store.path / _PARTIAL).exists() or (published and _done(store, journals).all()):
            return
    if journals.in_use():
        raise StoreError(f"{store.path}: another process is making other priors for it; wait for it to end")
    journals.remove()
    _allocate(store.path / _PARTIAL, len(store))


def _done(store: FilmStore, journals: Journals) -> np.ndarray:
    """(n,) bool: films whose masks are on the disk."""
    done = np.zeros(len(store), dtype=bool)
    for line in journals.lines():
        done[line["first"] : line["stop"]] = True
    return done


def _write_masks(
    store: FilmStore, provider: Provider, batch_size: int, shard: Shard, journals: Journals, journal: Journal
) -> None:
    """Write the masks of the shard's films that no journal names, and note them with the rows that have no lungs."""
    mine = np.arange(len(store))[shard.of(len(store))]
    left = mine[~_done(store, journals)[mine]]
    partial = store.path / _PARTIAL
    if not len(left):
        return
    names = store.index["image_id"].tolist()
    begin = np.load(partial, mmap_mode="r", allow_pickle=False).offset
    with progress_bar("Segmenting films", len(mine), len(mine) - len(left)) as advance, partial.open("r+b") as handle:
        for rows in _batches(left, batch_size):
            packed = pack_priors(provider.regions(_read_films(store, rows), names[rows.start : rows.stop]))
            handle.seek(begin + rows.start * packed[0].nbytes)
            handle.write(packed.tobytes())
            handle.flush()
            os.fsync(handle.fileno())
            empty = rows.start + np.flatnonzero(packed[:, 0].max(axis=(1, 2)) == 0)
            journal.append({"first": rows.start, "stop": rows.stop, "empty": empty.tolist()})
            advance(len(packed))


def _batches(rows: np.ndarray, batch_size: int) -> Iterator[range]:
    """Ascending rows in runs of neighbours, at most `batch_size` long."""
    for run in np.split(rows, np.flatnonzero(np.diff(rows) != 1) + 1):
        for first in range(int(run[0]), int(run[-1]) + 1, batch_size):
            yield range(first, min(first + batch_size, int(run[-1]) + 1))


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


def _describe(store: FilmStore, journals: Journals) -> None:
    """Say in the manifest whose priors the store now has."""
    empty = {row for line in journals.lines() for row in line["empty"]}
    entry = {**journals.header, "films": len(store), "without_lungs": len(empty)}
    entry["date"] = datetime.now(UTC).date().isoformat()
    entry["digest"] = file_digest(store.path / "priors.npy")
    write_json(store.path / "manifest.json", {**store.manifest, "priors": entry})
