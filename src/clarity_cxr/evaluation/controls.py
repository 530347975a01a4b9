"""Maps that know nothing of the film's findings, scored exactly as the model's: what localisation is worth.

Each control goes through the same threshold search and is conditioned by the model's own probabilities, so that only
the maps differ.
"""

import hashlib

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter
from torch.nn import functional

from clarity_cxr.data.priors import unpack_priors
from clarity_cxr.data.store import FilmStore
from clarity_cxr.evaluation.predictions import Predictions
from clarity_cxr.evaluation.protocols import MapSource
from clarity_cxr.findings import BOXED_FINDINGS, FINDINGS, PRIOR_OF_FINDING
from clarity_cxr.localization.heatmaps import scale_maps

CONTROLS: dict[str, str] = {
    "random": "a smooth random map, drawn from the seed, the image id and the finding",
    "prior": "the finding's anatomical prior in that film",
    "mean": "the finding's mean heatmap over the validation and localisation-validation films labelled with it",
}


def model_maps(predictions: Predictions, size: int) -> MapSource:
    """The model's own Xi at `size` pixels."""

    def maps(finding: str, rows: NDArray[np.int64]) -> NDArray[np.float32]:
        return _full_size(predictions.maps_of(rows, FINDINGS.index(finding)), size)

    return maps


def random_maps(store: FilmStore, grid: int, seed: int) -> MapSource:
    """Gaussian noise on the N x N grid, smoothed over about a 14th of the film, then treated as the model's maps."""
    image_ids = store.index["image_id"].to_numpy()

    def field(finding: str, row: int) -> NDArray[np.float64]:
        digest = hashlib.blake2b(f"{seed}/{image_ids[row]}/{finding}".encode(), digest_size=16).digest()
        noise = np.random.Generator(np.random.Philox(key=int.from_bytes(digest, "little"))).standard_normal(
            (grid, grid)
        )
        return gaussian_filter(noise, sigma=grid / 14, mode="nearest")

    def maps(finding: str, rows: NDArray[np.int64]) -> NDArray[np.float32]:
        return _full_size(np.stack([field(finding, int(row)) for row in rows]), store.size)

    return maps


def prior_maps(store: FilmStore) -> MapSource:
    """The finding's prior (Table 1) in each film, 1 inside and 0 outside; empty where the film has none."""
    priors = store.priors
    if priors is None:
        raise ValueError(f"{store.path}: the store has no priors")

    def maps(finding: str, rows: NDArray[np.int64]) -> NDArray[np.float32]:
        packed = torch.from_numpy(priors[rows])
        masks = unpack_priors(packed)[:, PRIOR_OF_FINDING[FINDINGS.index(finding)]].float()
        full = functional.interpolate(masks[:, None], (store.size, store.size), mode="bilinear", align_corners=False)
        return (full[:, 0] > 0.5).float().numpy()

    return maps


def mean_maps(predictions: Predictions, size: int) -> MapSource:
    """The same map for every film: the finding's mean heatmap (each film's map scaled to [0,1] on the grid first)."""

    def maps(finding: str, rows: NDArray[np.int64]) -> NDArray[np.float32]:
        mean = _full_size(predictions.mean_maps[[BOXED_FINDINGS.index(finding)]], size)
        return np.repeat(mean, len(rows), axis=0)

    return maps


def _full_size(maps: NDArray[np.floating], size: int) -> NDArray[np.float32]:
    return scale_maps(torch.from_numpy(np.ascontiguousarray(maps)), size).numpy()
