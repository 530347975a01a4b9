"""What a model says about a store's films: every probability, and the maps of the films that have boxes."""

from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
import torch
from numpy.typing import NDArray

from clarity_cxr.data.store import FilmStore
from clarity_cxr.errors import ClarityError
from clarity_cxr.files import atomic_path
from clarity_cxr.findings import BOXED_INDICES, FINDINGS
from clarity_cxr.localization.heatmaps import masked_attention
from clarity_cxr.models import Clarity
from clarity_cxr.processes import own_share, process_rank, sum_over_processes
from clarity_cxr.progress import progress_bar


@dataclass(frozen=True)
class Predictions:
    """Predictions of one model on n films of a store, in ascending order of their row.

    Maps are kept on the patch grid (A * S_f, N x N) and only where boxes are scored; they are brought to the film's
    size when needed. All findings' maps below means the eight that have boxes, in the order of `BOXED_FINDINGS`.

    Attributes:
        rows: (n,) positions in the store.
        probabilities: (n,14) float32.
        map_rows: (m,) rows whose maps were kept, ascending.
        maps: (m,8,N,N) float32, masked attention.
        mean_maps: (8,N,N) float32, mean over the films of `mean_counts` of each film's map scaled to [0,1].
        mean_counts: (8,) films behind each mean map.
    """

    rows: NDArray[np.int64]
    probabilities: NDArray[np.float32]
    map_rows: NDArray[np.int64]
    maps: NDArray[np.float32]
    mean_maps: NDArray[np.float32]
    mean_counts: NDArray[np.int64]

    def probabilities_of(self, rows: NDArray[np.int64]) -> NDArray[np.float32]:
        """(len(rows),14) probabilities of some of the predicted rows."""
        return self.probabilities[np.searchsorted(self.rows, rows)]

    def maps_of(self, rows: NDArray[np.int64], finding: int) -> NDArray[np.float32]:
        """(len(rows),N,N) masked attention of one finding (its index in `FINDINGS`) for rows whose maps were kept."""
        return self.maps[np.searchsorted(self.map_rows, rows), BOXED_INDICES.index(finding)]


def save_predictions(path: Path, predictions: Predictions, store: FilmStore) -> None:
    """Write predictions with the films' ids, patients, splits and labels beside them, whole or not at all.

    Raises:
        ClarityError: the file cannot be written.
    """
    films = store.index.iloc[predictions.rows]
    with atomic_path(path) as temporary:
        np.savez(
            temporary,
            image_id=films["image_id"].to_numpy(dtype=np.str_),
            patient_id=store.patients[predictions.rows],
            split=films["split"].to_numpy(dtype=np.str_),
            labels=store.labels[predictions.rows],
            labelled=store.labelled[predictions.rows],
            **asdict(predictions),
        )


def load_predictions(path: Path, store: FilmStore) -> Predictions:
    """Read what `save_predictions` wrote.

    Raises:
        ClarityError: the file is missing, damaged, of another store, or without the films that are evaluated.
    """
    try:
        with np.load(path, allow_pickle=False) as arrays:
            image_ids = arrays["image_id"]
            predictions = Predictions(**{name: arrays[name] for name in Predictions.__dataclass_fields__})
    except (OSError, ValueError, KeyError, BadZipFile) as error:
        raise ClarityError(
            f"{path}: cannot be read ({error}); expected evaluation_predictions.npz written by `clarity evaluate`"
        ) from error
    rows = predictions.rows
    if rows.max(initial=-1) >= len(store) or (store.index["image_id"].to_numpy()[rows] != image_ids).any():
        raise ClarityError(f"{path}: predictions of other films than those of {store.path}; give the store they are of")
    parts = [store.rows("val"), store.rows("test")]
    if not np.isin(np.concatenate(parts), rows).all():
        raise ClarityError(f"{path}: lacks films of {store.path}; expected all of the splits 'val' and 'test'")
    boxed = np.concatenate([store.localization_rows("val"), store.localization_rows("test")])
    if not np.isin(boxed, predictions.map_rows).all():
        raise ClarityError(f"{path}: lacks maps of boxed films of {store.path}; expected those of both halves")
    return predictions


