"""A data set that a CSV describes, read as a release is: films of any hospital, findings under any names."""

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd

from clarity_cxr.data.findings_map import COLUMNS, FindingsMap, load_findings_map
from clarity_cxr.data.manifest_boxes import no_boxes, read_boxes
from clarity_cxr.data.manifest_labels import label_columns, majority, read_labels
from clarity_cxr.data.manifest_table import read_table, source_values
from clarity_cxr.data.release import (
    FILM_SUFFIXES,
    Inspection,
    Problem,
    Release,
    inspect_release,
    read_ages,
    stem_of,
)
from clarity_cxr.errors import ConfigError, ReleaseError
from clarity_cxr.findings import FINDINGS

SPLITS = {"train": "train", "test": "test", **dict.fromkeys(("val", "valid", "validate", "validation", "dev"), "val")}
"""Spellings of the splits, in lower case."""

_LARGEST_ID = 2**63 - 1


@dataclass(frozen=True)
class Manifest:
    """Films, labels and boxes in tables of their own.

    Attributes:
        table: CSV, compressed or not, with one row per film, or per film and reader.
        images: folder that the films' paths start from; None is the table's.
        boxes: CSV of boxes in pixels of the films' own files, half-open; None for none.
        findings: how the tables name things.
    """

    table: Path
    images: Path | None = None
    boxes: Path | None = None
    findings: FindingsMap = field(default_factory=FindingsMap)


def data_set(
    path: Path, images: Path | None = None, boxes: Path | None = None, findings_map: str | None = None
) -> Path | Manifest:
    """What a path on the command line stands for: a manifest if it is a file or ends in .csv, else a release's folder.

    Raises:
        ConfigError: options of a manifest are given for a folder, or the findings map cannot be used.
    """
    if path.is_file() or ".csv" in path.suffixes:
        return Manifest(path, images, boxes, load_findings_map(findings_map))
    if images or boxes or findings_map:
        raise ConfigError(f"{path}: --images, --boxes and --findings-map go with a manifest CSV, and this is none")
    return path


def inspect_data(source: Path | Manifest) -> Inspection:
    """Read a release's folder or a manifest, collecting everything that is wrong.

    Raises:
        ReleaseError: a table is missing or cannot be read at all.
    """
    return inspect_manifest(source) if isinstance(source, Manifest) else inspect_release(source)


def inspect_manifest(manifest: Manifest) -> Inspection:
    """Read a manifest, collecting what is wrong; films that are missing are not problems yet.

    Films go by their path in the manifest. A film without a split is a test film. See `Release.table` for what else
    differs from a release.

    Raises:
        ReleaseError: a table is missing, unreadable, or lacks the columns.
    """
    root = manifest.images or manifest.table.parent
    problems: list[Problem] = []
    films, labels = _read_films(manifest, problems)
    frames = films[["box_width", "box_height"]].to_numpy(float)
    films["path"] = [_find_film(root, image_id) for image_id in films["image_id"]]
    columns = ["image_id", "patient_id", "follow_up", "age", "sex", "view", "path", "official", "split"]
    films = pd.concat([films[columns], label_columns(labels)], axis=1)
    boxes = no_boxes()
    if manifest.boxes is not None:
        boxes = read_boxes(manifest.boxes, manifest.findings, root, films, frames, problems)
    release = Release(root, films, boxes, manifest.table)
    return Inspection(release, problems, [], np.full((len(films), 2), np.nan), 0)


