"""A phantom release on disk, in the layout of NIH ChestX-ray14."""

import csv
import json
import multiprocessing
import shutil
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

from clarity_cxr.data.phantom.cohort import draw_cohort
from clarity_cxr.data.phantom.config import PhantomConfig
from clarity_cxr.data.phantom.draw import draw_films
from clarity_cxr.data.phantom.draws import Stream, generator
from clarity_cxr.errors import ReleaseError
from clarity_cxr.files import output_errors, write_json
from clarity_cxr.findings import BOX_FILE_SPELLINGS, BOXED_FINDINGS, FINDINGS, NO_FINDING
from clarity_cxr.progress import progress_bar

BATCH = 64
FOLDER_FILMS = 10_000
FRAME = 1024
"""Side of the frame of the box tables."""

_BOX_HEADER = "Image Index,Finding Label,Bbox [x,y,w,h],,,"
_ENTRY_HEADER = (
    "Image Index,Finding Labels,Follow-up #,Patient ID,Patient Age,Patient Gender,View Position,"
    "OriginalImage[Width,Height],OriginalImagePixelSpacing[x,y]"
)


def write_release(out: Path, config: PhantomConfig, processes: int = 1, batch: int = BATCH) -> None:
    """Draw a release into a folder: all of it or nothing.

    Films go to `images_NNN/images/`, priors to `priors/` (bits 0 to 3 of a grey PNG), beside the release's two tables
    and two lists; `phantom_truth.csv` has every lesion of all 14 findings and `phantom.json` the configuration.
    Whatever the number of processes and the batch size, every file has the same bytes. The folder is written as
    `OUT.partial` and renamed; a folder that already holds this very release is left as it is.

    Args:
        out: the folder to make.
        config: what to draw.
        processes: worker processes.
        batch: films drawn at a time by a worker.

    Raises:
        ReleaseError: `out` exists and is not this release.
        ClarityError: the disk is full or may not be written to.
    """
    if _is_written(out, config):
        return
    partial_out = out.with_name(out.name + ".partial")
    with output_errors(out):
        shutil.rmtree(partial_out, ignore_errors=True)
        try:
            _write_files(partial_out, config, processes, batch)
            partial_out.replace(out)
        except BaseException:
            shutil.rmtree(partial_out, ignore_errors=True)
            raise


def _write_files(out: Path, config: PhantomConfig, processes: int, batch: int) -> None:
    table = draw_cohort(config)
    for folder in sorted({path.parent for path in _film_paths(table["image_id"], 0)}):
        (out / folder).mkdir(parents=True)
    (out / "priors").mkdir()
    truth = _write_films(out, config, processes, batch)
    _write_tables(out, config, table, truth)
    write_json(out / "phantom.json", config.to_dict())


def _is_written(out: Path, config: PhantomConfig) -> bool:
    if not out.exists() or (out.is_dir() and not any(out.iterdir())):
        return False
    record = out / "phantom.json"
    try:
        found = json.loads(record.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        raise ReleaseError(f"{out}: exists and is no phantom release; choose another folder or remove it") from None
    wanted = config.to_dict()
    if found == wanted:
        return True
    keys = sorted(key for key in wanted if found.get(key) != wanted[key])
    raise ReleaseError(
        f"{record}: records another configuration ({', '.join(keys)} differ); choose another folder or remove this one"
    )


def _film_paths(image_ids: pd.Series, start: int) -> list[Path]:
    return [Path(f"images_{1 + k // FOLDER_FILMS:03d}", "images", name) for k, name in enumerate(image_ids, start)]


def _write_films(out: Path, config: PhantomConfig, processes: int, batch: int) -> pd.DataFrame:
    starts = range(0, config.films, batch)
    work = partial(_write_batch, out, config, batch)
    parts: list[pd.DataFrame] = []
    with progress_bar("Drawing phantom films", config.films) as advance:
        for part, count in _each(work, starts, processes):
            parts.append(part)
            advance(count)
    return pd.concat(parts, ignore_index=True)


def _each(work: partial, starts: range, processes: int) -> Iterator[tuple[pd.DataFrame, int]]:
    if processes <= 1:
        yield from map(work, starts)
        return
    with multiprocessing.get_context("spawn").Pool(processes) as pool:
        yield from pool.imap(work, starts)


def _write_batch(out: Path, config: PhantomConfig, batch: int, start: int) -> tuple[pd.DataFrame, int]:
    indices = np.arange(start, min(start + batch, config.films))
    drawn = draw_films(config, indices)
    paths = _film_paths(drawn.table["image_id"], start)
    weights = (1 << np.arange(4, dtype=np.uint8))[:, None, None]
    for row, path in enumerate(paths):
        Image.fromarray(drawn.films[row]).save(out / path, compress_level=1)
        bits = (drawn.priors[row] * weights).sum(0, dtype=np.uint8)
        Image.fromarray(bits).save(out / "priors" / path.name)
    return drawn.boxes.drop(columns="row"), len(indices)


def _write_tables(out: Path, config: PhantomConfig, table: pd.DataFrame, truth: pd.DataFrame) -> None:
    labels = ["|".join(np.array(FINDINGS)[row]) or NO_FINDING for row in table[list(FINDINGS)].to_numpy(bool)]
    entries = zip(
        table["image_id"], labels, table["follow_up"], table["patient_id"], table["age"], table["sex"], table["view"],
        table["width"], table["height"], table["spacing"], table["spacing"], strict=True,
    )  # fmt: skip
    _write_csv(out / "Data_Entry_2017_v2020.csv", _ENTRY_HEADER, entries)
    for name, part in (("train_val_list.txt", "train_val"), ("test_list.txt", "test")):
        ids = table.loc[table["official"] == part, "image_id"]
        (out / name).write_text("\n".join(ids), encoding="utf-8")
    corners = (truth[["x0", "y0", "x1", "y1"]] * FRAME).round(3)
    boxes = [
        (image_id, finding, x0, y0, round(x1 - x0, 3), round(y1 - y0, 3))
        for image_id, finding, x0, y0, x1, y1 in zip(
            truth["image_id"], truth["finding"], corners["x0"], corners["y0"], corners["x1"], corners["y1"], strict=True
        )
    ]
    _write_csv(out / "phantom_truth.csv", "Image Index,Finding Label,x,y,w,h", boxes)
    spelling = {name: written for written, name in BOX_FILE_SPELLINGS.items()}
    shown = _boxed(config, table)
    chosen = [(i, spelling.get(name, name), *box) for i, name, *box in boxes if (i, name) in shown]
    _write_csv(out / "BBox_List_2017.csv", _BOX_HEADER, chosen)


def _boxed(config: PhantomConfig, table: pd.DataFrame) -> set[tuple[str, str]]:
    """Test films' findings whose boxes a radiologist drew."""
    numbers = generator(config.seed, Stream.COHORT, 2).random((len(table), len(FINDINGS)))
    test = (table["official"] == "test").to_numpy()
    ids = table["image_id"].to_numpy()
    return {
        (ids[row], name)
        for name in BOXED_FINDINGS
        for row in np.flatnonzero(test & (numbers[:, FINDINGS.index(name)] < config.boxed_share))
    }


def _write_csv(path: Path, header: str, rows: object) -> None:
    with path.open("w", encoding="utf-8", newline="") as handle:
        handle.write(header + "\n")
        csv.writer(handle, lineterminator="\n").writerows(rows)  # type: ignore[arg-type]