def predict_store(
    model: Clarity,
    store: FilmStore,
    rows: NDArray[np.int64],
    *,
    map_rows: NDArray[np.int64],
    mean_rows: NDArray[np.int64],
    device: torch.device | str = "cpu",
    batch_size: int = 64,
    bfloat16: bool = False,
    progress: bool = True,
) -> Predictions:
    """Run the model over films of a store, one batch in memory at a time, shared among processes if there are several.

    Args:
        model: a model in any mode; it is run in eval mode and left in the mode it came in.
        store: prepared films of the model's size.
        rows: films to predict; those of `map_rows` and `mean_rows` are added.
        map_rows: films whose maps are kept.
        mean_rows: films whose maps enter the mean map of each boxed finding that they are labelled with.
        device: where to run; the model is moved there.
        batch_size: films per forward pass.
        bfloat16: run the forward pass under bfloat16 autocast.
        progress: show a progress bar.

    Returns:
        The predictions of all processes, on the CPU and in each of them.
    """
    rows, map_rows, mean_rows = np.unique(np.concatenate([rows, map_rows, mean_rows])), np.unique(map_rows), mean_rows
    with_maps = np.isin(rows, np.concatenate([map_rows, mean_rows]))
    in_mean = np.isin(rows, mean_rows)[:, None] & store.labels[rows][:, list(BOXED_INDICES)]
    keep = np.isin(rows, map_rows)
    grid = model.config.grid
    probabilities = np.zeros((len(rows), len(FINDINGS)), dtype=np.float32)
    maps = np.zeros((len(map_rows), len(BOXED_INDICES), grid, grid), dtype=np.float32)
    sums = np.zeros((len(BOXED_INDICES), grid, grid))
    batches = _forward_batches(model, store, rows, with_maps, torch.device(device), batch_size, bfloat16)
    shown = progress and process_rank() == 0
    with progress_bar("Predicting", len(own_share(len(rows)))) if shown else nullcontext(lambda count: None) as advance:
        for at, batch_probabilities, batch_maps in batches:
            probabilities[at] = batch_probabilities
            if batch_maps is not None:
                maps[np.searchsorted(map_rows, rows[at[keep[at]]])] = batch_maps[keep[at]]
                sums += np.einsum("bc,bchw->chw", in_mean[at], _scale_on_grid(batch_maps), dtype=np.float64)
            advance(len(at))
    probabilities, maps, sums = (sum_over_processes(array, device) for array in (probabilities, maps, sums))
    counts = in_mean.sum(axis=0)
    mean_maps = (sums / np.maximum(counts, 1)[:, None, None]).astype(np.float32)
    return Predictions(rows, probabilities, map_rows, maps, mean_maps, counts)


def _forward_batches(
    model: Clarity,
    store: FilmStore,
    rows: NDArray[np.int64],
    with_maps: NDArray[np.bool_],
    device: torch.device,
    batch_size: int,
    bfloat16: bool,
) -> Iterator[tuple[NDArray[np.int64], NDArray[np.float32], NDArray[np.float32] | None]]:
    """Yield positions in `rows`, (B,14) probabilities, and (B,8,N,N) masked attention where it is needed."""
    was_training = model.training
    model.to(device).eval()
    boxed = list(BOXED_INDICES)
    try:
        for wanted in (False, True):
            group = np.flatnonzero(with_maps == wanted)
            group = group[own_share(len(group))]
            for start in range(0, len(group), batch_size):
                at = group[start : start + batch_size]
                films = torch.from_numpy(store.films[rows[at]]).to(device)
                with torch.no_grad(), torch.autocast(device.type, torch.bfloat16, enabled=bfloat16):
                    output = model(model.preprocess(films), return_attention=wanted)
                maps = None
                if wanted:
                    heatmap = None if output.heatmap is None else output.heatmap[:, boxed].float()
                    attention = output.attention[:, boxed]
                    maps = masked_attention(attention, heatmap, model.config.mask_threshold).cpu().numpy()
                yield at, output.probabilities.float().cpu().numpy(), maps
    finally:
        model.train(was_training)


def _scale_on_grid(maps: NDArray[np.float32]) -> NDArray[np.float32]:
    """Min-max scale each map of (B,8,N,N); a constant map becomes zero."""
    low = maps.min(axis=(-2, -1), keepdims=True)
    span = maps.max(axis=(-2, -1), keepdims=True) - low
    return np.divide(maps - low, span, out=np.zeros_like(maps), where=span > 0)
