"""Reading a release: a folder of films, two tables and two lists laid out as NIH ChestX-ray14."""

import io
import os
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd

from clarity_cxr.errors import ReleaseError
from clarity_cxr.findings import BOX_FILE_SPELLINGS, FINDINGS, NO_FINDING

BOX_FRAME = 1024.0
"""Side of the square frame that box coordinates are given in, whatever the size of the films' files."""

FILM_SUFFIXES = (".png", ".jpg", ".jpeg")

_TABLE_COLUMNS = {
    "image_id": "Image Index",
    "labels": "Finding Labels",
    "follow_up": "Follow-up #",
    "patient_id": "Patient ID",
    "age": "Patient Age",
    "sex": "Patient Gender",
    "view": "View Position",
}
_BOX_COLUMNS = ("image_id", "finding", "x", "y", "width", "height")
_AGE_UNITS_PER_YEAR = {"": 1.0, "Y": 1.0, "M": 12.0, "D": 365.25}
_SHOWN = 5


@dataclass(frozen=True)
class Release:
    """A release as its files describe it.

    Attributes:
        root: the release's folder.
        films: one row per row of the CSV, in its order: `image_id` (the CSV's name), `patient_id`, `follow_up`,
            `age` (years), `sex`, `view`, `path` (relative to `root`, "" where the file is missing), `official`
            ("train_val" or "test") and one bool column per finding.
        boxes: `image_id`, `finding` and half-open `x0, y0, x1, y1` in the 1024 x 1024 frame.
        table: the manifest, where one describes the films. `films` then has a column `split` too, `official` is "",
            `patient_id` may be text, `follow_up` and `age` may be NaN, and labels may be missing (undefined).
    """

    root: Path
    films: pd.DataFrame
    boxes: pd.DataFrame
    table: Path | None = None

    @property
    def source(self) -> Path:
        """What the command line names: the manifest, or the folder."""
        return self.table or self.root


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong with a release: its kind in a few words, a sentence naming file, line or film."""

    kind: str
    message: str
    severity: Literal["error", "warning"] = "error"


@dataclass(frozen=True)
class Inspection:
    """A release together with everything that its files contradict.

    Attributes:
        release: what could be read; rows with an unusable id, patient or list are left out.
        problems: every contradiction found, in reading order.
        orphans: paths, relative to the root, of films that the CSV does not name.
        original_sizes: (n, 2) width and height that the CSV gives for the original film, NaN where it does not.
        unused_entries: list entries that no row of the CSV uses (a release may be part of the official one).
    """

    release: Release
    problems: list[Problem]
    orphans: list[str]
    original_sizes: np.ndarray
    unused_entries: int


def read_release(root: Path) -> Release:
    """Read the tables and lists of a release and find its films.

    Args:
        root: folder with `images*/` (any nesting), `Data_Entry_2017*.csv` (of several, the last by name),
            `BBox_List_2017.csv`, `train_val_list.txt` and `test_list.txt`.

    Returns:
        The release; a film whose file is missing has an empty `path`.

    Raises:
        ReleaseError: a table or list is missing, truncated, or contradicts itself or another file.
    """
    inspection = inspect_release(root)
    require_sound(inspection)
    return inspection.release


def require_sound(inspection: Inspection) -> None:
    """Raise the first error of an inspection, with the number of the others.

    Raises:
        ReleaseError: there is one.
    """
    errors = [problem for problem in inspection.problems if problem.severity == "error"]
    if errors:
        more = len(errors) - 1
        note = f" ({more} more; `clarity check {inspection.release.source}` lists them all)" if more else ""
        raise ReleaseError(errors[0].message + note)


def inspect_release(root: Path) -> Inspection:
    """Read a release, collecting what `read_release` would raise; missing films and orphans are not problems yet.

    Raises:
        ReleaseError: a table or list is missing or cannot be read at all.
    """
    if not root.is_dir():
        raise ReleaseError(f"{root}: no such folder; give the folder that holds images*/ and Data_Entry_2017*.csv")
    problems: list[Problem] = []
    films, original_sizes = _read_films(_find_table(root), problems)
    officials, listed = _read_lists(root, films["image_id"], problems)
    films["official"] = officials
    usable = films["official"].ne("").to_numpy()
    films, original_sizes = films[usable].reset_index(drop=True), original_sizes[usable]
    orphans = _attach_paths(root, films, problems)
    boxes = _read_boxes(root / "BBox_List_2017.csv", films, listed, problems)
    columns = ["image_id", "patient_id", "follow_up", "age", "sex", "view", "path", "official", *FINDINGS]
    unused = len(listed) - int(films["image_id"].map(stem_of).isin(listed).sum())
    return Inspection(Release(root, films[columns], boxes), problems, orphans, original_sizes, unused)


def find_priors(root: Path, films: pd.DataFrame) -> list[Path | None] | None:
    """The file in `priors/` of each film, None for a film without; None if no film has one."""
    folder = root / "priors"
    if not folder.is_dir():
        return None
    with os.scandir(folder) as entries:
        names = {entry.name for entry in entries}
    wanted = [f"{stem_of(image_id)}.png" for image_id in films["image_id"]]
    paths = [folder / name if name in names else None for name in wanted]
    return paths if any(paths) else None


def some(items: Iterable[object], total: int | None = None) -> str:
    """The first few of `items`, then how many there are in all."""
    listed = [str(item) for item in items]
    count = len(listed) if total is None else total
    shown = ", ".join(listed[:_SHOWN])
    return shown if count <= _SHOWN else f"{shown}, ... ({count} in all)"


def read_ages(text: pd.Series) -> pd.Series:
    """Ages in years from `58`, `058Y`, `011M` or `003D`; NaN where the text is none of these."""
    age = text.str.extract(r"^(\d+(?:\.\d*)?)([YMD]?)$")
    return pd.to_numeric(age[0]) / age[1].map(_AGE_UNITS_PER_YEAR)


def stem_of(name: str) -> str:
    """A file's name without its suffix."""
    return name.rsplit(".", 1)[0]


