"""From a release to a store: decode, grey, Lanczos, one memory-mapped array; continues after an interruption.

All work happens in `STORE.partial/`, which is renamed to `STORE` when whole. Its journals name the chunks whose rows
are on the disk, so a run that was killed at any moment continues with the others and ends with the same bytes, and the
shards of a job array can fill one store.
"""

import hashlib
import json
import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from clarity_cxr.data.manifest import Manifest, inspect_data
from clarity_cxr.data.release import BOX_FRAME, find_priors, require_sound, some
from clarity_cxr.data.splits import LOCALIZATION_SEED, VALIDATION_SEED, assign_splits
from clarity_cxr.data.store import FORMAT_VERSION, PRIORS_SHAPE, FilmStore, ids_digest, open_store
from clarity_cxr.data.workers import StoreChunk, available_processors, map_unordered, write_chunk
from clarity_cxr.errors import FilmError, ReleaseError, StoreError
from clarity_cxr.files import atomic_path, file_digest, output_errors, write_json
from clarity_cxr.findings import FINDINGS
from clarity_cxr.journals import Journal, Journals, exclusive
from clarity_cxr.progress import progress_bar
from clarity_cxr.shards import WHOLE, Shard
from clarity_cxr.version import __version__

CHUNK_FILMS = 32
"""Films decoded, written and journalled together."""

_JOURNAL = "journal"
_MOST_UNREADABLE = 20


@dataclass(frozen=True)
class _Plan:
    """The films to prepare, with their splits, boxes and prior files (None where a film or the release has none)."""

    source: Path
    root: Path
    films: pd.DataFrame
    boxes: pd.DataFrame
    priors: list[Path | None] | None


@dataclass(frozen=True)
class _Arrays:
    """File and offset of the data of each array."""

    films: tuple[Path, int]
    priors: tuple[Path, int] | None


def prepare(
    release: Path | Manifest, out: Path, size: int = 224, processes: int | None = None, skip_missing: bool = False
) -> FilmStore:
    """Prepare films for training or judging; returns at once if `out` already holds the same store.

    Args:
        release: folder in the NIH layout, or a manifest; a folder `priors/` beside the films with one PNG for each is
            packed as well.
        out: the store's folder, made by this call.
        size: side of the stored films in pixels.
        processes: worker processes; None takes one per processor.
        skip_missing: leave out rows without a film and films without a row instead of refusing them.

    Raises:
        ReleaseError: a table or list is wrong, or films are missing or left over.
        FilmError: films cannot be decoded; all others are done and a later run continues.
        StoreError: `out` or `out.partial` holds something else, or another process is at work on it.
        ClarityError: `out` cannot be written.
    """
    store = prepare_shard(release, out, WHOLE, size, processes, skip_missing)
    if store is None:
        raise StoreError(f"{out}: other processes are preparing shards of it; the last of them finishes it")
    return store


def prepare_shard(
    release: Path | Manifest,
    out: Path,
    shard: Shard,
    size: int = 224,
    processes: int | None = None,
    skip_missing: bool = False,
) -> FilmStore | None:
    """Prepare a shard's films; whichever shard is the last finishes the store, with the bytes that `prepare` gives.

    Args:
        release, out, size, processes, skip_missing: as for `prepare`, the same for every shard.
        shard: which chunks of films to do here.

    Returns:
        The store, or None while other shards have not done theirs.

    Raises:
        ReleaseError, FilmError, StoreError, ClarityError: as `prepare`.
    """
    out = Path(out)
    if size < 1 or (processes is not None and processes < 1):
        raise StoreError(f"size {size}, processes {processes}: both must be at least 1")
    plan = _plan(release, skip_missing)
    inputs = _inputs_digest(plan, size)
    if _occupied(out):
        return _finished_store(out, inputs)
    partial, door = out.with_name(out.name + ".partial"), out.with_name(out.name + ".lock")
    journals = Journals(partial, _JOURNAL, {"inputs_digest": inputs})
    with output_errors(partial):
        with exclusive(door):
            if _occupied(out):  # another process finished it while this one was reading the release
                return _finished_store(out, inputs)
            journal = _claim(journals, shard)
        try:
            with journal:
                with exclusive(door):
                    arrays = _open_arrays(partial) if journals.headers() else _allocate(partial, plan, size)
                    journal.begin()
                _write_films(plan, size, arrays, journals, journal, shard, processes or available_processors())
        except BaseException:
            with exclusive(door):
                _remove_if_nothing_is_done(journals)
            raise
        with exclusive(door):
            if _occupied(out):
                return _finished_store(out, inputs)
            sizes = _done(journals)
            if journals.in_use() or len(sizes) < _chunk_count(plan):
                return None
            _write_tables(partial, plan, size, inputs, sizes)
            partial.replace(out)
            Journals(out, _JOURNAL, journals.header).remove()
            _flush_folder(out)
            _flush_folder(out.parent)
    return open_store(out, size)


