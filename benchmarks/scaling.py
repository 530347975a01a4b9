"""One process and two: python benchmarks/scaling.py

Goal: the rate of two processes at least 1.85 times that of one. Rates of `prepare`: rounds alternate, and the ratio is
that of the best round of each; where the processors are hardware threads of one core, the processor seconds per film
say how much of the loss is theirs. Two shards of a job array, one process each, are the third run. Rates of `evaluate`
(torchrun) and `predict` (shards, each confined to a processor of its own as a job array's scheduler does, for
its threads read and write beside the model): the commands run as a user runs them, one thread in each process;
what the same command takes for a few films is its start, and is not counted.

Imports are made where they are used: worker processes import this file again, and would pay for them.
"""

import argparse
import multiprocessing
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

SIZE = 224
SHARDS = 2
PASS_MODEL = "clarity_s16_224"
START_FILMS = 32
"""Films of the runs that say what starting takes."""


def prepare_in_shards(release: Path, store: Path) -> None:
    """Both shards at the same time, as a job array on one machine."""
    with ProcessPoolExecutor(SHARDS, multiprocessing.get_context("spawn")) as pool:
        finished = list(pool.map(one_shard, [release] * SHARDS, [store] * SHARDS, range(1, SHARDS + 1)))
    assert any(finished)


def one_shard(release: Path, store: Path, number: int) -> bool:
    """Whether this shard was the last."""
    from clarity_cxr.data.prepare import prepare_shard
    from clarity_cxr.shards import Shard

    return prepare_shard(release, store, Shard(number, SHARDS), SIZE, processes=1) is not None


def rates(folder: Path, films: int, side: int, rounds: int) -> list[dict[str, Any]]:
    """Rate and processor seconds of one process, of two, and of two shards."""
    from clarity_cxr.data.prepare import prepare
    from prepare import timed, write_release

    release, store = folder / "release", folder / "store"
    with ProcessPoolExecutor(SHARDS, multiprocessing.get_context("spawn")) as pool:
        write_release(release, films, side, pool)
    runs: dict[str, Callable[[], object]] = {
        "prepare, 1 process": lambda: prepare(release, store, SIZE, processes=1),
        "prepare, 2 processes": lambda: prepare(release, store, SIZE, processes=2),
        "prepare, 2 shards": lambda: prepare_in_shards(release, store),
    }
    seconds: dict[str, list[tuple[float, float]]] = {name: [] for name in runs}
    for _ in range(rounds):
        for name, run in runs.items():
            seconds[name].append(timed(run))
            shutil.rmtree(store)
    best = {name: tuple(map(min, zip(*taken, strict=True))) for name, taken in seconds.items()}
    alone, alone_processor = best["prepare, 1 process"]
    return [
        {
            "run": name,
            "films": films,
            "films_per_second": films / wall,
            "rate_ratio": alone / wall,
            "processor_seconds_per_film": processor / films,
            "processor_ratio": processor / alone_processor,
        }
        for name, (wall, processor) in best.items()
    ]


def pass_rates(folder: Path, films: int, rounds: int) -> Iterator[dict[str, Any]]:
    """Films per second of `evaluate` and `predict`, by one process and by two, without the commands' start.

    A third of a release's films are evaluated, so that `predict` is given a release of a third.
    """
    from clarity_cxr.data.phantom import PhantomConfig, write_release
    from clarity_cxr.data.prepare import prepare
    from clarity_cxr.models import create_model, save_checkpoint

    checkpoint = folder / "random_224.safetensors"
    save_checkpoint(checkpoint, create_model(PASS_MODEL))
    for count in (START_FILMS, films // 3, films):
        release = folder / f"pass{count}"
        write_release(release, PhantomConfig(films=count, size=SIZE, boxed_share=0.06), processes=2)
        prepare(release, folder / f"pass_store{count}", SIZE, processes=2)
    for name, command, many in (("evaluate", evaluate_words, films), ("predict", predict_words, films // 3)):
        seconds: dict[tuple[int, int], list[float]] = {}
        for number in range(rounds):
            for processes in (1, SHARDS):
                for count in (START_FILMS, many):
                    out = folder / f"{name}_{number}_{processes}_{count}"
                    began = time.perf_counter()
                    run_together(command(folder, checkpoint, count, processes, out), confined=name == "predict")
                    seconds.setdefault((processes, count), []).append(time.perf_counter() - began)
                    shutil.rmtree(out)
        best = {key: min(taken) for key, taken in seconds.items()}
        alone = best[1, many] - best[1, START_FILMS]
        for processes in (1, SHARDS):
            start = best[processes, START_FILMS]
            working = best[processes, many] - start
            yield {
                "run": f"{name}, {processes} process{'es' * (processes > 1)}",
                "films": many,
                "films_per_second": (many - START_FILMS) / working,
                "rate_ratio": alone / working,
                "start_seconds": start,
                "ratio_with_start": best[1, many] / best[processes, many],
            }


def evaluate_words(folder: Path, checkpoint: Path, films: int, processes: int, out: Path) -> list[list[str]]:
    """One command, which torchrun multiplies."""
    words = ["evaluate", "--checkpoint", checkpoint, "--store", folder / f"pass_store{films}", "--out", out]
    launch = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"] if processes > 1 else []
    return [[*launch, "-m", "clarity_cxr.cli.main", *map(str, words), "--replicates", "100"]]


def predict_words(folder: Path, checkpoint: Path, films: int, processes: int, out: Path) -> list[list[str]]:
    """A command for every shard."""
    words = ["predict", *(folder / f"pass{films}").glob("images*"), "--checkpoint", checkpoint, "--out", out]
    shards = [["--shard", f"{number + 1}/{processes}"] for number in range(processes)] if processes > 1 else [[]]
    return [["-m", "clarity_cxr.cli.main", *map(str, words), *shard] for shard in shards]


def run_together(commands: list[list[str]], confined: bool) -> None:
    """Python with each command's words, at the same time, one thread each, maybe on a processor of its own each."""
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    one_thread = os.environ | {"OMP_NUM_THREADS": "1"}
    processors = sorted(os.sched_getaffinity(0))
    running = []
    for number, words in enumerate(commands):
        process = subprocess.Popen([sys.executable, *words], env=one_thread, **quiet)
        if confined:
            os.sched_setaffinity(process.pid, {processors[number]})
        running.append(process)
    for words, process in zip(commands, running, strict=True):
        if process.wait():
            raise SystemExit(f"{' '.join(words)}: ended with {process.returncode}")


def main() -> None:
    from record import record

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--films", type=int, default=2000, help="that `prepare` is timed on")
    parser.add_argument("--side", type=int, default=1024, help="their side in pixels")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--pass-films", type=int, default=1200, help="of the release that `evaluate` is timed on")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        rows = rates(folder, options.films, options.side, options.rounds)
        rows += pass_rates(folder, options.pass_films, options.rounds)
    record("scaling", rows, **vars(options), size=SIZE)


if __name__ == "__main__":
    main()