def _find_table(root: Path) -> Path:
    tables = sorted(root.glob("Data_Entry_2017*.csv"))
    if not tables:
        raise ReleaseError(f"{root}: no Data_Entry_2017*.csv; the release's table of films belongs in this folder")
    return tables[-1]


def _read_table(path: Path, may_be_empty: bool = False) -> tuple[list[str], pd.DataFrame]:
    """Header and rows of a CSV as text; the index of the rows is their line number in the file."""
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        raise ReleaseError(f"{path}: no such file; a release needs it, fetch it with the films") from None
    first, _, body = content.partition(b"\n")
    if not body.strip() and not may_be_empty:
        raise ReleaseError(f"{path}: no rows below the header; the file is truncated, fetch it again")
    try:
        header = [name.strip() for name in first.decode("utf-8-sig").split(",")]
        rows = pd.read_csv(
            io.BytesIO(body or b"\n"),
            header=None,
            names=list(range(len(header))),
            dtype=str,
            index_col=False,
            na_filter=False,
            skip_blank_lines=False,
        )
    except (UnicodeDecodeError, pd.errors.ParserError) as error:
        reason = re.sub(r"Error tokenizing data\. C error: ", "", str(error)).strip()
        reason = re.sub(r"\bline (\d+)", lambda match: f"line {int(match[1]) + 1}", reason)
        raise ReleaseError(f"{path}: not a readable CSV: {reason}; fetch it again") from None
    rows.index = pd.RangeIndex(2, len(rows) + 2)
    rows = rows[(rows != "").any(axis=1)]
    fields, expected = body.rstrip().rsplit(b"\n", 1)[-1].count(b",") + 1, len([name for name in header if name])
    if len(rows) and fields < expected:
        raise ReleaseError(
            f"{path}, line {rows.index[-1]}: {fields} of {expected} fields; the file is truncated, fetch it again"
        )
    return header, rows


