"""Is this an upright, frontal, whole chest film in the usual grey scale? A score, and what speaks against it in words.

The built-in segmenter's film head tells turned, inverted and foreign pictures; the shape of the masks tells missing,
cut and implausible lungs.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd
from scipy import ndimage

from clarity_cxr.anatomy.builtin import BuiltinSegmenter, load_builtin
from clarity_cxr.anatomy.regions import clean_organs, mediastinum
from clarity_cxr.data.images import read_film, resize_film
from clarity_cxr.data.release import Problem
from clarity_cxr.data.store import FilmStore
from clarity_cxr.errors import FilmError
from clarity_cxr.files import atomic_path, output_errors
from clarity_cxr.progress import progress_bar

STORE_REPORT = "film_check.csv"
"""Table of a store's films that do not pass."""

SMALLEST_SCORE = 0.8
"""Below this probability of an upright film the likeliest other pose is named; the same for the grey scale."""

_POSE_WORDS = (
    "upright",
    "rotated by 90 degrees counter-clockwise",
    "rotated by 180 degrees",
    "rotated by 90 degrees clockwise",
    "not a frontal chest film",
)
_INVERTED_WORDS = "grey scale inverted (air is bright)"
_SMALLEST_LUNGS = 0.04
_LARGEST_LUNGS = 0.75
_SMALLEST_RATIO = 0.12
_LONGEST_CUT = 0.22
_SMALLEST_CONTRAST = 0.3
_SMALLEST_DETAIL = 0.005
_BATCH = 64
_READERS = 2
_SEPARATOR = "; "


@dataclass(frozen=True)
class FilmCheck:
    """What the check says about one film.

    Attributes:
        score: 0 to 1, how sure it is an upright frontal chest film in the usual grey scale, with both lungs whole.
        reasons: what speaks against it; empty for a film that passes.
    """

    score: float
    reasons: tuple[str, ...]

    @property
    def passed(self) -> bool:
        return not self.reasons

    def __str__(self) -> str:
        return f"{', '.join(self.reasons) or 'passed'} (score {self.score:.2f})"


def check_film(film: np.ndarray, segmenter: BuiltinSegmenter | None = None) -> FilmCheck:
    """Check one film (H, W) uint8; see `check_films`."""
    return check_films(film[None], segmenter)[0]


def check_films(films: np.ndarray, segmenter: BuiltinSegmenter | None = None) -> list[FilmCheck]:
    """Check a batch of films.

    Args:
        films: (B, H, W) uint8.
        segmenter: None for the one in the package.

    Returns:
        One `FilmCheck` per film.
    """
    seen = (segmenter or _packaged_segmenter()).infer(films)
    return [_judge(*film) for film in zip(seen.organs, seen.poses, seen.inverted, seen.pixels, strict=True)]


def check_any_size(films: Sequence[np.ndarray]) -> list[FilmCheck]:
    """Check films (H, W) uint8 whose sizes differ; see `check_films`."""
    return check_films(np.stack([resize_film(film, BuiltinSegmenter.film_size) for film in films])) if films else []


def check_store(store: FilmStore) -> dict[str, FilmCheck]:
    """The checks of those films of a store that do not pass, by image id; read from the store once they are there.

    The first call writes them to `film_check.csv` in the store: image_id, score, reasons.

    Raises:
        ClarityError: the table cannot be written.
    """
    report = store.path / STORE_REPORT
    if not report.is_file():
        names = store.index["image_id"].tolist()
        batches = ((names[k : k + _BATCH], np.array(store.films[k : k + _BATCH])) for k in range(0, len(names), _BATCH))
        rows = [
            (name, check.score, _SEPARATOR.join(check.reasons)) for name, check in _failed(batches, len(names)).items()
        ]
        with output_errors(report), atomic_path(report) as temporary:
            pd.DataFrame(rows, columns=["image_id", "score", "reasons"]).to_csv(temporary, index=False)
    table = pd.read_csv(report, dtype={"image_id": str, "score": float, "reasons": str})
    return {
        str(row.image_id): FilmCheck(float(row.score), tuple(str(row.reasons).split(_SEPARATOR)))  # pyright: ignore
        for row in table.itertuples(index=False)
    }


def check_files(paths: Sequence[Path]) -> dict[str, FilmCheck]:
    """The checks of those files that do not pass, by path; files that cannot be decoded are left out."""
    return _failed(_read_batches(paths), len(paths))


def film_problems(root: Path, paths: Sequence[str], severity: Literal["error", "warning"]) -> list[Problem]:
    """A release's films that do not pass, as problems of `clarity check`, the most doubtful first.

    Args:
        root: the release's folder.
        paths: films, relative to it.
        severity: of the problems.
    """
    failed = check_files([root / path for path in paths])
    return [
        Problem("not a whole upright frontal chest film", f"{Path(name).relative_to(root)}: {check}", severity)
        for name, check in sorted(failed.items(), key=lambda item: item[1].score)
    ]


