"""Time and memory of a full evaluation from stored predictions, of the size of the NIH test set.

    python benchmarks/evaluation.py [--films 25596] [--boxed 880] [--replicates 1000] [--peer-replicates 3]

Synthetic predictions on a synthetic store: 25,596 test films of about 2,800 patients, 11,212 validation films, 880
boxed films with 984 boxes of 8 findings, maps on a 14 x 14 grid, 224 px. Three rows: the bootstrap of 14 AUCs against
scikit-learn's `roc_auc_score` on the resampled films (timed on a few replicates and scaled up); `score` as a whole
(thresholds of the model and three controls, all protocols, intervals, calibration, subgroups); the same for half the
boxed films, whose peak memory should be the same.
"""

import argparse
import json
import resource
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.ndimage import gaussian_filter
from sklearn.metrics import roc_auc_score

from clarity_cxr.data.store import FORMAT_VERSION, FilmStore, ids_digest, open_store
from clarity_cxr.evaluation.intervals import bootstrap_auc, draw_patients
from clarity_cxr.evaluation.predictions import Predictions, load_predictions, save_predictions
from clarity_cxr.evaluation.score import EvaluationOptions, score
from clarity_cxr.findings import BOXED_FINDINGS, BOXED_INDICES, FINDINGS
from record import record