def _plan(release: Path | Manifest, skip_missing: bool) -> _Plan:
    inspection = inspect_data(release)
    require_sound(inspection)
    films, root, source = inspection.release.films, inspection.release.root, inspection.release.source
    present = films["path"].ne("")
    if not skip_missing:
        hint = "`--skip-missing` leaves them out"
        if not present.all():
            missing = films.loc[~present, "image_id"]
            raise ReleaseError(f"{source}: {len(missing)} of {len(films)} rows have no film: {some(missing)}; {hint}")
        if inspection.orphans:
            raise ReleaseError(
                f"{root}: {len(inspection.orphans)} films have no row in the CSV: {some(inspection.orphans)}; {hint}"
            )
    films = films[present].reset_index(drop=True)
    if films.empty:
        raise ReleaseError(f"{source}: none of the CSV's films is under {root}; expected PNG or JPEG files there")
    boxes = inspection.release.boxes
    boxes = boxes[boxes["image_id"].isin(films["image_id"])].reset_index(drop=True)
    return _Plan(source, root, assign_splits(films, boxes), boxes, find_priors(root, films))


def _inputs_digest(plan: _Plan, size: int) -> str:
    """Digest of everything but the films' pixels that decides the store's bytes."""
    digest = hashlib.sha256()
    priors = [] if plan.priors is None else [path is not None for path in plan.priors]
    settings = [FORMAT_VERSION, size, FINDINGS, VALIDATION_SEED, LOCALIZATION_SEED, priors]
    digest.update(json.dumps(settings).encode())
    for table in (plan.films, plan.boxes):
        digest.update(pd.util.hash_pandas_object(table, index=False).to_numpy().tobytes())
    return digest.hexdigest()


def _occupied(out: Path) -> bool:
    return out.exists() and not (out.is_dir() and next(out.iterdir(), None) is None)


def _finished_store(out: Path, inputs: str) -> FilmStore:
    store = open_store(out)
    if store.manifest.get("inputs_digest") != inputs:
        raise StoreError(
            f"{out}: holds a store of other films, tables or size ({len(store)} films, {store.size} px); "
            "choose another --out or delete it"
        )
    return store


def _claim(journals: Journals, shard: Shard) -> Journal:
    """Claim a shard's journal in the folder of an unfinished store, made if need be.

    Raises:
        StoreError: another process has it, or the folder holds something else.
    """
    partial = journals.folder
    partial.mkdir(parents=True, exist_ok=True)
    if not journals.paths() and next(partial.iterdir(), None) is not None:
        raise StoreError(f"{partial}: in the way and not an unfinished store; move it or choose another --out")
    if any(header != journals.header for header in journals.headers()):
        raise StoreError(
            f"{partial}: an unfinished store of other films, tables or size; finish that one or delete the folder"
        )
    return journals.claim(shard)


def _remove_if_nothing_is_done(journals: Journals) -> None:
    if not journals.in_use() and next(journals.lines(), None) is None:
        shutil.rmtree(journals.folder)


def _done(journals: Journals) -> dict[int, list[tuple[int, int]]]:
    """Chunks whose rows are on the disk, with their films' sizes."""
    return {line["chunk"]: line["sizes"] for line in journals.lines()}


def _open_arrays(partial: Path) -> _Arrays:
    priors = partial / "priors.npy"
    return _Arrays(_data_offset(partial / "films.npy"), _data_offset(priors) if priors.exists() else None)


def _data_offset(path: Path) -> tuple[Path, int]:
    array = np.load(path, mmap_mode="r", allow_pickle=False)
    return path, array.offset


def _allocate(partial: Path, plan: _Plan, size: int) -> _Arrays:
    """Make the arrays at their final length, so that a disk that cannot hold them is known at once."""
    count = len(plan.films)
    films = _allocate_array(partial / "films.npy", (count, size, size))
    priors = _allocate_array(partial / "priors.npy", (count, *PRIORS_SHAPE)) if plan.priors else None
    return _Arrays(films, priors)


