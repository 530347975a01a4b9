"""The logit store's three prices: making it, learning from it, opening it: python benchmarks/distill_speed.py

    python benchmarks/distill_speed.py [--teacher convnextv2_base --student clarity_s16_224] [--batch 8] [--rounds 3]

1. `clarity distill dump`'s rate against the bare forward pass of the same teacher on the same, already augmented
   batches: reading, augmenting, checksums and writing are what is left (goal: 0.9 of the bare rate).
2. A training step of the student with targets from the store, against the same step with the teacher run online.
3. A store of full size, 200 epochs of 75,312 films (its arrays are sparse): its bytes, opening it with the check that a
   run makes, and the memory that takes.

Random weights and films: speed only. Rounds of both contenders of a ratio are interleaved.
"""

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

from clarity_cxr.data.augmentation import AugmentationConfig
from clarity_cxr.data.phantom import PhantomConfig, write_release
from clarity_cxr.data.prepare import prepare
from clarity_cxr.distill.dump import make_epoch
from clarity_cxr.distill.manifest import Manifest, write_manifest
from clarity_cxr.distill.source import LogitSource
from clarity_cxr.distill.store import LogitStore
from clarity_cxr.files import file_digest, write_json
from clarity_cxr.models import create_model
from clarity_cxr.models.teacher import create_teacher, save_teacher
from clarity_cxr.training.batches import TrainingFilms
from clarity_cxr.training.config import LossConfig, OptimizationConfig, RunConfig
from clarity_cxr.training.recipe import ClarityRecipe
from model import finish, interleaved, ratio_row
from record import record

FULL_SIZE = 75_312, 200
"""Training films and epochs of the paper's run."""


def main() -> None:
    """Measure and write `distill_speed.json` and `distill_store.json` in `runs/benchmarks`."""
    options = arguments()
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        source, store = small_pair(folder, options)
        rows = [dump_row(source, store, options), step_row(source, store, options)]
        opening = opening_row(folder / "full", store.manifest)
    record("distill_speed", rows, **vars(options))
    record("distill_store", [opening])


def arguments() -> argparse.Namespace:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--teacher", default="convnextv2_base")
    parser.add_argument("--student", default="clarity_s16_224")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--films", type=int, default=60, help="phantom films; about two thirds are for training")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    return parser.parse_args()


def small_pair(folder: Path, options: argparse.Namespace) -> tuple[LogitSource, LogitStore]:
    """A teacher, films of the student's size, and an empty store with an epoch for every round."""
    size = create_model(options.student).config.image_size
    write_release(folder / "release", PhantomConfig(films=options.films, size=size, seed=0), processes=1)
    films = prepare(folder / "release", folder / "films", size=size, processes=1)
    save_teacher(folder / "teacher.safetensors", create_teacher(options.teacher, image_size=size), {})
    source = LogitSource(folder / "teacher.safetensors", films.path, AugmentationConfig(), seed=0)
    (folder / "logits").mkdir()
    write_manifest(folder / "logits", Manifest(source.identity, options.rounds + 1, {}))
    return source, LogitStore(folder / "logits")


def dump_row(source: LogitSource, store: LogitStore, options: argparse.Namespace) -> dict[str, object]:
    """One epoch of a dump against the bare forward pass of that epoch's batches."""
    films = len(source.rows)
    starts = range(0, films, options.batch)
    epochs = iter(range(options.rounds + 1))
    positions = [np.arange(first, min(first + options.batch, films)) for first in starts]
    images = [source.teacher.preprocess(source.augmented(rows, 0)) for rows in positions]

    def bare() -> None:
        with torch.inference_mode():
            for batch in images:
                source.teacher(batch)

    def ours() -> None:
        make_epoch(store, source, next(epochs), options.batch, {})

    times = interleaved([ours, bare], options.rounds)
    row = ratio_row(f"dump, {options.teacher}", times, films, "bare forward, augmented batches")
    return row | {"rate of the bare one": round(1 / float(str(row["ratio"])), 3)}


def step_row(source: LogitSource, store: LogitStore, options: argparse.Namespace) -> dict[str, object]:
    """A step with targets from the store against one with the teacher run online, on the same augmented films."""
    student = create_model(options.student).train()
    optimization = OptimizationConfig(learning_rate=1e-5)
    recipe = ClarityRecipe(student, source.films, source.augmentation, LossConfig(), optimization, 1, RunConfig())
    optimizer = torch.optim.AdamW(student.parameters(), lr=1e-5, fused=True)
    with_logits, without = TrainingFilms(source.films, logits=store), TrainingFilms(source.films)
    index = (0, source.rows[: options.batch])
    first = np.arange(options.batch)

    def step(batch: dict[str, object]) -> None:
        with torch.autocast("cpu", torch.bfloat16):
            loss = recipe.training_step(batch, 0)["loss"]
        finish(loss, optimizer)

    def ours() -> None:
        step(with_logits[index])

    def online() -> None:
        batch = without[index]
        with torch.autocast("cpu", torch.bfloat16):
            images = source.teacher.preprocess(source.augmented(first, 0))
            with torch.inference_mode():
                logits = source.teacher(images)
        step(batch | {"teacher_logits": logits.float().clone()})

    times = interleaved([ours, online], options.rounds)
    row = ratio_row(f"step, {options.student}, targets from the store", times, options.batch, "teacher online")
    return row | {"speed-up": round(1 / float(str(row["ratio"])), 2)}


def opening_row(folder: Path, like: Manifest) -> dict[str, object]:
    """A store of full size, opened and checked as a run does before its first step."""
    films, epochs = FULL_SIZE
    folder.mkdir()
    write_manifest(folder, Manifest(like.identity | {"film_count": films}, epochs, {}))
    store = LogitStore(folder)
    empty = np.zeros(store.shape, np.float16)
    store.write(0, empty, {})
    digest, length = file_digest(store.array_path(0)), store.array_path(0).stat().st_size
    header = store.array_path(0).read_bytes()[:128]
    for epoch in range(1, epochs):
        with store.array_path(epoch).open("wb") as handle:
            handle.write(header)
            handle.truncate(length)
        write_json(store.record_path(epoch), {"sha256": digest, "key": store.manifest.key, "origin": {}})
    before = own_memory()
    begin = time.perf_counter()
    opened = LogitStore(folder)
    opened.require(store.manifest.identity, epochs)
    opened_after = time.perf_counter() - begin
    begin = time.perf_counter()
    for epoch in range(epochs):
        opened.epoch(epoch)[:64].sum()
    read_after = time.perf_counter() - begin
    return {
        "what": f"open {epochs} epochs of {films:,} films",
        "arrays MB": round(epochs * length / 1e6, 1),
        "other MB": round(sum(p.stat().st_size for p in folder.iterdir() if p.suffix == ".json") / 1e6, 2),
        "open s": round(opened_after, 3),
        "first batch of every epoch s": round(read_after, 2),
        "own memory MB": round(own_memory() - before, 1),
    }


def own_memory() -> float:
    """Megabytes of this process that are no file's pages."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(float(line.split()[1]) for line in lines if line.startswith("RssAnon")) / 1024


if __name__ == "__main__":
    main()