SIZE, GRID = 224, 14
VALIDATION_SHARE = 11_212 / 25_596
BOXES_PER_FILM = 984 / 880


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--films", type=int, default=25_596, help="test films")
    parser.add_argument("--boxed", type=int, default=880, help="boxed test films")
    parser.add_argument("--replicates", type=int, default=1000)
    parser.add_argument("--peer-replicates", type=int, default=3)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    rows = [measure_score(options, options.boxed // 2), measure_score(options, options.boxed), measure_auc(options)]
    record("evaluation", rows, **vars(options), size=SIZE, grid=GRID)


def measure_auc(options: argparse.Namespace) -> dict[str, float | str]:
    """The bootstrap of all AUCs, and scikit-learn's."""
    generator = np.random.default_rng(options.seed)
    patients = generator.integers(0, max(2, options.films // 9), options.films)
    labels = generator.random((options.films, len(FINDINGS))) < 0.05
    scores = np.clip(generator.normal(0.4, 0.2, labels.shape) + 0.2 * labels, 0, 1).astype(np.float32)
    start = time.perf_counter()
    draws = draw_patients(patients, options.replicates, options.seed)
    bootstrap_auc(scores, labels, patients, draws)
    ours = time.perf_counter() - start
    start = time.perf_counter()
    for replicate in range(options.peer_replicates):
        rows = np.repeat(np.arange(len(patients)), draws.weights(patients)[replicate])
        for finding in range(len(FINDINGS)):
            roc_auc_score(labels[rows, finding], scores[rows, finding])
    peer = (time.perf_counter() - start) * options.replicates / options.peer_replicates
    return {
        "what": f"{options.replicates} x {len(FINDINGS)} AUCs",
        "seconds": ours,
        "peer_s": peer,
        "peer": "scikit-learn",
        "ratio": peer / ours,
        "peak_gb": peak_gb(),
    }


def measure_score(options: argparse.Namespace, boxed: int) -> dict[str, float | str]:
    """Reading stored predictions and scoring them."""
    with tempfile.TemporaryDirectory() as folder:
        store = make_store(Path(folder) / "store", options.films, boxed, options.seed)
        path = Path(folder) / "predictions.npz"
        save_predictions(path, make_predictions(store, options.seed), store)
        start = time.perf_counter()
        predictions = load_predictions(path, store)
        score(predictions, store, GRID, EvaluationOptions(replicates=options.replicates, seed=options.seed))
        return {
            "what": f"score, {boxed} boxed films",
            "seconds": time.perf_counter() - start,
            "peak_gb": peak_gb(),
        }


def peak_gb() -> float:
    """The most memory this process has held so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6


def make_store(path: Path, films: int, boxed: int, seed: int) -> FilmStore:
    """A store whose pixels are a hole in the file: nothing reads them."""
    generator = np.random.default_rng(seed)
    validation = round(films * VALIDATION_SHARE)
    count = films + validation
    path.mkdir()
    np.lib.format.open_memmap(path / "films.npy", "w+", np.uint8, (count, SIZE, SIZE)).flush()
    priors = np.lib.format.open_memmap(path / "priors.npy", "w+", np.uint8, (count, 4, 128, 16))
    index = pd.DataFrame({"image_id": [f"{row:08d}_000.png" for row in range(count)]})
    index["patient_id"] = np.concatenate(
        [np.sort(generator.integers(0, films // 9, films)), films + np.arange(validation) // 4]
    )
    index["follow_up"] = generator.integers(0, 12, count)
    index["age"] = generator.integers(5, 95, count).astype(float)
    index["sex"] = generator.choice(["F", "M"], count)
    index["view"] = generator.choice(["PA", "AP"], count)
    index["split"] = np.where(np.arange(count) < films, "test", "val")
    index["localization"] = ""
    chosen = np.sort(generator.choice(films, boxed, replace=False))
    index.loc[chosen, "localization"] = np.where(index["patient_id"].iloc[chosen] % 2 == 0, "val", "test")
    index["width"] = index["height"] = 1024
    labels = generator.random((count, len(FINDINGS))) < 0.05
    rows = np.sort(np.concatenate([chosen, generator.choice(chosen, round(boxed * (BOXES_PER_FILM - 1)))]))
    findings = generator.integers(0, len(BOXED_FINDINGS), len(rows))
    labels[rows, np.array(BOXED_INDICES)[findings]] = True
    corner, extent = generator.uniform(0.05, 0.6, (len(rows), 2)), generator.uniform(0.05, 0.35, (len(rows), 2))
    boxes = pd.DataFrame(np.concatenate([corner, corner + extent], axis=1), columns=["x0", "y0", "x1", "y1"])
    boxes.insert(0, "finding", np.array(BOXED_FINDINGS)[findings])
    boxes.insert(0, "image_id", index["image_id"].to_numpy()[rows])
    boxes.insert(0, "row", rows)
    priors[chosen, :, 32:96, 3:13] = 255
    priors.flush()
    pd.concat([index, pd.DataFrame(labels, columns=list(FINDINGS))], axis=1).to_parquet(path / "index.parquet")
    boxes.to_parquet(path / "boxes.parquet")
    manifest = {
        "format_version": FORMAT_VERSION,
        "size": SIZE,
        "films": count,
        "findings": list(FINDINGS),
        "priors": {"provider": "synthetic"},
        "ids_digest": ids_digest(index["image_id"]),
        "film_digest": "0" * 64,
    }
    (path / "manifest.json").write_text(json.dumps(manifest))
    return open_store(path)


def make_predictions(store: FilmStore, seed: int) -> Predictions:
    """Probabilities that know something of the labels, and smooth random maps."""
    generator = np.random.default_rng(seed + 1)
    rows = np.arange(len(store), dtype=np.int64)
    boxed = np.sort(np.concatenate([store.localization_rows("val"), store.localization_rows("test")]))
    probabilities = np.clip(generator.normal(0.4, 0.2, store.labels.shape) + 0.25 * store.labels, 0.001, 0.999)
    noise = generator.standard_normal((len(boxed), len(BOXED_FINDINGS), GRID, GRID))
    maps = np.maximum(gaussian_filter(noise, (0, 0, 1, 1)), 0).astype(np.float32)
    mean = maps.mean(axis=0)
    return Predictions(
        rows, probabilities.astype(np.float32), boxed, maps, mean, np.full(len(BOXED_FINDINGS), len(boxed))
    )


if __name__ == "__main__":
    main()
