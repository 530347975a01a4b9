"""What the method's open choices do: the demo's model on a phantom store, each option against the default, over seeds.

    python benchmarks/options.py --store runs/demo/store [--config configs/options.yaml] [--seeds 3] [--jobs 2]

Runs `clarity train` and `clarity evaluate` with one thread each, `--jobs` at a time, into `runs/options/VARIANT/SEED`.
A finished run is not repeated and an interrupted one is continued. Ends with mean and standard deviation over the seeds
and the paired difference to the default; the peer is the default itself, trained in the same run of this script.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from record import record

VARIANTS: dict[str, list[str]] = {
    "default": [],
    "mask_gradient soft": ["--model.mask_gradient", "soft"],
    "mask_gradient hard": ["--model.mask_gradient", "hard"],
    "background_norm running": ["--model.background_norm", "running"],
    "background_norm own": ["--model.background_norm", "own"],
    "class_reduction sum": ["--loss.class_reduction", "sum"],
    "class_token_norm": ["--model.class_token_norm", "true"],
}
MEASURES = ("macro_auc", "msli_all", "msli_top", "top / best control", "udp", "mask_share")


def main() -> None:
    """Run what is not there yet, then print and record the table."""
    options = arguments()
    jobs = [(name, seed) for seed in range(options.seeds) for name in VARIANTS]
    with ThreadPoolExecutor(options.jobs) as pool:
        results = dict(zip(jobs, pool.map(lambda job: measure(*job, options), jobs), strict=True))
    rows = [summary(name, results, options.seeds) for name in VARIANTS]
    record("options", rows, store=options.store, config=options.config, seeds=list(range(options.seeds)))


def arguments() -> argparse.Namespace:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--store", required=True)
    parser.add_argument("--config", default="configs/options.yaml")
    parser.add_argument("--out", type=Path, default=Path("runs/options"))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--jobs", type=int, default=2)
    return parser.parse_args()


def measure(name: str, seed: int, options: argparse.Namespace) -> dict[str, float]:
    """Train and evaluate one variant with one seed."""
    out = options.out / name.replace(" ", "_") / str(seed)
    if not (out / "evaluation.json").is_file():
        out.mkdir(parents=True, exist_ok=True)
        train = ["train", "--config", options.config, "--store", options.store, "--out", str(out / "train")]
        clarity(out, [*train, "--run.seed", str(seed), *VARIANTS[name]])
        weights = str(out / "train/best.safetensors")
        clarity(
            out,
            ["evaluate", "--checkpoint", weights, "--store", options.store, "--out", str(out), "--replicates", "20"],
        )
    return read_measures(json.loads((out / "evaluation.json").read_text()), out, options.store)


def clarity(out: Path, words: list[str]) -> None:
    """The command in a process of its own, one thread, its output in `log.txt`."""
    with (out / "log.txt").open("ab") as log:
        subprocess.run(
            [sys.executable, "-m", "clarity_cxr.cli.main", *words],
            stdout=log,
            stderr=log,
            check=True,
            env=os.environ | {"OMP_NUM_THREADS": "1"},
        )


def read_measures(evaluation: dict[str, Any], out: Path, store: str) -> dict[str, float]:
    """Test figures of one run, and how much of the film its masks cover."""
    return {
        "macro_auc": evaluation["macro_auc"],
        "msli_all": evaluation["msli"]["all"],
        "msli_top": evaluation["msli"]["top"],
        "top / best control": evaluation["best_control"]["top"]["ratio"],
        "udp": evaluation["udp"],
        "mask_share": mask_share(out / "train/best.safetensors", Path(store)),
    }


def mask_share(checkpoint: Path, store: Path) -> float:
    """Mean share of the patch grid under S_f, over findings and 256 test films."""
    import torch

    from clarity_cxr.data.store import open_store
    from clarity_cxr.models import load_checkpoint

    films = open_store(store)
    model = load_checkpoint(checkpoint).model
    with torch.inference_mode():
        output = model(model.preprocess(torch.from_numpy(films.films[films.rows("test")[:256]])))
    assert output.heatmap is not None
    return (output.heatmap > model.config.mask_threshold).float().mean().item()


def summary(name: str, results: dict[tuple[str, int], dict[str, float]], seeds: int) -> dict[str, Any]:
    """Mean and standard deviation over the seeds; for variants also the paired difference to the default."""
    row: dict[str, Any] = {"option": name}
    for measure_name in MEASURES:
        values = [results[name, seed][measure_name] for seed in range(seeds)]
        row[measure_name] = f"{statistics.mean(values):.3f} ± {spread(values):.3f}"
        if name != "default" and measure_name in ("macro_auc", "msli_top"):
            differences = [
                results[name, seed][measure_name] - results["default", seed][measure_name] for seed in range(seeds)
            ]
            row[f"Δ {measure_name}"] = f"{statistics.mean(differences):+.3f} ± {spread(differences):.3f}"
    return row


def spread(values: list[float]) -> float:
    """Standard deviation, 0 for one value."""
    return statistics.stdev(values) if len(values) > 1 else 0.0


if __name__ == "__main__":
    main()
