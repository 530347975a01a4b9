"""Memory over the number of films: python benchmarks/memory.py

`prepare`, `evaluate` and `predict` run on phantom releases that differ only in their number of films; the peak resident
memory of the command and of its largest worker is read from /proc until it ends. Films are never all in memory; what
grows is the tables, one row per film.
"""

import argparse
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from clarity_cxr.data.phantom import PhantomConfig, write_release
from clarity_cxr.models import create_model, save_checkpoint
from record import record

SIZE = 64


def main() -> None:
    """Measure and write `memory.json`."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--few", type=int, default=1000, help="small phantom films of the first measurement")
    parser.add_argument("--many", type=int, default=20_000, help="and of the second")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        checkpoint = Path(name) / "random.safetensors"
        save_checkpoint(checkpoint, create_model("clarity_t8_64"))
        few, many = (list(memory(Path(name), films, checkpoint)) for films in (options.few, options.many))
    for small, large in zip(few, many, strict=True):
        large["command_ratio"] = large["command_mib"] / small["command_mib"]
        more = large["command_mib"] - small["command_mib"]
        large["KiB per further film"] = 1024 * more / (options.many - options.few)
    record("memory", [row for pair in zip(few, many, strict=True) for row in pair], **vars(options), size=SIZE)


def memory(folder: Path, films: int, checkpoint: Path) -> Iterator[dict[str, Any]]:
    """Peak memory of `prepare`, `evaluate` and `predict` on a release of so many small phantom films."""
    release, store = folder / f"release{films}", folder / f"store{films}"
    write_release(release, PhantomConfig(films=films, size=SIZE), processes=2)
    out = folder / f"out{films}"
    commands = {
        "prepare": [release, "--out", store, "--size", SIZE, "--processes", 2, "--film-check", "false"],
        "evaluate": ["--checkpoint", checkpoint, "--store", store, "--out", out / "evaluate", "--replicates", 100],
        "predict": [
            *release.glob("images*"),
            "--checkpoint",
            checkpoint,
            "--out",
            out / "predict",
            "--overlays",
            "false",
        ],
    }
    for name, options in commands.items():
        command, workers, seconds = peak_memory([name, *map(str, options)])
        yield {"run": name, "films": films, "seconds": seconds, "command_mib": command, "largest_worker_mib": workers}


def peak_memory(words: list[str]) -> tuple[float, float, float]:
    """Peak resident MiB of a command and of its largest child process, and its seconds."""
    start, command, workers = time.perf_counter(), 0.0, 0.0
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    with subprocess.Popen([sys.executable, "-m", "clarity_cxr.cli.main", *words], **quiet) as process:
        while process.poll() is None:
            command = max(command, high_water(process.pid))
            workers = max([workers, *map(high_water, children(process.pid))])
            time.sleep(0.05)
    if process.returncode:
        raise SystemExit(f"clarity {' '.join(words)}: ended with {process.returncode}")
    return command, workers, time.perf_counter() - start


def children(process: int) -> list[int]:
    path = Path(f"/proc/{process}/task/{process}/children")
    try:
        return [int(word) for word in path.read_text().split()]
    except OSError:
        return []


def high_water(process: int) -> float:
    """VmHWM of a process in MiB; 0 if it has ended."""
    try:
        lines = Path(f"/proc/{process}/status").read_text().splitlines()
    except OSError:
        return 0.0
    return next((int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM:")), 0.0)


if __name__ == "__main__":
    main()