def _read_films(path: Path, problems: list[Problem]) -> tuple[pd.DataFrame, np.ndarray]:
    """The CSV's usable rows with `_TABLE_COLUMNS` typed and one bool column per finding; the original sizes."""
    header, rows = _read_table(path)
    absent = [name for name in _TABLE_COLUMNS.values() if name not in header]
    if absent:
        raise ReleaseError(f"{path}, line 1: no column {', '.join(map(repr, absent))}; found {', '.join(header)}")
    films = pd.DataFrame({key: rows[header.index(name)].str.strip() for key, name in _TABLE_COLUMNS.items()})
    films["age"] = read_ages(films["age"])
    for column in ("patient_id", "follow_up"):
        films[column] = pd.to_numeric(films[column], errors="coerce")
    named = films["image_id"].str.lower().str.endswith(FILM_SUFFIXES)
    whole = films["patient_id"].mod(1).eq(0) & films["follow_up"].mod(1).eq(0) & films["age"].notna()
    for line in films.index[~(named & whole)]:
        text = ",".join(rows.loc[line])
        problems.append(
            Problem(
                "broken row",
                f"{path}, line {line}: expected an image name, labels, follow-up number, patient id and age, "
                f"found {text!r}; correct the row or fetch the file again",
            )
        )
    stems = films["image_id"].map(stem_of)
    problems += [
        Problem("repeated row", f"{path}, line {line}: {films.at[line, 'image_id']} stands in an earlier row too")
        for line in films.index[named & whole & stems.duplicated()]
    ]
    good = named & whole & ~stems.duplicated()
    films = films[good].astype({"patient_id": "int64", "follow_up": "int64"})
    labels = _parse_labels(films, path, problems)
    originals = np.full((len(films), 2), np.nan)
    if "OriginalImage[Width" in header:
        at = header.index("OriginalImage[Width")
        originals = rows.loc[good, [at, at + 1]].apply(pd.to_numeric, errors="coerce").to_numpy(float)
    films = pd.concat([films.drop(columns="labels"), labels], axis=1)
    return films.reset_index(drop=True), originals


def _parse_labels(films: pd.DataFrame, path: Path, problems: list[Problem]) -> pd.DataFrame:
    codes, combinations = pd.factorize(films["labels"])
    table = np.zeros((len(combinations), len(FINDINGS)), dtype=bool)
    for position, combination in enumerate(combinations):
        names = [BOX_FILE_SPELLINGS.get(name.strip(), name.strip()) for name in combination.split("|")]
        unknown = [name for name in names if name not in FINDINGS and name != NO_FINDING]
        line = films.index[int(np.argmax(codes == position))]
        if unknown:
            problems.append(
                Problem(
                    "unknown finding",
                    f"{path}, line {line}: unknown finding {some(map(repr, unknown))}; "
                    f"expected {NO_FINDING!r} or some of {', '.join(FINDINGS)}, joined by '|'",
                )
            )
        elif NO_FINDING in names and len(names) > 1:
            problems.append(
                Problem("contradictory label", f"{path}, line {line}: {combination!r} is both a finding and none")
            )
        table[position, [FINDINGS.index(name) for name in names if name in FINDINGS]] = True
    return pd.DataFrame(table[codes], columns=list(FINDINGS), index=films.index)


def _read_lists(root: Path, image_ids: pd.Series, problems: list[Problem]) -> tuple[np.ndarray, set[str]]:
    """The official list of each film ("" if in neither or both), and the stems of all entries."""
    entries = {}
    for official in ("train_val", "test"):
        path = root / f"{official}_list.txt"
        try:
            names = path.read_text(encoding="utf-8-sig").split()
        except FileNotFoundError:
            raise ReleaseError(f"{path}: no such file; a release needs it, fetch it with the films") from None
        except UnicodeDecodeError:
            raise ReleaseError(f"{path}: not a text file of image names; fetch it again") from None
        entries[official] = {stem_of(name) for name in names}
    stems = image_ids.map(stem_of)
    in_train_val, in_test = stems.isin(entries["train_val"]), stems.isin(entries["test"])
    for kind, wrong, explanation in (
        ("in both lists", in_train_val & in_test, "in train_val_list.txt and in test_list.txt; remove one"),
        ("in neither list", ~(in_train_val | in_test), "in neither train_val_list.txt nor test_list.txt"),
    ):
        if wrong.any():
            count = int(wrong.sum())
            names = some(image_ids[wrong].head(_SHOWN), count)
            problems.append(Problem(kind, f"{root}: {count} of {len(stems)} films are {explanation}: {names}"))
    officials = np.select([in_train_val & ~in_test, in_test & ~in_train_val], ["train_val", "test"], "")
    return officials, entries["train_val"] | entries["test"]