def film_warnings(failed: Mapping[str, FilmCheck], total: int, shown: int = 5) -> list[str]:
    """Sentences for the user about films that did not pass, the most doubtful first; none if all passed.

    Args:
        failed: result of `check_store`.
        total: number of films checked.
        shown: films that are named.
    """
    if not failed:
        return []
    worst = sorted(failed, key=lambda name: failed[name].score)
    lines = [f"{len(failed):,} of {total:,} films may not be whole upright frontal chest films:"]
    lines += [f"  {name}: {failed[name]}" for name in worst[:shown]]
    if len(worst) > shown:
        lines.append(f"  and {len(worst) - shown:,} more")
    return lines


@cache
def _packaged_segmenter() -> BuiltinSegmenter:
    return load_builtin()


def _judge(organs: np.ndarray, poses: np.ndarray, inverted: float, pixels: np.ndarray) -> FilmCheck:
    if not pixels.any():
        return FilmCheck(0.0, ("blank: all pixels are equal",))
    if np.abs(pixels - ndimage.uniform_filter(pixels, 3)).mean() < _SMALLEST_DETAIL:
        return FilmCheck(0.0, ("smooth throughout, without the detail of a film",))
    reasons: list[str] = []
    if poses[0] < SMALLEST_SCORE:
        reasons.append(_POSE_WORDS[int(poses[1:].argmax()) + 1])
    if inverted > 1 - SMALLEST_SCORE and reasons != [_POSE_WORDS[-1]]:
        reasons.append(_INVERTED_WORDS)
    score = float(poses[0] * (1 - inverted))
    if not reasons:
        masks = clean_organs(organs)
        reasons = implausibilities(masks) or _unlike_a_chest(masks, pixels)
        score *= 0.5 ** len(reasons)
    return FilmCheck(score, tuple(reasons))


def _unlike_a_chest(organs: np.ndarray, pixels: np.ndarray) -> list[str]:
    left, right, heart = organs
    middle = mediastinum(left, right, heart)
    if middle.any() and pixels[middle].mean() - pixels[left | right].mean() < _SMALLEST_CONTRAST:
        return ["the lungs are not darker than what lies between them"]
    return []


def implausibilities(organs: np.ndarray) -> list[str]:
    """What is odd about the masks of an upright film.

    Args:
        organs: (3, H, W) bool: left lung, right lung, heart, cleaned.

    Returns:
        Reasons in words; empty for plausible masks.
    """
    left, right, _ = organs
    areas = np.array([left.mean(), right.mean()])
    if not areas.any():
        return ["no lungs found"]
    reasons = []
    if areas.min() < _SMALLEST_RATIO * areas.max():
        side = "left" if areas.argmin() == 0 else "right"
        reasons.append(f"the {side} lung is missing or very small (lateral film, or white side)")
    elif _centre(left) < _centre(right):
        reasons.append("the lungs are on each other's side")
    if areas.sum() < _SMALLEST_LUNGS:
        reasons.append("the lungs are very small")
    if areas.sum() > _LARGEST_LUNGS:
        reasons.append("the lungs fill nearly the whole film")
    cut = [name for name, share in _cut_edges(left | right).items() if share > _LONGEST_CUT]
    if cut:
        reasons.append(f"lungs cut off at the {' and '.join(cut)}")
    return reasons


def _centre(mask: np.ndarray) -> float:
    """Mean column of a mask."""
    return float(np.average(np.arange(mask.shape[1]), weights=mask.sum(axis=0)))


def _cut_edges(lungs: np.ndarray) -> dict[str, float]:
    """Share of each edge of the film that lung touches."""
    return {
        "top": float(lungs[0].mean()),
        "bottom": float(lungs[-1].mean()),
        "left edge": float(lungs[:, 0].mean()),
        "right edge": float(lungs[:, -1].mean()),
    }


def _failed(batches: Iterable[tuple[list[str], np.ndarray]], total: int) -> dict[str, FilmCheck]:
    failed: dict[str, FilmCheck] = {}
    with progress_bar("Checking films", total) as advance:
        for names, films in batches:
            checks = check_films(films)
            failed.update((name, check) for name, check in zip(names, checks, strict=True) if not check.passed)
            advance(len(names))
    return failed


def _read_batches(paths: Sequence[Path]) -> Iterator[tuple[list[str], np.ndarray]]:
    with ThreadPoolExecutor(_READERS) as pool:
        for first in range(0, len(paths), _BATCH):
            batch = paths[first : first + _BATCH]
            films = {
                str(path): film for path, film in zip(batch, pool.map(_read, batch), strict=True) if film is not None
            }
            if films:
                yield list(films), np.stack(list(films.values()))


def _read(path: Path) -> np.ndarray | None:
    try:
        return resize_film(read_film(path), BuiltinSegmenter.film_size)
    except FilmError:
        return None
