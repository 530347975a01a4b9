"""Films and folders of films, predicted in batches: per film a JSON and an overlay, and one table of all.

A film of a folder keeps its place: `FOLDER/a/x.png` becomes `OUT/a/x.json` and `OUT/a/x.png`. The JSON is written last
and whole, so its presence says that the film is done; a run that was interrupted goes on where it stopped.
"""

import csv
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from clarity_cxr.anatomy.film_check import check_any_size
from clarity_cxr.errors import ClarityError, FilmError
from clarity_cxr.files import atomic_path, output_errors, write_json
from clarity_cxr.inference.overlay import TruthBox, prediction_overlay
from clarity_cxr.inference.predictor import FilmPrediction, Predictor, as_grey
from clarity_cxr.progress import progress_bar

FILM_SUFFIXES = (".png", ".jpg", ".jpeg")
"""Files that a folder's films are, in any case; files named one by one may end otherwise."""
IO_THREADS = 4
"""Threads that read films and write results beside the model."""

Fractions = tuple[str, float, float, float, float]
"""A finding and its box as fractions of the film's width and height."""


@dataclass(frozen=True)
class FilmJob:
    """One film and where its results go: `<stem>.json` and `<stem>.png`, `stem` being a path without suffix."""

    film: Path
    relative: str
    stem: Path

    @property
    def json(self) -> Path:
        """The film's JSON."""
        return self.stem.with_name(f"{self.stem.name}.json")

    @property
    def overlay(self) -> Path:
        """The film's overlay."""
        return self.stem.with_name(f"{self.stem.name}.png")


@dataclass(frozen=True)
class FolderRun:
    """What decides the content of every output, besides the film.

    Attributes:
        checkpoint_digest: SHA-256 of the checkpoint's file.
        overlays: whether overlays are drawn.
        truth: film stem -> radiologists' boxes.
        strict: whether a film with a warning fails.
    """

    checkpoint_digest: str
    overlays: bool
    truth: Mapping[str, Sequence[Fractions]]
    strict: bool = False


@dataclass(frozen=True)
class RunSummary:
    """What became of the films: how many were predicted, were there already, why some failed or are doubtful."""

    predicted: int
    already_done: int
    failures: dict[str, str]
    warnings: dict[str, str]
    table: Path


@dataclass(frozen=True)
class _Film:
    """A film that was read: its pixels (H, W) uint8, and what speaks against it being a chest film."""

    job: FilmJob
    pixels: np.ndarray
    warnings: tuple[str, ...]


def plan_films(paths: Sequence[Path], out: Path) -> list[FilmJob]:
    """Find the films of files and folders, and each one's place under `out`.

    Raises:
        ClarityError: a path is missing, there is no film, two films would have the same outputs, or outputs would
            lie among the films.
    """
    jobs: list[FilmJob] = []
    for path in paths:
        if path.is_dir():
            if path.resolve() == out.resolve():
                raise ClarityError(f"{out}: --out is the folder of the films; choose another folder for the results")
            jobs += [_job(film, film.relative_to(path), out) for film in _films_of(path, out)]
        elif path.exists():
            jobs.append(_job(path, Path(path.name), out))
        else:
            raise ClarityError(f"{path}: no such file or folder; expected a film or a folder of films")
    if not jobs:
        raise ClarityError(
            f"{', '.join(map(str, paths))}: no films found; expected files ending in {', '.join(FILM_SUFFIXES)}"
        )
    _refuse_collisions(jobs)
    return jobs


def predict_films(
    predictor: Predictor, jobs: Sequence[FilmJob], out: Path, run: FolderRun, batch_size: int
) -> RunSummary:
    """Predict every film whose results are not there yet, and write `predictions.csv` over all.

    Memory holds two batches of films, whatever their number. A film that cannot be read is noted and the rest go on.

    Args:
        predictor: the model.
        jobs: from `plan_films`.
        out: folder of the results.
        run: what else decides the results.
        batch_size: films in one forward pass.

    Raises:
        ClarityError: the results cannot be written, or `batch_size` is not positive.
    """
    if batch_size < 1:
        raise ClarityError(f"batch size {batch_size}: expected 1 or more")
    with output_errors(out):
        out.mkdir(parents=True, exist_ok=True)
    failures: dict[str, str] = {}
    pending = [job for job in jobs if not _is_done(job, predictor, run)]
    done = len(jobs) - len(pending)
    with ThreadPoolExecutor(IO_THREADS) as pool, progress_bar("Predicting films", len(jobs), done) as advance:
        writing: list[Future[None]] = []
        for start in range(0, len(pending), batch_size):
            chunk = pending[start : start + batch_size]
            films = _accepted(chunk, pool, run.strict, failures)
            predictions = predictor.predict_batch([film.pixels for film in films])
            _finish(writing)
            writing = [
                pool.submit(_write, film, prediction, predictor, run)
                for film, prediction in zip(films, predictions, strict=True)
            ]
            advance(len(chunk))
        _finish(writing)
    table = out / "predictions.csv"
    warnings = _write_table(table, jobs, predictor.findings, failures)
    return RunSummary(len(pending) - len(failures), done, failures, warnings, table)


def read_truth(release: Path) -> dict[str, list[Fractions]]:
    """Radiologists' boxes of a release by film stem, as fractions of the film's sides.

    Raises:
        ReleaseError: the folder is not a release.
    """
    from clarity_cxr.data.release import BOX_FRAME, read_release

    truth: dict[str, list[Fractions]] = {}
    for row in read_release(release).boxes.itertuples(index=False):
        x0, y0, x1, y1 = (float(getattr(row, edge)) / BOX_FRAME for edge in ("x0", "y0", "x1", "y1"))
        truth.setdefault(Path(str(row.image_id)).stem, []).append((str(row.finding), x0, y0, x1, y1))
    return truth


