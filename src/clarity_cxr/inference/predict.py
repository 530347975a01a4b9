"""Films and folders of films, predicted in batches: per film a JSON and an overlay, and one table of all.

A film of a folder keeps its place: `FOLDER/a/x.png` becomes `OUT/a/x.json` and `OUT/a/x.png`. The JSON is written last
and whole, so its presence says that the film is done; a run that was interrupted goes on where it stopped.
"""

import csv
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from clarity_cxr.anatomy.film_check import check_any_size
from clarity_cxr.dicom.reading import DicomFilm, is_dicom
from clarity_cxr.errors import ClarityError, FilmError
from clarity_cxr.files import atomic_path, output_errors, write_json
from clarity_cxr.inference.film_jobs import FilmJob
from clarity_cxr.inference.films import Film, read_any_film
from clarity_cxr.inference.loading import AnyPredictor
from clarity_cxr.inference.overlay import TruthBox, prediction_overlay
from clarity_cxr.inference.prediction import FilmPrediction
from clarity_cxr.progress import progress_bar

IO_THREADS = 4
"""Threads that read films and write results beside the model."""

Fractions = tuple[str, float, float, float, float]
"""A finding and its box as fractions of the film's width and height."""
DicomWriter = Callable[[DicomFilm, FilmPrediction, str, Path], object]
"""Writes a DICOM film's prediction as DICOM: film, prediction, the checkpoint's digest, stem of the files."""


@dataclass(frozen=True)
class FolderRun:
    """What decides the content of every output, besides the film.

    Attributes:
        checkpoint_digest: SHA-256 of the checkpoint's file.
        overlays: whether overlays are drawn.
        truth: film stem -> radiologists' boxes.
        strict: whether a film with a warning fails.
        write_dicom: writes DICOM results of DICOM films; None for none.
    """

    checkpoint_digest: str
    overlays: bool
    truth: Mapping[str, Sequence[Fractions]]
    strict: bool = False
    write_dicom: DicomWriter | None = None


@dataclass(frozen=True)
class RunSummary:
    """What became of the films: how many were predicted, were there already, why some failed or are doubtful."""

    predicted: int
    already_done: int
    failures: dict[str, str]
    warnings: dict[str, str]
    table: Path


def predict_films(
    predictor: AnyPredictor, jobs: Sequence[FilmJob], out: Path, run: FolderRun, batch_size: int
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
            predictions = predictor.predict_batch([film.pixels for _, film in films])
            _finish(writing)
            writing = [
                pool.submit(_write, job, film, prediction, predictor, run)
                for (job, film), prediction in zip(films, predictions, strict=True)
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


def _accepted(
    jobs: Sequence[FilmJob], pool: ThreadPoolExecutor, strict: bool, failures: dict[str, str]
) -> list[tuple[FilmJob, Film]]:
    """Read and check films beside one another; those that fail are noted, and their older results removed."""
    read = list(zip(jobs, pool.map(_read, jobs), strict=True))
    checks = iter(check_any_size([film.pixels for _, film in read if isinstance(film, Film)]))
    films: list[tuple[FilmJob, Film]] = []
    for job, film in read:
        if isinstance(film, str):
            _fail(job, film, failures)
            continue
        reasons = (*film.warnings, *next(checks).reasons)
        if strict and reasons:
            _fail(job, f"{job.film}: {_doubt(reasons)}; without --strict it is predicted with this warning", failures)
        else:
            films.append((job, replace(film, warnings=reasons)))
    return films


def _doubt(reasons: Iterable[str]) -> str:
    return f"may not be a whole upright frontal chest film: {', '.join(reasons)}"


def _fail(job: FilmJob, reason: str, failures: dict[str, str]) -> None:
    failures[job.relative] = reason
    job.remove_results()


def _read(job: FilmJob) -> Film | str:
    try:
        return read_any_film(job.film)
    except (FilmError, OSError) as error:
        return " ".join(str(error).split())


def _write(job: FilmJob, film: Film, prediction: FilmPrediction, predictor: AnyPredictor, run: FolderRun) -> None:
    truth = [
        TruthBox(name, x0 * prediction.width, y0 * prediction.height, x1 * prediction.width, y1 * prediction.height)
        for name, x0, y0, x1, y1 in run.truth.get(job.stem.name, ())
    ]
    if run.overlays:
        image = prediction_overlay(film.pixels, prediction, truth)
        with atomic_path(job.overlay) as temporary:
            image.save(temporary, format="PNG", compress_level=4)
    if run.write_dicom and film.dicom:
        run.write_dicom(film.dicom, prediction, run.checkpoint_digest, job.stem)
    content = {"film": job.relative, "warnings": list(film.warnings)} | prediction.to_json()
    write_json(job.json, content | {"truth": [asdict(box) for box in truth], "run": _stamp(job, predictor, run)})


def _stamp(job: FilmJob, predictor: AnyPredictor, run: FolderRun) -> dict[str, Any]:
    """What a result depends on: where it differs, the film is predicted again."""
    return {
        "checkpoint_sha256": run.checkpoint_digest,
        "decided": predictor.rule.to_dict(),
        "film_bytes": job.film.stat().st_size,
        "truth_boxes": len(run.truth.get(job.stem.name, ())),
        "dicom_results": run.write_dicom is not None and is_dicom(job.film),
    }


def _is_done(job: FilmJob, predictor: AnyPredictor, run: FolderRun) -> bool:
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
