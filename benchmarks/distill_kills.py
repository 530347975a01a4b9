"""Twenty SIGKILLs at random moments of `clarity distill dump`, then the digest: python benchmarks/distill_kills.py

    python benchmarks/distill_kills.py [--kills 20] [--films 240] [--epochs 40] [--seed 0]

A tiny teacher on phantom films. Each process is killed a random while after it began to write, so that kills fall into
forward passes, appends, renames and the moments between; the last one is left to finish. The peer is an undisturbed
dump: the digests, the bytes of every epoch and the names in the folder must be the same. Exit code 1 if they are not.
"""

import argparse
import os
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch

from clarity_cxr.data.phantom import PhantomConfig, write_release
from clarity_cxr.data.prepare import prepare
from clarity_cxr.distill.store import LogitStore
from clarity_cxr.files import file_digest
from clarity_cxr.models.teacher import create_teacher, save_teacher
from record import record


def main() -> int:
    """Kill, continue, compare, and write `runs/benchmarks/distill_kills.json`."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--films", type=int, default=240)
    parser.add_argument("--epochs", type=int, default=40)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    torch.manual_seed(0)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_release(folder / "release", PhantomConfig(films=options.films, size=64, seed=0), processes=1)
        prepare(folder / "release", folder / "films", size=64, processes=1)
        save_teacher(folder / "teacher.safetensors", create_teacher("test_convnext", image_size=64), {})
        working = finish_dump(folder, folder / "undisturbed", options.epochs)
        delays = disturb(folder, folder / "disturbed", options, working / (2 * options.kills))
        finish_dump(folder, folder / "disturbed", options.epochs)
        rows = [compare(folder / "undisturbed", folder / "disturbed", delays)]
    record("distill_kills", rows, **vars(options))
    return 0 if rows[0]["equal"] else 1


def start(folder: Path, out: Path, epochs: int) -> subprocess.Popen[bytes]:
    """The command in a process of its own, one thread."""
    words = ["distill", "dump", "--teacher", str(folder / "teacher.safetensors"), "--store", str(folder / "films")]
    return subprocess.Popen(
        [sys.executable, "-m", "clarity_cxr.cli.main", *words, "--epochs", str(epochs), "--out", str(out)],
        stderr=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )


def finish_dump(folder: Path, out: Path, epochs: int) -> float:
    """Let a dump end; returns the seconds from its first written batch on."""
    process = start(folder, out, epochs)
    began = wait_for_writing(process, out)
    if process.wait():
        raise SystemExit(f"the dump into {out} failed")
    return time.monotonic() - began


def disturb(folder: Path, out: Path, options: argparse.Namespace, longest: float) -> list[float]:
    """Kill `options.kills` processes, each within `longest` seconds of its first write; returns the delays."""
    generator = random.Random(options.seed)
    delays = []
    for _ in range(options.kills):
        process = start(folder, out, options.epochs)
        wait_for_writing(process, out)
        delays.append(generator.uniform(0, longest))
        time.sleep(delays[-1])
        if process.poll() is not None:
            raise SystemExit("the dump ended before the last kill; give more --epochs")
        process.kill()
        process.wait()
    return delays


def wait_for_writing(process: subprocess.Popen[bytes], out: Path) -> float:
    """Wait until a process changes anything in its folder; returns the time."""
    before = folder_state(out)
    while folder_state(out) == before and process.poll() is None:
        time.sleep(0.002)
    return time.monotonic()


def folder_state(out: Path) -> dict[str, int]:
    """Size of every epoch's file, finished or not."""
    sizes = {}
    for path in out.glob("epoch_*"):
        try:
            sizes[path.name] = path.stat().st_size
        except FileNotFoundError:
            continue
    return sizes


def compare(undisturbed: Path, disturbed: Path, delays: list[float]) -> dict[str, object]:
    """One line: are they the same?"""
    stores = LogitStore(undisturbed), LogitStore(disturbed)
    contents = [{path.name: file_digest(path) for path in store.path.glob("*.npy")} for store in stores]
    names = [sorted(path.name for path in store.path.iterdir()) for store in stores]
    return {
        "what": "dump killed, against an undisturbed one",
        "kills": len(delays),
        "seconds after the first write": f"{min(delays):.3f}-{max(delays):.3f}",
        "digest": stores[1].digest()[:16],
        "undisturbed digest": stores[0].digest()[:16],
        "equal": stores[0].digest() == stores[1].digest() and contents[0] == contents[1] and names[0] == names[1],
    }


if __name__ == "__main__":
    sys.exit(main())