def _allocate_array(path: Path, shape: tuple[int, ...]) -> tuple[Path, int]:
    array = np.lib.format.open_memmap(path, mode="w+", dtype=np.uint8, shape=shape)
    array.flush()
    if hasattr(os, "posix_fallocate"):
        with path.open("r+b") as handle:
            os.posix_fallocate(handle.fileno(), 0, array.offset + array.nbytes)
    return path, array.offset


def _write_films(
    plan: _Plan,
    size: int,
    arrays: _Arrays,
    journals: Journals,
    journal: Journal,
    shard: Shard,
    processes: int,
) -> None:
    """Write the shard's chunks that no journal names, and note them.

    Raises:
        FilmError: films cannot be decoded; their chunks are left out of the journal.
    """
    mine = range(_chunk_count(plan))[shard.of(_chunk_count(plan))]
    done = _done(journals)
    chunks = [chunk for chunk in mine if chunk not in done]
    unreadable: list[str] = []
    total, left = _film_count(plan, mine), _film_count(plan, chunks)
    with progress_bar("Preparing films", total, done=total - left) as advance:
        tasks = (_chunk(plan, size, arrays, number) for number in chunks)
        for chunk, result in map_unordered(write_chunk, tasks, min(processes, len(chunks) or 1)):
            advance(len(chunk.films))
            unreadable += result.unreadable
            if not result.unreadable:
                journal.append({"chunk": chunk.number, "sizes": result.sizes})
            if len(unreadable) >= _MOST_UNREADABLE:
                break
    if unreadable:
        raise FilmError(
            f"{len(unreadable)} films are unreadable: {'; '.join(sorted(unreadable)[:3])}"
            f"{'; ...' if len(unreadable) > 3 else ''} (mend them and run the same command again; it continues)"
        )


def _chunk_count(plan: _Plan) -> int:
    return -(-len(plan.films) // CHUNK_FILMS)


def _film_count(plan: _Plan, chunks: Sequence[int]) -> int:
    return sum(min(CHUNK_FILMS, len(plan.films) - chunk * CHUNK_FILMS) for chunk in chunks)


def _chunk(plan: _Plan, size: int, arrays: _Arrays, number: int) -> StoreChunk:
    first = number * CHUNK_FILMS
    films = [plan.root / path for path in plan.films["path"].iloc[first : first + CHUNK_FILMS]]
    priors = plan.priors[first : first + CHUNK_FILMS] if plan.priors else None
    return StoreChunk(number, first, films, priors, size, arrays.films, arrays.priors)


def _write_tables(partial: Path, plan: _Plan, size: int, inputs: str, sizes: dict[int, list[tuple[int, int]]]) -> None:
    for leftover in partial.glob(".*.tmp*"):  # a table that was being written when a run was killed
        leftover.unlink()
    films = plan.films
    pixels = np.array([pair for number in sorted(sizes) for pair in sizes[number]], dtype=np.int64)
    index = films.drop(columns="path").assign(width=pixels[:, 0], height=pixels[:, 1])
    rows = pd.Series(films.index, index=films["image_id"])
    boxes = plan.boxes.copy()
    boxes[["x0", "y0", "x1", "y1"]] /= BOX_FRAME
    boxes.insert(0, "row", boxes["image_id"].map(rows).astype("int64"))
    for name, table in (("index.parquet", index), ("boxes.parquet", boxes)):
        with atomic_path(partial / name) as temporary:
            table.to_parquet(temporary, index=False)
    priors = plan.priors and {
        "provider": "release",
        "films": sum(path is not None for path in plan.priors),
        "digest": file_digest(partial / "priors.npy"),
    }
    counts = films["split"].value_counts()
    halves = films["localization"].value_counts()
    manifest = {
        "format_version": FORMAT_VERSION,
        "films": len(films),
        "size": size,
        "findings": list(FINDINGS),
        "priors": priors,
        "splits": {split: int(counts.get(split, 0)) for split in ("train", "val", "test")},
        "localization": {half: int(halves.get(half, 0)) for half in ("val", "test")},
        "boxes": len(boxes),
        "source": plan.source.resolve().name,
        "clarity_cxr": __version__,
        "ids_digest": ids_digest(films["image_id"]),
        "film_digest": file_digest(partial / "films.npy"),
        "inputs_digest": inputs,
    }
    write_json(partial / "manifest.json", manifest)


def _flush_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
