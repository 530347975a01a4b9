"""Checking a release before it is prepared: every problem at once, and how many films each split and finding has."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from clarity_cxr.data.manifest import Manifest, inspect_data
from clarity_cxr.data.release import Inspection, Problem, find_priors
from clarity_cxr.data.splits import assign_splits, patients_across
from clarity_cxr.data.store import label_values
from clarity_cxr.data.workers import InspectedChunk, available_processors, inspect_chunk, map_unordered
from clarity_cxr.errors import ReleaseError
from clarity_cxr.findings import FINDINGS, NO_FINDING
from clarity_cxr.progress import progress_bar

_CHUNK_FILMS = 64
_EXAMPLES = 5
_SPLITS = ("train", "val", "test")
_SQUARE_MARGIN = 1.05


@dataclass(frozen=True)
class CheckReport:
    """What a check found.

    Attributes:
        source: the release's folder, or the manifest.
        root: folder of the films.
        problems: all problems; the check passes if none is an error.
        counts: films and patients per split, then films per finding, with the number of boxes; one row each, columns
            "train", "val", "test", "boxes".
        films: rows of the CSV.
        paths: the films found, relative to `root`.
        orphans: films without a row.
        unused_entries: entries of the official lists that the CSV does not use.
        decoded: whether films were decoded, or only their headers read.
    """

    source: Path
    root: Path
    problems: list[Problem]
    counts: pd.DataFrame
    films: int = 0
    paths: list[str] = field(default_factory=list)
    orphans: int = 0
    unused_entries: int = 0
    decoded: bool = True

    @property
    def passed(self) -> bool:
        return not any(problem.severity == "error" for problem in self.problems)


def check_release(
    release: Path | Manifest, fast: bool = False, skip_missing: bool = False, processes: int | None = None
) -> CheckReport:
    """Check a release's tables, lists, boxes, splits and films, collecting every problem.

    Args:
        release: folder in the NIH layout, or a manifest.
        fast: read the films' headers only; a film damaged further on is not noticed.
        skip_missing: rows without a film and films without a row are warnings, as `prepare` with `skip_missing`
            leaves them out.
        processes: worker processes; None takes one per processor.
    """
    try:
        inspection = inspect_data(release)
    except ReleaseError as error:
        problem = Problem("unreadable release", str(error))
        source = release.table if isinstance(release, Manifest) else release
        return CheckReport(source, source, [problem], pd.DataFrame(columns=[*_SPLITS, "boxes"]), decoded=not fast)
    films = inspection.release.films
    split_films = assign_splits(films, inspection.release.boxes)
    problems = [
        *inspection.problems,
        *_unmatched(inspection, "warning" if skip_missing else "error"),
        *_unlabelled_boxes(inspection),
        *_shared_patients(split_films),
        *_film_problems(inspection, fast, processes or available_processors()),
    ]
    return CheckReport(
        source=inspection.release.source,
        root=inspection.release.root,
        problems=problems,
        counts=_counts(split_films, inspection.release.boxes),
        films=len(films),
        paths=films.loc[films["path"].ne(""), "path"].tolist(),
        orphans=len(inspection.orphans),
        unused_entries=inspection.unused_entries,
        decoded=not fast,
    )


def print_report(report: CheckReport, console: Console) -> None:
    """Print counts, then problems grouped by kind with the first few of each, then the verdict."""
    if len(report.counts):
        found = len(report.paths)
        table = Table(title=f"{escape(report.source.resolve().name)}: films per split and finding")
        for column in ("", *report.counts.columns):
            table.add_column(column, justify="right" if column else "left")
        for name, row in report.counts.iterrows():
            table.add_row(str(name), *(f"{count:,}" for count in row), end_section=name == "Patients")
        console.print(table)
        console.print(
            f"{report.films:,} rows, {found:,} films found, {report.films - found:,} missing, "
            f"{report.orphans:,} without a row; {report.unused_entries:,} list entries not used"
        )
    ordered = sorted(report.problems, key=lambda problem: (problem.severity, problem.kind))
    for (severity, kind), group in groupby(ordered, key=lambda problem: (problem.severity, problem.kind)):
        messages = [problem.message for problem in group]
        style = "red" if severity == "error" else "yellow"
        console.print(f"[{style}]{severity}[/{style}] {kind}: {len(messages):,}")
        for message in messages[:_EXAMPLES]:
            console.print(f"  {message}", markup=False, highlight=False, soft_wrap=True)
        if len(messages) > _EXAMPLES:
            console.print(f"  ... and {len(messages) - _EXAMPLES:,} more")
    verdict = "[green]pass[/green]" if report.passed else "[red]fail[/red]"
    console.print(f"{verdict}" + ("" if report.decoded else " (headers only; without --fast all films are decoded)"))


def _unmatched(inspection: Inspection, severity: Literal["error", "warning"]) -> Iterator[Problem]:
    films = inspection.release.films
    for image_id in films.loc[films["path"].eq(""), "image_id"]:
        yield Problem("missing film", f"{image_id}: no such file under {inspection.release.root}", severity)
    for path in inspection.orphans:
        yield Problem("film without a row", f"{path}: the CSV does not name it", severity)


def _unlabelled_boxes(inspection: Inspection) -> Iterator[Problem]:
    films, boxes = inspection.release.films, inspection.release.boxes
    row = pd.Index(films["image_id"]).get_indexer(pd.Index(boxes["image_id"]))
    labels, _ = label_values(films)
    for image_id, finding, position in zip(boxes["image_id"], boxes["finding"], row, strict=True):
        if not labels[position, FINDINGS.index(finding)]:
            message = f"{image_id}: has a box of {finding} but not the label"
            yield Problem("box without a label", message, "warning")


def _shared_patients(films: pd.DataFrame) -> Iterator[Problem]:
    for column, kind in (
        ("official", "patient in both official lists"),
        ("split", "patient in two splits"),
        ("localization", "patient in both localization halves"),
    ):
        for patient in patients_across(films, column):
            where = films.loc[films["patient_id"].eq(patient), [column, "image_id"]].groupby(column)["image_id"].first()
            examples = ", ".join(f"{image_id} in {value}" for value, image_id in where.items() if value)
            yield Problem(kind, f"patient {patient}: {examples}")


def _film_problems(inspection: Inspection, fast: bool, processes: int) -> Iterator[Problem]:
    root, films = inspection.release.root, inspection.release.films
    present = films["path"].ne("").to_numpy()
    found = films[present]
    priors = find_priors(root, found)
    sizes, unreadable = _inspect_films(root, found["path"].tolist(), priors, fast, processes)
    for message in unreadable:
        yield Problem("unreadable film", message)
    if priors is not None and None in priors:
        without = found["image_id"].iloc[priors.index(None)]
        message = f"{priors.count(None)} films have no file in priors/, the first is {without}; they get empty priors"
        yield Problem("film without priors", message, "warning")
    yield from _size_problems(found["path"].to_numpy(), sizes, inspection.original_sizes[present])


def _inspect_films(
    root: Path, paths: list[str], priors: list[Path | None] | None, fast: bool, processes: int
) -> tuple[np.ndarray, list[str]]:
    """(n, 2) width and height of each film (0 where unreadable), and the message of each unreadable file."""
    sizes, unreadable = np.zeros((len(paths), 2), dtype=np.int64), []
    files: list[Path | None] = priors or [None] * len(paths)
    chunks = (
        InspectedChunk(
            first,
            [root / path for path in paths[first : first + _CHUNK_FILMS]],
            files[first : first + _CHUNK_FILMS],
            fast,
        )
        for first in range(0, len(paths), _CHUNK_FILMS)
    )
    workers = max(1, min(processes, -(-len(paths) // _CHUNK_FILMS)))
    with progress_bar("Reading headers" if fast else "Decoding films", len(paths)) as advance:
        for chunk, result in map_unordered(inspect_chunk, chunks, workers):
            sizes[chunk.first : chunk.first + len(chunk.films)] = result.sizes
            unreadable += result.unreadable
            advance(len(chunk.films))
    return sizes, sorted(unreadable)


def _size_problems(paths: np.ndarray, sizes: np.ndarray, originals: np.ndarray) -> Iterator[Problem]:
    """Films lying on their side, and films of another size than most.

    Args:
        paths: (n,) path of each film.
        sizes: (n, 2) width and height of its file, 0 where unreadable.
        originals: (n, 2) width and height of the original film as the CSV gives them, NaN where it does not.
    """
    readable = sizes.all(axis=1)
    if not readable.any():
        return
    with np.errstate(divide="ignore", invalid="ignore"):
        shape, original = np.log(sizes[:, 0] / sizes[:, 1]), np.log(originals[:, 0] / originals[:, 1])
    margin = np.log(_SQUARE_MARGIN)
    rotated = readable & (np.abs(shape) > margin) & (np.abs(original) > margin) & (shape * original < 0)
    for path, size, true in zip(paths[rotated], sizes[rotated], originals[rotated], strict=True):
        message = f"{path}: {size[0]} x {size[1]}, but its original was {true[0]:.0f} x {true[1]:.0f}"
        yield Problem("rotated film", message)
    values, counts = np.unique(sizes[readable], axis=0, return_counts=True)
    usual = values[counts.argmax()]
    if counts.max() * 2 > readable.sum():
        odd = readable & ~rotated & (sizes != usual).any(axis=1)
        for path, size in zip(paths[odd], sizes[odd], strict=True):
            message = f"{path}: {size[0]} x {size[1]}, most films are {usual[0]} x {usual[1]}"
            yield Problem("film of another size", message, "warning")


def _counts(films: pd.DataFrame, boxes: pd.DataFrame) -> pd.DataFrame:
    values, labelled = label_values(films)
    labels = pd.DataFrame(values, columns=list(FINDINGS), index=films.index)
    labels[NO_FINDING] = np.asarray(labelled.any(axis=1) & ~values.any(axis=1))
    per_finding = labels.groupby(films["split"]).sum().T
    by_split = films.groupby("split")["patient_id"]
    totals = pd.DataFrame({"Films": by_split.size(), "Patients": by_split.nunique()}).T
    counts = pd.concat([totals, per_finding]).reindex(columns=list(_SPLITS), fill_value=0).fillna(0).astype(int)
    box_counts = boxes["finding"].value_counts()
    counts["boxes"] = [len(boxes), 0, *(int(box_counts.get(name, 0)) for name in counts.index[2:])]
    return counts
