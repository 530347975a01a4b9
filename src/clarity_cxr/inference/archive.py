"""An archive of films, predicted part by part into Parquet by any number of workers, each film in one part.

`OUT/` holds `run.json`, what decides the predictions; `films.parquet`, every film's name and path; `parts/`, for each
row group of `films.parquet` one file with a row per film; `json/`, the same rows as lines of JSON; and at the end
`summary.json`. A part is whole or not there, its lines are written before it, and it has the same films whoever writes
it and however often: so a film is in the result once, whatever was killed.
"""

import hashlib
import json
import os
import platform
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from clarity_cxr.calibration import OperatingPoint
from clarity_cxr.errors import ClarityError
from clarity_cxr.files import atomic_path, file_digest, output_errors, write_json
from clarity_cxr.inference.engines import Backend
from clarity_cxr.inference.film_batches import PredictedFilm, predict_readable
from clarity_cxr.inference.film_jobs import find_films
from clarity_cxr.inference.loading import AnyPredictor, load_predictor
from clarity_cxr.inference.predict import IO_THREADS

PART_FILMS = 256
"""Films of a part: little enough to lose with a worker, and enough for few files."""

_FORMAT_VERSION = 1
_RUN = "run.json"
_SHOWN_ERRORS = 20
_FILMS_SCHEMA = pa.schema([("film", pa.string()), ("path", pa.string())])
_BOX_FIGURES = ("x0", "y0", "x1", "y1", "score", "threshold")
_BOX = pa.struct([("finding", pa.string()), *((key, pa.float64()) for key in _BOX_FIGURES)])


@dataclass(frozen=True)
class ArchiveRun:
    """What every worker is told.

    Attributes:
        out: folder of the results, which every worker sees under this path.
        checkpoint: weights, or an exported model.
        device: where the model runs.
        decision_threshold: probability, before calibration, from which a finding is decided positive.
        operating_point: decide at this operating point of the checkpoint instead.
        batch_size: films in one forward pass.
        strict: whether a film with a warning fails.
        backend: what runs the model; None is the usual one for its file.
        part_films: films of a part.
    """

    out: Path
    checkpoint: Path
    device: str = "cpu"
    decision_threshold: float = 0.5
    operating_point: OperatingPoint | None = None
    batch_size: int = 16
    strict: bool = False
    backend: Backend | None = None
    part_films: int = PART_FILMS

    @property
    def films(self) -> Path:
        """The table of all films."""
        return self.out / "films.parquet"

    @property
    def parts(self) -> Path:
        """Folder of the parts."""
        return self.out / "parts"

    def part(self, number: int) -> Path:
        """A part's file."""
        return self.parts / f"part-{number:06d}.parquet"

    def lines(self, number: int) -> Path:
        """A part's rows as lines of JSON."""
        return self.out / "json" / f"part-{number:06d}.jsonl"

    def load_predictor(self) -> AnyPredictor:
        """The model."""
        return load_predictor(self.checkpoint, self.device, self.decision_threshold, self.operating_point, self.backend)


@dataclass(frozen=True)
class PartResult:
    """What became of a part's films.

    Attributes:
        number: of the part.
        films: in the part.
        predicted: just now; the others were there already or failed.
        failed: films that have an error.
        doubtful: films that have a warning.
        worker: machine and process that did it.
        first_error: of the first film that failed; empty if none did.
    """

    number: int
    films: int
    predicted: int
    failed: int
    doubtful: int
    worker: str
    first_error: str


def plan_archive(run: ArchiveRun, paths: Sequence[Path]) -> int:
    """List the films and write down what decides their predictions, or find the same written down already.

    Returns:
        The number of films.

    Raises:
        ClarityError: there are no films, two have one name, the folder holds another run, or it cannot be written to.
        CheckpointError: the checkpoint cannot be used.
    """
    if run.batch_size < 1:
        raise ClarityError(f"batch size {run.batch_size}: expected 1 or more")
    predictor = replace(run, device="cpu").load_predictor()  # here only its rule is needed, and there may be no GPU
    with output_errors(run.out), atomic_path(run.films) as temporary:
        names = hashlib.sha256()
        count = 0
        with pq.ParquetWriter(temporary, _FILMS_SCHEMA) as writer:
            for group in _groups(find_films(paths, run.out), run.part_films):
                writer.write_table(pa.Table.from_pylist(group, _FILMS_SCHEMA))
                names.update("".join(f"{film['film']}\n" for film in group).encode())
                count += len(group)
        _refuse_repeated(temporary)
        _claim(
            run.out / _RUN,
            {
                "format_version": _FORMAT_VERSION,
                "checkpoint_sha256": file_digest(run.checkpoint),
                "decided": predictor.rule.to_dict(),
                "findings": list(predictor.findings),
                "strict": run.strict,
                "backend": run.backend,
                "films": count,
                "films_sha256": names.hexdigest(),
                "part_films": run.part_films,
            },
        )
    return count


