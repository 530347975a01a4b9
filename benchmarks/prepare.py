"""`clarity prepare` against a bare decode-and-resize loop in as many processes: python benchmarks/prepare.py

Goal: at least 0.8 of the bare rate. The bare loop opens each file with Pillow, resizes with Lanczos and throws the
result away: no grey conversion, table, write, flush, journal or digest. Both start their own worker processes. Rounds
alternate, so that a machine that slows down slows both; the ratio is that of the best round of each. `prepare` does the
bare loop's work and more, so a rate ratio above 1 only says that the machine was busy: every round's seconds are
recorded, and so are processor seconds, which other work on the machine disturbs less.
"""

import argparse
import multiprocessing
import os
import shutil
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
from PIL import Image

from clarity_cxr.data.prepare import prepare
from clarity_cxr.data.workers import available_processors
from record import record


def write_film(task: tuple[Path, int, int]) -> None:
    """One noise-textured film, which compresses about as badly as a radiograph."""
    path, side, seed = task
    rng = np.random.default_rng(seed)
    coarse = Image.fromarray(rng.integers(0, 256, (16, 16), dtype=np.uint8))
    smooth = np.asarray(coarse.resize((side, side), Image.Resampling.BICUBIC), dtype=np.float32)
    film = (smooth + rng.normal(0, 3, (side, side))).clip(0, 255).astype(np.uint8)
    Image.fromarray(film).save(path)


def write_release(root: Path, films: int, side: int, pool: ProcessPoolExecutor) -> list[Path]:
    """A release of `films` films of one patient each, four fifths of them in the train_val list."""
    (root / "images").mkdir(parents=True)
    names = [f"{number:08d}_000.png" for number in range(1, films + 1)]
    paths = [root / "images" / name for name in names]
    list(pool.map(write_film, [(path, side, seed) for seed, path in enumerate(paths)]))
    header = "Image Index,Finding Labels,Follow-up #,Patient ID,Patient Age,Patient Gender,View Position"
    rows = [f"{name},No Finding,0,{number},50,F,PA" for number, name in enumerate(names, 1)]
    (root / "Data_Entry_2017_v2020.csv").write_text("\n".join([header, *rows]) + "\n")
    (root / "BBox_List_2017.csv").write_text("Image Index,Finding Label,Bbox [x,y,w,h],,,\n")
    (root / "train_val_list.txt").write_text("\n".join(names[: films * 4 // 5]))
    (root / "test_list.txt").write_text("\n".join(names[films * 4 // 5 :]))
    return paths


def decode_and_resize(paths: list[Path], size: int) -> None:
    """The bare loop's work on some films."""
    for path in paths:
        with Image.open(path) as image:
            np.asarray(image.resize((size, size), Image.Resampling.LANCZOS))


def bare_loop(paths: list[Path], size: int, processes: int) -> None:
    with ProcessPoolExecutor(processes, multiprocessing.get_context("spawn")) as pool:
        chunks = [paths[first : first + 16] for first in range(0, len(paths), 16)]
        list(pool.map(decode_and_resize, chunks, [size] * len(chunks)))


def timed(function: Callable[..., object], *args: object) -> tuple[float, float]:
    """Wall-clock seconds and processor seconds (this process and its ended children) of one call."""
    start, before = time.perf_counter(), os.times()
    function(*args)
    after = os.times()
    return time.perf_counter() - start, sum(after[:4]) - sum(before[:4])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--films", type=int, default=600)
    parser.add_argument("--side", type=int, default=1024)
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--processes", type=int, default=available_processors())
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        root, store = Path(folder) / "release", Path(folder) / "store"
        with ProcessPoolExecutor(options.processes, multiprocessing.get_context("spawn")) as pool:
            paths = write_release(root, options.films, options.side, pool)
        bare, whole = [], []
        for _ in range(options.rounds):
            bare.append(timed(bare_loop, paths, options.size, options.processes))
            whole.append(timed(prepare, root, store, options.size, options.processes))
            shutil.rmtree(store)
    bare_wall, bare_processor = map(min, zip(*bare, strict=True))
    rows = []
    for name, rounds in (("bare decode + resize", bare), ("prepare", whole)):
        wall, processor = map(min, zip(*rounds, strict=True))
        rows.append(
            {
                "run": name,
                "seconds": wall,
                "films_per_second": options.films / wall,
                "rate_ratio": bare_wall / wall,
                "processor_seconds": processor,
                "processor_ratio": bare_processor / processor,
                "rounds": ", ".join(f"{seconds:.1f}" for seconds, _ in rounds),
            }
        )
    record("prepare", rows, **vars(options))


if __name__ == "__main__":
    main()
