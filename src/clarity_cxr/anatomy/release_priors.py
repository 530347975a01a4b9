"""Priors for every film of a release: one PNG per film in its folder `priors/`, which `clarity prepare` packs."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from clarity_cxr.anatomy.regions import pack_priors
from clarity_cxr.anatomy.segmenters import Provider
from clarity_cxr.data.images import PRIOR_SIZE, read_film, resize_film
from clarity_cxr.data.release import read_release, stem_of
from clarity_cxr.data.workers import map_unordered
from clarity_cxr.errors import FilmError, ReleaseError
from clarity_cxr.files import atomic_path, output_errors, write_json
from clarity_cxr.journals import exclusive
from clarity_cxr.progress import progress_bar
from clarity_cxr.shards import WHOLE, Shard

_ORIGIN = "provider.json"


@dataclass(frozen=True)
class DecodeTask:
    """Films to decode: their files, and the side to shrink them to (None: they are not looked at)."""

    paths: list[Path]
    size: int | None


@dataclass(frozen=True)
class ReleasePriors:
    """What the pass did.

    Attributes:
        written: prior files of this run.
        kept: files of an earlier run of the same provider.
        unreadable: messages of films that cannot be decoded; they get no prior.
    """

    written: int
    kept: int
    unreadable: list[str]


def write_release_priors(
    root: Path,
    provider: Provider,
    batch_size: int = 32,
    processes: int = 1,
    replace: bool = False,
    shard: Shard = WHOLE,
) -> ReleasePriors:
    """Write `priors/<stem>.png`, 128 x 128, whose bits 0..3 are the four priors; files that are there are kept.

    Args:
        root: the release's folder.
        provider: where the regions come from.
        batch_size: films segmented together.
        processes: processes that decode films.
        replace: whether priors of another provider are made anew.
        shard: the share of the films to do here.

    Raises:
        ReleaseError: the release is unsound, or has priors of another provider.
        ClarityError: the provider fails, or the folder cannot be written to.
    """
    films = read_release(root).films
    films = films[films["path"].ne("")]
    if films.empty:
        raise ReleaseError(f"{root}: none of the CSV's films is under images*/; expected PNG or JPEG files there")
    folder = root / "priors"
    with output_errors(folder), exclusive(root / ".priors.lock"):
        _claim(folder, provider, replace)
    targets = {
        root / path: folder / f"{stem_of(name)}.png"
        for path, name in list(zip(films["path"], films["image_id"], strict=True))[shard.of(len(films))]
    }
    missing = [path for path, target in targets.items() if not target.exists()]
    tasks = (DecodeTask(missing[k : k + batch_size], provider.film_size) for k in range(0, len(missing), batch_size))
    unreadable: list[str] = []
    written = 0
    with progress_bar("Segmenting films", len(targets), len(targets) - len(missing)) as advance:
        for task, decoded in map_unordered(decode_films, tasks, min(processes, len(missing)) or 1):
            unreadable += [film for film in decoded if isinstance(film, str)]
            good = [(path, film) for path, film in zip(task.paths, decoded, strict=True) if not isinstance(film, str)]
            if good:
                names = [path.name for path, _ in good]
                priors = provider.regions(np.stack([film for _, film in good]), names)
                for (path, _), bits in zip(good, _prior_bits(priors), strict=True):
                    with atomic_path(targets[path]) as temporary:
                        Image.fromarray(bits).save(temporary, format="PNG")
                written += len(good)
            advance(len(task.paths))
    return ReleasePriors(written, len(targets) - len(missing), unreadable)


def decode_films(task: DecodeTask) -> list[np.ndarray | str]:
    """Films (size, size) uint8, or the message of one that cannot be decoded."""
    return list(_decoded(task))


def _decoded(task: DecodeTask) -> Iterator[np.ndarray | str]:
    for path in task.paths:
        try:
            yield np.zeros((1, 1), np.uint8) if task.size is None else resize_film(read_film(path), task.size)
        except FilmError as error:
            yield str(error)


def _claim(folder: Path, provider: Provider, replace: bool) -> None:
    """Write down whose priors the folder holds, or refuse it."""
    origin: dict[str, Any] = {
        "provider": provider.name,
        "weights": provider.weights_digest,
        "threshold": provider.threshold,
    }
    record = folder / _ORIGIN
    if folder.is_dir() and any(folder.glob("*.png")):
        earlier = json.loads(record.read_text(encoding="utf-8")) if record.is_file() else {"provider": "the release"}
        if earlier == origin:
            return
        if not replace:
            raise ReleaseError(
                f"{folder}: has priors already, of {earlier['provider']!r} or other weights; "
                "`--replace` makes them anew"
            )
        record.unlink(missing_ok=True)
        with output_errors(folder):
            for path in folder.glob("*.png"):
                path.unlink()
    write_json(record, origin)


def _prior_bits(regions: np.ndarray) -> np.ndarray:
    """(B, 5, 128, 128) regions to (B, 128, 128) uint8, prior k in bit k."""
    priors = np.unpackbits(pack_priors(regions), axis=-1, bitorder="big").reshape(-1, 4, PRIOR_SIZE, PRIOR_SIZE)
    weights = np.array([1, 2, 4, 8], dtype=np.uint8)[:, None, None]
    return (priors * weights).sum(axis=1, dtype=np.uint8)