def part_count(run: ArchiveRun, films: int) -> int:
    """Parts that so many films make."""
    return -(-films // run.part_films)


class PartWorker:
    """One worker's model, and what it does with a part."""

    def __init__(self, run: ArchiveRun) -> None:
        self.run = run
        self._pool = ThreadPoolExecutor(IO_THREADS)

    @cached_property
    def _predictor(self) -> AnyPredictor:
        return self.run.load_predictor()

    @cached_property
    def _films(self) -> pq.ParquetFile:
        try:
            return pq.ParquetFile(self.run.films)
        except OSError as error:
            raise ClarityError(
                f"{self.run.films}: a worker cannot read it ({error}); --out, the films and the checkpoint must be on "
                "a file system that all machines share under the same path"
            ) from None

    def predict_part(self, number: int) -> PartResult:
        """Predict those films of a part that have no row yet, or one with an error, and write the part.

        Raises:
            ClarityError: the list, the checkpoint or the part cannot be read or written here.
        """
        films = self._films.read_row_group(number).to_pylist()
        rows = self._earlier_rows(number, [film["film"] for film in films])
        left = [k for k, row in enumerate(rows) if row["error"] is not None]
        for start in range(0, len(left), self.run.batch_size):
            chunk = left[start : start + self.run.batch_size]
            outcomes = predict_readable(
                self._predictor, [Path(films[k]["path"]) for k in chunk], self._pool, self.run.strict
            )
            for k, outcome in zip(chunk, outcomes, strict=True):
                rows[k] = _row(films[k]["film"], outcome)
        if left:
            self._write(number, rows)
        errors = [row["error"] for row in rows if row["error"] is not None]
        return PartResult(
            number=number,
            films=len(rows),
            predicted=len(left) - len(errors),
            failed=len(errors),
            doubtful=sum(bool(row["warnings"]) for row in rows),
            worker=worker_name(),
            first_error=errors[0] if errors else "",
        )

    def _earlier_rows(self, number: int, names: list[str]) -> list[dict[str, Any]]:
        """The rows that an earlier run has written, else rows that ask for everything."""
        try:
            with pq.ParquetFile(self.run.part(number)) as part:
                return part.read().to_pylist()
        except FileNotFoundError:
            return [{"film": name, "warnings": None, "error": "not predicted yet"} for name in names]

    def _write(self, number: int, rows: list[dict[str, Any]]) -> None:
        table = pa.Table.from_pylist(rows, _part_schema(self._predictor.findings))
        with atomic_path(self.run.lines(number)) as temporary, temporary.open("w", encoding="utf-8") as lines:
            lines.writelines(f"{json.dumps(row, allow_nan=False)}\n" for row in table.to_pylist())
        with atomic_path(self.run.part(number)) as temporary:
            pq.write_table(table, temporary)


def worker_name() -> str:
    """This machine and process."""
    return f"{platform.node()}:{os.getpid()}"


@dataclass
class ArchiveSummary:
    """What became of all films, added up part by part.

    Attributes:
        predicted: just now; the others were there already or failed.
        films, failed, doubtful: as in `PartResult`.
        workers: machines and processes that took part.
        first_errors: of some films that failed, for the screen; all are in the parts.
    """

    films: int = 0
    predicted: int = 0
    failed: int = 0
    doubtful: int = 0
    workers: set[str] = field(default_factory=set)
    first_errors: list[str] = field(default_factory=list)

    def add(self, part: PartResult) -> None:
        """Count a part in."""
        self.films += part.films
        self.predicted += part.predicted
        self.failed += part.failed
        self.doubtful += part.doubtful
        self.workers.add(part.worker)
        if part.first_error and len(self.first_errors) < _SHOWN_ERRORS:
            self.first_errors.append(part.first_error)


def write_summary(run: ArchiveRun, summary: ArchiveSummary) -> None:
    """Write `summary.json`, once no worker is writing any more: counts, and what decided the predictions."""
    for leftover in run.out.glob("*/.*.tmp*"):  # parts that were being written when their worker was killed
        leftover.unlink()
    counts = {key: getattr(summary, key) for key in ("films", "failed", "doubtful")}
    settings = json.loads((run.out / _RUN).read_text(encoding="utf-8"))
    write_json(run.out / "summary.json", counts | {"workers": len(summary.workers), "run": settings})


def _groups(films: Iterator[tuple[Path, Path]], size: int) -> Iterator[list[dict[str, str]]]:
    while group := [{"film": name.as_posix(), "path": str(path.absolute())} for path, name in islice(films, size)]:
        yield group


def _refuse_repeated(films: Path) -> None:
    with pq.ParquetFile(films) as table:
        names = table.read(columns=["film"])["film"]
    if len(names.unique()) == len(names):
        return
    repeated = next(film["values"] for film in names.value_counts().to_pylist() if film["counts"] > 1)
    raise ClarityError(
        f"{repeated}: several films of this name; name each film once, and folders by the folder above them"
    )


def _claim(path: Path, content: dict[str, Any]) -> None:
    """Write what decides the predictions, unless the same is there.

    Raises:
        ClarityError: the folder holds predictions of other films or by another model or rule.
    """
    content = json.loads(json.dumps(content))
    if not path.exists():
        if any(path.parent.glob("parts/*")):
            raise ClarityError(f"{path.parent}: holds parts without a {path.name}; choose another --out")
        write_json(path, content)
        return
    earlier = json.loads(path.read_text(encoding="utf-8"))
    differing = [key for key in content if earlier.get(key) != content[key]]
    if differing:
        raise ClarityError(
            f"{path.parent}: holds another run, which differs in {', '.join(differing)} (see {path.name}); "
            "choose another --out"
        )


def _part_schema(findings: Sequence[str]) -> pa.Schema:
    return pa.schema(
        [
            ("film", pa.string()),
            ("width", pa.int32()),
            ("height", pa.int32()),
            ("positive", pa.list_(pa.string())),
            ("boxes", pa.list_(_BOX)),
            *((finding, pa.float64()) for finding in findings),
            ("warnings", pa.list_(pa.string())),
            ("error", pa.string()),
        ]
    )


def _row(name: str, outcome: PredictedFilm | str) -> dict[str, Any]:
    if isinstance(outcome, str):
        return {"film": name, "warnings": None, "error": outcome}
    result = outcome.to_json(name)
    positive = [finding for finding, decided in result["decisions"].items() if decided]
    kept = {key: result[key] for key in ("film", "width", "height", "boxes", "warnings")}
    return kept | result["probabilities"] | {"positive": positive, "error": None}