def _read_films(manifest: Manifest, problems: list[Problem]) -> tuple[pd.DataFrame, np.ndarray]:
    """The usable rows, one per film, and their labels (n, 14): 1, 0, or NaN where undefined."""
    table, naming = manifest.table, manifest.findings
    rows = read_table(table)
    kept = naming.unfold(rows)
    if len(kept) < len(rows):
        message = f"{table}: {len(rows) - len(kept)} of {len(rows)} rows left out; the findings map keeps {naming.keep}"
        problems.append(Problem("rows left out", message, "warning"))
    films = _film_columns(table, kept, naming)
    usable = _usable(table, films, problems)
    films, kept = films[usable], kept[usable]
    film, _ = pd.factorize(films["image_id"].map(stem_of))
    repeated = pd.Series(film, index=films.index).duplicated()
    labels = read_labels(table, kept, naming, problems)
    if naming.reader in kept:
        labels = majority(labels, film)
    else:
        problems += [
            Problem("repeated row", f"{table}, line {line}: {films.at[line, 'image_id']} stands in an earlier row too")
            for line in films.index[repeated]
        ]
        labels = labels[~repeated]
    films = films[~repeated].reset_index(drop=True)
    _note_undefined(table, labels, problems)
    return films.assign(patient_id=_patient_ids(films["patient_id"])), labels


def _film_columns(table: Path, rows: pd.DataFrame, naming: FindingsMap) -> pd.DataFrame:
    """A release's columns, ids as text, `split` None where it is none, and the frame of the boxes."""
    sources = {name: naming.columns.get(name, name) for name in COLUMNS}
    found = {name: source_values(rows, source) for name, source in sources.items()}
    for name in ("image", "patient"):
        if found[name] is None:
            raise ReleaseError(
                f"{table}, line 1: no column for {name} ({sources[name]!r}); found {', '.join(rows.columns)}"
            )
    absent = pd.Series("", index=rows.index, dtype=object)
    text = {name: absent if values is None else values for name, values in found.items()}
    sex = text["sex"].str.upper().str[:1]
    numbers = {
        name: pd.to_numeric(text[name], errors="coerce").astype(float)
        for name in ("follow_up", "box_width", "box_height")
    }
    return pd.DataFrame(
        {
            "image_id": text["image"],
            "patient_id": text["patient"],
            "age": read_ages(text["age"]),
            "sex": sex.where(sex.isin(["F", "M"]), ""),
            "view": text["view"].str.upper(),
            "official": "",
            "split": text["split"].str.lower().map({"": "test", **SPLITS}),
            **numbers,
        }
    )


def _usable(table: Path, films: pd.DataFrame, problems: list[Problem]) -> pd.Series:
    """Which rows name a film, a patient and a split; notes the others."""
    named = films["image_id"].str.lower().str.endswith(FILM_SUFFIXES) & ~films["image_id"].str.startswith("/")
    checks = (
        (named, "image must be the path of a PNG or JPEG film, relative to the table or to --images"),
        (films["patient_id"].ne(""), "patient must not be empty"),
        (films["split"].notna(), f"split must be one of {', '.join(SPLITS)}, or empty"),
    )
    for good, expected in checks:
        for line, image_id in films.loc[~good, "image_id"].items():
            problems.append(Problem("broken row", f"{table}, line {line} ({image_id!r}): {expected}"))
    return checks[0][0] & checks[1][0] & checks[2][0]


def _patient_ids(ids: pd.Series) -> pd.Series:
    """Whole numbers if all are that, without leading zeros; else text."""
    whole = ids.str.fullmatch(r"0|[1-9]\d{0,18}")
    return ids.astype("int64") if whole.all() and ids.map(int).le(_LARGEST_ID).all() else ids


def _note_undefined(table: Path, labels: np.ndarray, problems: list[Problem]) -> None:
    undefined = [name for name, values in zip(FINDINGS, labels.T, strict=True) if np.isnan(values).all()]
    if undefined:
        message = f"{table}: no film has a label of {', '.join(undefined)}: undefined, and left out of every figure"
        problems.append(Problem("undefined finding", message, "warning"))


def _find_film(root: Path, image_id: str) -> str:
    """Path of a film relative to `root`, its suffix or another; "" if it is not there."""
    candidates = (image_id, *(f"{stem_of(image_id)}{suffix}" for suffix in FILM_SUFFIXES))
    return next((candidate for candidate in candidates if (root / candidate).is_file()), "")