def _attach_paths(root: Path, films: pd.DataFrame, problems: list[Problem]) -> list[str]:
    """Fill `films["path"]`; returns the files that no row names."""
    paths: dict[str, str] = {}
    for path in sorted(_film_files(root)):
        stem = stem_of(path.rsplit("/", 1)[-1])
        if stem in paths:
            problems.append(
                Problem("repeated film", f"{root}: {stem} has two files, {paths[stem]} and {path}; remove one")
            )
        else:
            paths[stem] = path
    stems = films["image_id"].map(stem_of)
    films["path"] = [paths.get(stem, "") for stem in stems]
    return [paths[stem] for stem in sorted(paths.keys() - set(stems))]


def _film_files(root: Path) -> Iterator[str]:
    """Paths, relative to `root`, of all PNG and JPEG files under `images*`; one directory scan, no stat per file."""
    pending = [entry.name for entry in os.scandir(root) if entry.name.startswith("images") and entry.is_dir()]
    while pending:
        folder = pending.pop()
        with os.scandir(root / folder) as entries:
            for entry in entries:
                if entry.name.startswith("."):
                    continue
                if entry.name.lower().endswith(FILM_SUFFIXES):
                    yield f"{folder}/{entry.name}"
                elif entry.is_dir():
                    pending.append(f"{folder}/{entry.name}")


def _read_boxes(path: Path, films: pd.DataFrame, listed: set[str], problems: list[Problem]) -> pd.DataFrame:
    """Boxes of films that have a row; parsed by position, for the file's header is malformed."""
    header, rows = _read_table(path, may_be_empty=True)
    image_ids = {stem_of(image_id): image_id for image_id in films["image_id"]}
    if len(header) < len(_BOX_COLUMNS):
        raise ReleaseError(f"{path}, line 1: expected image, finding, x, y, width and height, found {header}")
    boxes = rows[list(range(len(_BOX_COLUMNS)))].set_axis(list(_BOX_COLUMNS), axis=1)
    boxes["image_id"] = boxes["image_id"].str.strip()
    boxes["finding"] = boxes["finding"].str.strip().replace(BOX_FILE_SPELLINGS)
    numbers = boxes[["x", "y", "width", "height"]].apply(pd.to_numeric, errors="coerce")
    low = numbers[["x", "y"]].to_numpy(float)
    high = low + numbers[["width", "height"]].to_numpy(float)
    finite = np.isfinite(high).all(axis=1)
    inside = (low > -1).all(axis=1) & (high < BOX_FRAME + 1).all(axis=1) & (high > low).all(axis=1)
    known_finding = boxes["finding"].isin(FINDINGS).to_numpy()
    stems = boxes["image_id"].map(stem_of)
    known_image = stems.isin(list(image_ids)).to_numpy()
    named_anywhere = known_image | np.array([stem in listed for stem in stems], dtype=bool)
    boxes["image_id"] = stems.map(image_ids).fillna(boxes["image_id"])
    for kind, good, explanation in (
        ("broken row", finite, "x, y, width and height must be numbers"),
        ("unknown finding", known_finding, f"expected one of {', '.join(FINDINGS)}"),
        ("box outside the frame", inside | ~finite, "the box must have an area and lie within 1024 x 1024"),
        ("box of an unknown film", named_anywhere, "no row and no list names this film"),
        ("box of a film without a row", known_image | ~named_anywhere, "left out, the table has no such film"),
    ):
        severity = "warning" if kind == "box of a film without a row" else "error"
        problems += [
            Problem(kind, f"{path}, line {line}: {','.join(boxes.loc[line])}: {explanation}", severity)
            for line, sound in zip(boxes.index, np.asarray(good), strict=True)
            if not sound
        ]
    corners = pd.DataFrame(
        np.hstack([low, high]).clip(0, BOX_FRAME), columns=["x0", "y0", "x1", "y1"], index=boxes.index
    )
    usable = finite & inside & known_finding & known_image
    return pd.concat([boxes[["image_id", "finding"]], corners], axis=1)[usable].reset_index(drop=True)
