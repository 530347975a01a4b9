"""Time of the threshold search on as many boxed maps as NIH ChestX-ray14's localisation-validation half holds.

    python benchmarks/threshold_search.py [--pairs 492] [--seed 0] [--labelled 5]

One row per film size and kind of map: bringing the maps to film size, measuring every box at 99 thresholds for any and
for the top component and choosing the thresholds; then the same components by `scipy.ndimage.label`, one threshold at a
time, timed on a few maps and scaled up. `smooth` maps are as smooth as the random control; `noise` maps are the fourth
power of noise on the patch grid, with more components than any model's maps: an upper bound.
"""

import argparse
import time

import numpy as np
import torch
from scipy import ndimage

from clarity_cxr.evaluation.protocols import TruthBoxes, search_protocols
from clarity_cxr.findings import BOXED_FINDINGS
from clarity_cxr.localization.heatmaps import scale_maps
from clarity_cxr.localization.thresholds import CANDIDATE_THRESHOLDS
from record import record


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=492, help="boxed (film, finding) pairs, one box each")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--labelled", type=int, default=5, help="maps labelled by scipy")
    options = parser.parse_args()
    rows = [
        measure(kind, size, grid, options.pairs, options.labelled, options.seed)
        for size, grid in ((224, 14), (512, 32))
        for kind in ("smooth", "noise")
    ]
    record("threshold_search", rows, **vars(options), thresholds=len(CANDIDATE_THRESHOLDS))


def measure(kind: str, size: int, grid: int, pairs: int, labelled: int, seed: int) -> dict[str, float | str]:
    """Time one search at one film size."""
    generator = np.random.default_rng(seed)
    maps = generator.random((pairs, grid, grid)).astype(np.float32) ** 4
    if kind == "smooth":
        maps = ndimage.gaussian_filter(generator.standard_normal(maps.shape), (0, grid / 14, grid / 14))
    seconds = {"upsampling": 0.0}

    def source(finding: str, rows: np.ndarray) -> np.ndarray:
        start = time.perf_counter()
        full = scale_maps(torch.from_numpy(maps[rows]), size).numpy()
        seconds["upsampling"] += time.perf_counter() - start
        return full

    start = time.perf_counter()
    search_protocols(source, random_truth(pairs, size, generator), size)
    total = time.perf_counter() - start

    few = source("", np.arange(labelled))
    start = time.perf_counter()
    for heatmap in few:
        for threshold in CANDIDATE_THRESHOLDS:
            labels, _ = ndimage.label(heatmap > threshold, structure=np.ones((3, 3)))
            ndimage.find_objects(labels)
    label_one_by_one = (time.perf_counter() - start) * pairs / labelled
    return {
        "size": size,
        "maps": kind,
        "search_s": total,
        "of_which_upsampling_s": seconds["upsampling"],
        "ms_per_map": 1000 * total / pairs,
        "scipy_one_by_one_s": label_one_by_one,
        "ratio": label_one_by_one / total,
    }


def random_truth(pairs: int, size: int, generator: np.random.Generator) -> dict[str, TruthBoxes]:
    """One box per map, the maps dealt out to the eight findings; every film is predicted positive."""
    truth = {}
    for finding, rows in zip(BOXED_FINDINGS, np.array_split(np.arange(pairs), len(BOXED_FINDINGS)), strict=True):
        corner = generator.uniform(0, size / 2, (len(rows), 2))
        boxes = np.concatenate([corner, corner + generator.uniform(size / 16, size / 2, corner.shape)], axis=1)
        truth[finding] = TruthBoxes(rows, boxes, rows, np.ones(len(rows), dtype=bool))
    return truth


if __name__ == "__main__":
    main()
