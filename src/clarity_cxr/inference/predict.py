"""Films and folders of films, predicted in batches: per film a JSON and an overlay, and one table of all.

A film of a folder keeps its place: `FOLDER/a/x.png` becomes `OUT/a/x.json` and `OUT/a/x.png`. The JSON is written last
and whole, so its presence says that the film is done; a run that was interrupted goes on where it stopped.
"""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from clarity_cxr.dicom.reading import DicomFilm, is_dicom
from clarity_cxr.errors import ClarityError
from clarity_cxr.files import atomic_path, output_errors, write_json
from clarity_cxr.inference.film_batches import PredictedFilm, doubt, predict_readable
from clarity_cxr.inference.film_jobs import FilmJob
from clarity_cxr.inference.film_masks import encode_masks
from clarity_cxr.inference.loading import AnyPredictor
from clarity_cxr.inference.overlay import TruthBox, prediction_overlay
from clarity_cxr.inference.prediction import FilmPrediction
from clarity_cxr.inference.prediction_table import join_tables, table_path, write_table
from clarity_cxr.progress import progress_bar
from clarity_cxr.shards import WHOLE, Shard

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
        masks: whether the JSON holds the masks of the findings decided positive.
    """

    checkpoint_digest: str
    overlays: bool
    truth: Mapping[str, Sequence[Fractions]]
    strict: bool = False
    write_dicom: DicomWriter | None = None
    masks: bool = False


@dataclass(frozen=True)
class RunSummary:
    """What became of the films: how many were predicted, were there already, why some failed or are doubtful."""

    predicted: int
    already_done: int
    failures: dict[str, str]
    warnings: dict[str, str]
    table: Path


def predict_films(
    predictor: AnyPredictor, jobs: Sequence[FilmJob], out: Path, run: FolderRun, batch_size: int, shard: Shard = WHOLE
) -> RunSummary:
    """Predict every film whose results are not there yet, and write `predictions.csv` over all.

    Memory holds two batches of films, whatever their number. A film that cannot be read is noted and the rest go on.

    Args:
        predictor: the model.
        jobs: from `plan_films`.
        out: folder of the results.
        run: what else decides the results.
        batch_size: films in one forward pass.
        shard: the share of `jobs` to predict here. It has a table of its own; all are joined once they are there.

    Raises:
        ClarityError: the results cannot be written, or `batch_size` is not positive.
    """
    if batch_size < 1:
        raise ClarityError(f"batch size {batch_size}: expected 1 or more")
    jobs, table = jobs[shard.of(len(jobs))], table_path(out, shard)
    with output_errors(out):
        out.mkdir(parents=True, exist_ok=True)
        table.unlink(missing_ok=True)
    failures: dict[str, str] = {}
    pending = [job for job in jobs if not _is_done(job, predictor, run)]
    done = len(jobs) - len(pending)
    with ThreadPoolExecutor(IO_THREADS) as pool, progress_bar("Predicting films", len(jobs), done) as advance:
        writing: list[Future[None]] = []
        for start in range(0, len(pending), batch_size):
            chunk = pending[start : start + batch_size]
            outcomes = predict_readable(predictor, [job.film for job in chunk], pool, run.strict)
            _finish(writing)
            writing = []
            for job, outcome in zip(chunk, outcomes, strict=True):
                if isinstance(outcome, str):
                    failures[job.relative] = outcome
                    job.remove_results()
                else:
                    writing.append(pool.submit(_write, job, outcome, predictor, run))
            advance(len(chunk))
        _finish(writing)
    warnings: dict[str, str] = {}
    write_table(table, predictor.findings, _table_rows(jobs, failures, warnings))
    if shard != WHOLE:
        table = join_tables(out, shard.count) or table
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


def _write(job: FilmJob, outcome: PredictedFilm, predictor: AnyPredictor, run: FolderRun) -> None:
    film, prediction = outcome.film, outcome.prediction
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
    more: dict[str, Any] = {"masks": encode_masks(prediction)} if run.masks else {}
    more |= {"truth": [asdict(box) for box in truth], "run": _stamp(job, predictor, run)}
    write_json(job.json, outcome.to_json(job.relative) | more)


def _stamp(job: FilmJob, predictor: AnyPredictor, run: FolderRun) -> dict[str, Any]:
    """What a result depends on: where it differs, the film is predicted again."""
    return {
        "checkpoint_sha256": run.checkpoint_digest,
        "backend": predictor.backend,
        "decided": predictor.rule.to_dict(),
        "film_bytes": job.film.stat().st_size,
        "truth_boxes": len(run.truth.get(job.stem.name, ())),
        "dicom_results": run.write_dicom is not None and is_dicom(job.film),
        **({"masks": True} if run.masks else {}),
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


def _table_rows(
    jobs: Iterable[FilmJob], failures: Mapping[str, str], warnings: dict[str, str]
) -> Iterator[tuple[str, dict[str, Any] | str]]:
    """What the table says of each film; notes in `warnings` those that are doubtful."""
    for job in jobs:
        if job.relative in failures:
            yield job.relative, failures[job.relative]
            continue
        result = _result(job)
        if result["warnings"]:
            warnings[job.relative] = doubt(result["warnings"])
        yield job.relative, result