def _films_of(folder: Path, out: Path) -> Iterator[Path]:
    results = out.resolve()
    for film in sorted(folder.rglob("*")):
        if film.suffix.lower() not in FILM_SUFFIXES or film.name.startswith(".") or not film.is_file():
            continue
        if results not in film.resolve().parents:
            yield film


def _job(film: Path, relative: Path, out: Path) -> FilmJob:
    return FilmJob(film, relative.as_posix(), out / relative.with_name(relative.stem))


def _refuse_collisions(jobs: Iterable[FilmJob]) -> None:
    owner: dict[Path, Path] = {}
    films = {job.film.resolve() for job in jobs}
    for job in jobs:
        other = owner.setdefault(job.stem, job.film)
        if other is not job.film:
            raise ClarityError(
                f"{other} and {job.film} would both be written to {job.json}; predict them into different folders, "
                "or give the folder above both, whose subfolders are kept"
            )
        if job.overlay.resolve() in films:
            raise ClarityError(f"{job.overlay}: the overlay would replace a film; choose another folder for --out")


def _accepted(jobs: Sequence[FilmJob], pool: ThreadPoolExecutor, strict: bool, failures: dict[str, str]) -> list[_Film]:
    """Read and check films beside one another; those that fail are noted, and their older results removed."""
    read = list(zip(jobs, pool.map(_read, jobs), strict=True))
    checks = iter(check_any_size([pixels for _, pixels in read if isinstance(pixels, np.ndarray)]))
    films: list[_Film] = []
    for job, pixels in read:
        if isinstance(pixels, str):
            _fail(job, pixels, failures)
            continue
        reasons = next(checks).reasons
        if strict and reasons:
            _fail(job, f"{job.film}: {_doubt(reasons)}; without --strict it is predicted with this warning", failures)
        else:
            films.append(_Film(job, pixels, reasons))
    return films


def _doubt(reasons: Iterable[str]) -> str:
    return f"may not be a whole upright frontal chest film: {', '.join(reasons)}"


def _fail(job: FilmJob, reason: str, failures: dict[str, str]) -> None:
    failures[job.relative] = reason
    with output_errors(job.json):
        job.json.unlink(missing_ok=True)
        job.overlay.unlink(missing_ok=True)


def _read(job: FilmJob) -> np.ndarray | str:
    try:
        return as_grey(job.film)
    except (FilmError, OSError) as error:
        return " ".join(str(error).split())


def _write(film: _Film, prediction: FilmPrediction, predictor: Predictor, run: FolderRun) -> None:
    job = film.job
    truth = [
        TruthBox(name, x0 * prediction.width, y0 * prediction.height, x1 * prediction.width, y1 * prediction.height)
        for name, x0, y0, x1, y1 in run.truth.get(job.stem.name, ())
    ]
    if run.overlays:
        image = prediction_overlay(film.pixels, prediction, truth)
        with atomic_path(job.overlay) as temporary:
            image.save(temporary, format="PNG", compress_level=4)
    content = {"film": job.relative, "warnings": list(film.warnings)} | prediction.to_json()
    write_json(job.json, content | {"truth": [asdict(box) for box in truth], "run": _stamp(job, predictor, run)})


def _stamp(job: FilmJob, predictor: Predictor, run: FolderRun) -> dict[str, Any]:
    """What a result depends on: where it differs, the film is predicted again."""
    return {
        "checkpoint_sha256": run.checkpoint_digest,
        "decision_threshold": predictor.decision_threshold,
        "film_bytes": job.film.stat().st_size,
        "truth_boxes": len(run.truth.get(job.stem.name, ())),
    }


def _is_done(job: FilmJob, predictor: Predictor, run: FolderRun) -> bool:
    if run.overlays and not job.overlay.is_file():
        return False
    try:
        result = _result(job)
        return result["run"] == _stamp(job, predictor, run) and not (run.strict and result["warnings"])
    except (OSError, ValueError, KeyError, TypeError):
        return False


def _result(job: FilmJob) -> dict[str, Any]:
    return json.loads(job.json.read_text(encoding="utf-8"))


def _finish(writing: Iterable[Future[None]]) -> None:
    for result in writing:
        result.result()


def _write_table(
    path: Path, jobs: Iterable[FilmJob], findings: Sequence[str], failures: Mapping[str, str]
) -> dict[str, str]:
    """One row per film in the order given; a film that failed has its reason in `error` and no figures.

    Returns:
        The warnings of the films that have any.
    """
    doubts: dict[str, str] = {}
    with atomic_path(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as handle:
        writer = csv.writer(handle)
        writer.writerow(["film", "width", "height", "positive", "boxes", *findings, "warnings", "error"])
        for job in jobs:
            if job.relative in failures:
                writer.writerow([job.relative, *[""] * (5 + len(findings)), failures[job.relative]])
                continue
            result = _result(job)
            positive = "|".join(name for name, decided in result["decisions"].items() if decided)
            probabilities = [result["probabilities"][name] for name in findings]
            row = [job.relative, result["width"], result["height"], positive, len(result["boxes"])]
            writer.writerow([*row, *probabilities, "|".join(result["warnings"]), ""])
            if result["warnings"]:
                doubts[job.relative] = _doubt(result["warnings"])
    return doubts
