"""What distillation changes, over seeds: teacher, student on labels, the same student on the teacher's probabilities.

    python benchmarks/distill_seeds.py --store runs/options/store [--seeds 3] [--student configs/demo.yaml]
        [--teacher configs/teacher_demo.yaml] [--threads 1]

Runs `clarity train`, `evaluate` and `distill dump` into `runs/distill/SEED`, with each seed for all four; a finished
run is not repeated and an interrupted one is continued. The peer is the student on labels of the same seed.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import yaml

from record import record

MEASURES = ("macro_auc", "msli all", "msli top", "udp", "seconds")


def main() -> None:
    """Run what is not there yet, then print and record the table."""
    options = arguments()
    results = [one_seed(seed, options) for seed in range(options.seeds)]
    record("distill_seeds", table(results), **{key: str(value) for key, value in vars(options).items()})


def arguments() -> argparse.Namespace:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--store", required=True)
    parser.add_argument("--student", default="configs/demo.yaml")
    parser.add_argument("--teacher", default="configs/teacher_demo.yaml")
    parser.add_argument("--weights", help="the student's starting weights, if any")
    parser.add_argument("--teacher-weights", help="the teacher's starting weights, if any")
    parser.add_argument("--out", type=Path, default=Path("runs/distill"))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    return parser.parse_args()


def one_seed(seed: int, options: argparse.Namespace) -> dict[str, dict[str, float]]:
    """Teacher, logits and both students of one seed; their figures by name."""
    folder = options.out / str(seed)
    epochs = yaml.safe_load(Path(options.student).read_text())["optimization"]["epochs"]
    result = {"teacher": run(folder / "teacher", options.teacher, seed, options, options.teacher_weights)}
    teacher = str(folder / "teacher/train/best.safetensors")
    words = ["distill", "dump", "--teacher", teacher, "--store", options.store, "--seed", str(seed)]
    dump_seconds = timed(folder, "dump", [*words, "--epochs", str(epochs), "--out", str(folder / "logits")], options)
    result["student on labels"] = run(folder / "labels", options.student, seed, options, options.weights)
    distill = ["--distill", str(folder / "logits")]
    result["student distilled"] = run(folder / "distilled", options.student, seed, options, options.weights, distill)
    result["logits"] = {"seconds": dump_seconds}
    return result


def run(
    out: Path, config: str, seed: int, options: argparse.Namespace, weights: str | None, more: list[str] | None = None
) -> dict[str, float]:
    """Train and evaluate one model."""
    words = ["train", "--config", config, "--store", options.store, "--out", str(out / "train")]
    words += ["--run.seed", str(seed), *(["--model.weights", weights] if weights else []), *(more or [])]
    seconds = timed(out, "train", words, options)
    best = str(out / "train/best.safetensors")
    timed(out, "evaluate", ["evaluate", "--checkpoint", best, "--store", options.store, "--out", str(out)], options)
    evaluation = json.loads((out / "evaluation.json").read_text())
    figures = {"macro_auc": evaluation["macro_auc"], "seconds": seconds}
    if "msli" in evaluation:
        figures |= {"msli all": evaluation["msli"]["all"], "msli top": evaluation["msli"]["top"]}
        figures["udp"] = evaluation["udp"]
    return figures


def timed(out: Path, name: str, words: list[str], options: argparse.Namespace) -> float:
    """Run a command in a process of its own unless it was finished before; its seconds, summed over interruptions."""
    out.mkdir(parents=True, exist_ok=True)
    done = out / f"{name}.seconds"
    if not done.is_file():
        begin = time.monotonic()
        with (out / f"{name}.log").open("ab") as log:
            environment = os.environ | {"OMP_NUM_THREADS": str(options.threads)}
            command = [sys.executable, "-m", "clarity_cxr.cli.main", *words]
            subprocess.run(command, stdout=log, stderr=log, check=True, env=environment)
        done.write_text(f"{time.monotonic() - begin:.1f}")
    return float(done.read_text())


def table(results: list[dict[str, dict[str, float]]]) -> list[dict[str, Any]]:
    """Mean and standard deviation over the seeds; for the distilled student also the paired change."""
    rows = []
    for name in ("teacher", "logits", "student on labels", "student distilled"):
        values = {key: [each[name][key] for each in results] for key in MEASURES if key in results[0][name]}
        rows.append({"run": name} | {key: spread(each) for key, each in values.items()})
    changes = {
        key: [each["student distilled"][key] - each["student on labels"][key] for each in results]
        for key in MEASURES
        if None not in [each["student on labels"].get(key) for each in results]
    }
    return [*rows, {"run": "distilled less labels"} | {key: spread(each) for key, each in changes.items()}]


def spread(values: list[float]) -> str:
    """Mean and standard deviation of at least one value; a dash where one is undefined."""
    if None in values:
        return "–"
    deviation = statistics.stdev(values) if len(values) > 1 else 0.0
    return f"{statistics.mean(values):.3f} ± {deviation:.3f}"


if __name__ == "__main__":
    main()
