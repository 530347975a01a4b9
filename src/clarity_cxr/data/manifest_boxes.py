"""The boxes of a manifest's films, brought from the films' own pixels to a release's frame."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd

from clarity_cxr.data.findings_map import FindingsMap
from clarity_cxr.data.images import film_size
from clarity_cxr.data.manifest_table import read_table, source_values
from clarity_cxr.data.release import BOX_FRAME, Problem, some, stem_of
from clarity_cxr.data.store import label_values
from clarity_cxr.errors import FilmError, ReleaseError
from clarity_cxr.findings import FINDINGS

_EDGES = ("x0", "y0", "x1", "y1")


def no_boxes() -> pd.DataFrame:
    """`Release.boxes` of films without any."""
    columns = {"image_id": object, "finding": object, **dict.fromkeys(_EDGES, float)}
    return pd.DataFrame({name: pd.Series(dtype=kind) for name, kind in columns.items()})


def read_boxes(
    table: Path, naming: FindingsMap, root: Path, films: pd.DataFrame, frames: np.ndarray, problems: list[Problem]
) -> pd.DataFrame:
    """`Release.boxes` of the films whose files are there.

    Args:
        table: CSV of boxes in pixels.
        naming: how it names things; where films have several readers, boxes of what most did not see are left out.
        root: folder of the films.
        films: `Release.films`.
        frames: (n, 2) width and height of the picture that each film's boxes were drawn on, NaN for the film's file.
        problems: what is wrong is added.

    Raises:
        ReleaseError: the table is missing, unreadable, or lacks the columns.
    """
    boxes = _of_films(table, _box_columns(table, naming.unfold(read_table(table)), naming), films, problems)
    if naming.reader is not None:
        seen = label_values(films)[0][boxes["row"], boxes["finding"].map(FINDINGS.index)]
        _note_left_out("box of a minority", "are of findings that most readers did not see", table, ~seen, problems)
        boxes = boxes[seen]
    sizes = frames.copy()
    for row in boxes["row"].unique():
        if np.isnan(sizes[row]).any():
            sizes[row] = _size(root / films["path"].iloc[row])
    sizes = sizes[boxes["row"]]
    edges = boxes[list(_EDGES)].to_numpy(float)
    readable, inside = ~np.isnan(sizes).any(axis=1), _inside(edges, sizes)
    problems += _outside(table, boxes[readable & ~inside], sizes[readable & ~inside])
    scaled = (edges / np.tile(sizes, 2)).clip(0, 1) * BOX_FRAME
    names = {"image_id": films["image_id"].to_numpy()[boxes["row"]], "finding": boxes["finding"].to_numpy()}
    return pd.DataFrame(names | dict(zip(_EDGES, scaled.T, strict=True)))[readable & inside].reset_index(drop=True)


def _box_columns(table: Path, rows: pd.DataFrame, naming: FindingsMap) -> pd.DataFrame:
    """`image_id`, `finding` (ours, one row for each) and the corners as they stand, NaN where they are no numbers."""
    found = {name: source_values(rows, source) for name, source in naming.boxes.items()}
    text = {name: values for name, values in found.items() if values is not None}
    corners = [names for names in (_EDGES, ("x", "y", "w", "h")) if set(names) <= set(text)]
    if not corners or not {"image", "finding"} <= set(text):
        raise ReleaseError(
            f"{table}, line 1: expected columns for image, finding and x0, y0, x1, y1 (or x, y, w, h); "
            f"found {', '.join(rows.columns)}"
        )
    edges = np.stack([pd.to_numeric(text[name], errors="coerce").to_numpy(float) for name in corners[0]], axis=1)
    if corners[0] != _EDGES:
        edges[:, 2:] += edges[:, :2]
    boxes = pd.DataFrame(edges, columns=list(_EDGES), index=rows.index)
    return boxes.assign(image_id=text["image"], finding=text["finding"].map(naming.findings_of)).explode("finding")


def _of_films(table: Path, boxes: pd.DataFrame, films: pd.DataFrame, problems: list[Problem]) -> pd.DataFrame:
    """Boxes of our findings and of films with a file, with the film's `row`."""
    other = boxes["finding"].isna()
    _note_left_out("box of another finding", "are of no finding of ours", table, other, problems)
    boxes = boxes[~other]
    rows = {stem_of(image_id): row for row, image_id in enumerate(films["image_id"])}
    row = boxes["image_id"].map(stem_of).map(rows)
    names = f"are of films that the manifest does not name ({some(boxes.loc[row.isna(), 'image_id'].unique())})"
    _note_left_out("box of a film without a row", names, table, row.isna(), problems)
    boxes = boxes.assign(row=row)[row.notna()].astype({"row": "int64"})
    return boxes[films["path"].ne("").to_numpy()[boxes["row"]]]


def _note_left_out(kind: str, why: str, table: Path, left_out: np.ndarray | pd.Series, problems: list[Problem]) -> None:
    if left_out.any():
        message = f"{table}: {left_out.sum()} of {len(left_out)} boxes {why}; left out"
        problems.append(Problem(kind, message, "warning"))


def _size(path: Path) -> tuple[float, float]:
    """Width and height of a film; NaN if it is unreadable, which is a problem of the film, not of its boxes."""
    try:
        return film_size(path)
    except FilmError:
        return np.nan, np.nan


def _inside(edges: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    """Which boxes have an area and lie within the film, give or take less than a pixel."""
    within = (edges > -1) & (edges < np.tile(sizes, 2) + 1)
    return np.asarray(within.all(axis=1) & (edges[:, 2:] > edges[:, :2]).all(axis=1))


def _outside(table: Path, boxes: pd.DataFrame, sizes: np.ndarray) -> Iterator[Problem]:
    for (line, box), (width, height) in zip(boxes.iterrows(), sizes, strict=True):
        corners = ", ".join(f"{box[edge]:g}" for edge in _EDGES)
        yield Problem(
            "box outside the film",
            f"{table}, line {line}: {corners} of {box['image_id']}: the box must have an area and lie within "
            f"{width:.0f} x {height:.0f} pixels",
        )
