"""Do maps explain? Pointing game, deletion and insertion, randomised weights, small shifts, and a painted marker."""

from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter
from scipy.stats import rankdata
from torch.nn import functional

from clarity_cxr.evaluation.protocols import MapSource, TruthBoxes
from clarity_cxr.localization.heatmaps import masked_attention, scale_maps
from clarity_cxr.models import Clarity

FRACTIONS: NDArray[np.float64] = np.linspace(0, 1, 11)
"""Shares of the patches that are deleted or inserted."""

MARKER = (0.875, 0.035, 0.1)
"""Top, left and side of the phantoms' spurious marker, as fractions of the film: its mean place."""
MARKER_GREY = 250
_BATCH = 64

Predict = Callable[[NDArray[np.uint8]], NDArray[np.float32]]
"""(k,S,S) films -> (k,14) probabilities."""


class Pointing:
    """A source of maps that notes, as its maps go by, whether their peaks lie inside a true box.

    Args:
        source: of maps.
        truth: finding -> its boxes.
    """

    def __init__(self, source: MapSource, truth: Mapping[str, TruthBoxes]) -> None:
        self.source = source
        self.boxes = {
            finding: {int(row): boxes.boxes[boxes.rows == row] for row in np.unique(boxes.rows)}
            for finding, boxes in truth.items()
        }
        self.hits: dict[str, dict[int, float]] = {finding: {} for finding in truth}

    def __call__(self, finding: str, rows: NDArray[np.int64]) -> NDArray[np.float32]:
        maps = self.source(finding, rows)
        for row, heat in zip(rows.tolist(), maps, strict=True):
            self.hits[finding][row] = pointing_hit(heat, self.boxes[finding][row])
        return maps


def pointing_hit(heat: NDArray[np.floating], boxes: NDArray[np.floating]) -> float:
    """Whether a map's peak lies inside a true box (Zhang et al., 2018); the share of the peaks where several tie.

    Args:
        heat: (S,S); a map that is zero everywhere has no peak and misses.
        boxes: (k,4) in its pixels.
    """
    if heat.max() <= 0:
        return 0.0
    ys, xs = np.nonzero(heat == heat.max())
    inside = np.zeros(len(ys), dtype=bool)
    for x0, y0, x1, y1 in boxes:
        inside |= (ys + 0.5 >= y0) & (ys + 0.5 < y1) & (xs + 0.5 >= x0) & (xs + 0.5 < x1)
    return float(inside.mean())


def deletion_insertion(
    predict: Predict, films: NDArray[np.uint8], maps: NDArray[np.floating], finding: int, grid: int
) -> dict[str, NDArray[np.float64]]:
    """Probability while the hottest patches are blurred away, or put back into a blurred film (Petsiuk et al., 2018).

    Args:
        predict: films -> probabilities.
        films: (k,S,S).
        maps: (k,S,S) heat.
        finding: its index.
        grid: patches on a side.

    Returns:
        `deletion` and `insertion`, (k,11) probabilities at `FRACTIONS`.
    """
    size = films.shape[-1]
    blurred = np.stack([gaussian_filter(film, size / 8, mode="nearest") for film in films])
    heat = functional.adaptive_avg_pool2d(torch.from_numpy(maps.astype(np.float32)), grid).flatten(1).numpy()
    place = (rankdata(-heat, axis=1, method="ordinal") - 1) / heat.shape[1]
    curves = {"deletion": [], "insertion": []}
    for fraction in FRACTIONS:
        hot = (place < fraction).reshape(-1, grid, grid).repeat(size // grid, 1).repeat(size // grid, 2)
        curves["deletion"].append(predict(np.where(hot, blurred, films))[:, finding])
        curves["insertion"].append(predict(np.where(hot, films, blurred))[:, finding])
    return {name: np.stack(values, axis=1).astype(np.float64) for name, values in curves.items()}


def area_under(curves: NDArray[np.float64]) -> NDArray[np.float64]:
    """(k,) mean height of (k,11) curves over `FRACTIONS` (trapezoids)."""
    return np.asarray(np.trapezoid(curves, FRACTIONS, axis=1))


def randomised_models(model: Clarity, seed: int) -> dict[str, Clarity]:
    """Copies with fresh weights from the output downwards (Adebayo et al., 2018)."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        fresh = Clarity(model.config).to(next(model.parameters()).device).eval()
    heads = deepcopy(model)
    heads.pooling.load_state_dict(fresh.pooling.state_dict())
    if heads.segment_cam is not None and fresh.segment_cam is not None:
        heads.segment_cam.load_state_dict(fresh.segment_cam.state_dict())
    later = deepcopy(heads)
    for block, new in list(zip(later.backbone.blocks, fresh.backbone.blocks, strict=True))[model.config.depth // 2 :]:
        block.load_state_dict(new.state_dict())
    return {
        "pooling and SegmentCAM": heads.eval(),
        "these and the later half of the blocks": later.eval(),
        "everything": fresh,
    }


@torch.no_grad()
def grid_maps(model: Clarity, films: NDArray[np.uint8], findings: Sequence[int]) -> NDArray[np.float32]:
    """(k,N,N) attention inside the mask of film i and its finding i, on the patch grid."""
    device = next(model.parameters()).device
    parts = []
    for at in range(0, len(films), _BATCH):
        some = torch.from_numpy(films[at : at + _BATCH]).to(device)
        output = model(model.preprocess(some), return_attention=True)
        maps = masked_attention(output.attention, output.heatmap, model.config.mask_threshold)
        parts.append(maps[torch.arange(len(some)), list(findings[at : at + _BATCH])].cpu().numpy())
    return np.concatenate(parts)


def rank_correlation(first: NDArray[np.floating], second: NDArray[np.floating]) -> NDArray[np.float64]:
    """(k,) Spearman correlation of maps (k,N,N), pair by pair; 0 where a map is constant."""
    ranks = [rankdata(maps.reshape(len(maps), -1), axis=1) for maps in (first, second)]
    centred = [of - of.mean(axis=1, keepdims=True) for of in ranks]
    spread = np.sqrt((centred[0] ** 2).sum(axis=1) * (centred[1] ** 2).sum(axis=1))
    return np.divide((centred[0] * centred[1]).sum(axis=1), spread, out=np.zeros(len(first)), where=spread > 0)


def shift_stability(
    model: Clarity, predict: Predict, films: NDArray[np.uint8], findings: Sequence[int]
) -> dict[str, float]:
    """How much map and probability follow a shift of the film by a 32nd of its side, in four directions.

    Returns:
        `shift` in pixels; `correlation`, mean Pearson correlation of the map and the shifted film's map shifted back,
        over the film without its border; `probability_change`, mean absolute change.
    """
    size = films.shape[-1]
    shift = max(1, size // 32)
    inner = slice(2 * shift, size - 2 * shift)
    own = scale_maps(torch.from_numpy(grid_maps(model, films, findings)), size).numpy()
    at = np.arange(len(films))
    before = predict(films)[at, list(findings)]
    correlations, changes = [], []
    for down, right in ((shift, 0), (-shift, 0), (0, shift), (0, -shift)):
        padded = np.pad(films, ((0, 0), (shift, shift), (shift, shift)), mode="edge")
        moved = np.ascontiguousarray(
            padded[:, shift - down : shift - down + size, shift - right : shift - right + size]
        )
        maps = scale_maps(torch.from_numpy(grid_maps(model, moved, findings)), size).numpy()
        back = np.roll(maps, (-down, -right), axis=(1, 2))
        correlations.append(_pearson(own[:, inner, inner], back[:, inner, inner]))
        changes.append(np.abs(predict(moved)[at, list(findings)] - before))
    return {
        "shift": shift,
        "correlation": float(np.mean(correlations)),
        "probability_change": float(np.mean(changes)),
    }


def _pearson(first: NDArray[np.floating], second: NDArray[np.floating]) -> NDArray[np.float64]:
    flat = [maps.reshape(len(maps), -1).astype(np.float64) for maps in (first, second)]
    centred = [of - of.mean(axis=1, keepdims=True) for of in flat]
    spread = np.sqrt((centred[0] ** 2).sum(axis=1) * (centred[1] ** 2).sum(axis=1))
    return np.divide((centred[0] * centred[1]).sum(axis=1), spread, out=np.zeros(len(first)), where=spread > 0)


def paint_marker(films: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The phantoms' spurious marker, a bright square in the lower left corner, on every film (k,S,S)."""
    painted = films.copy()
    painted[(slice(None), *_marker_place(films.shape[-1]))] = MARKER_GREY
    return painted


def marker_effect(
    model: Clarity, predict: Predict, films: NDArray[np.uint8], labels: NDArray[np.bool_], names: Sequence[str]
) -> dict[str, dict[str, Any]]:
    """What painting the marker does to each finding, on films that are not labelled with it.

    A model that never saw the marker should not care. One that learned it as a sign of a finding raises that
    finding's probability, and its map moves to the marker.

    Returns:
        finding -> `films`, `probability_before`, `probability_after`, and `heat_before`, `heat_after`: share of the
        map's heat on the marker's patches (its own and those beside it).
    """
    painted = paint_marker(films)
    before, after = predict(films), predict(painted)
    effects = {}
    for index, name in enumerate(names):
        free = ~labels[:, index]
        if not free.any():
            effects[name] = dict.fromkeys(("probability_before", "probability_after", "heat_before", "heat_after")) | {
                "films": 0
            }
            continue
        shares = [_heat_at_marker(model, of[free], index) for of in (films, painted)]
        effects[name] = {
            "films": int(free.sum()),
            "probability_before": float(before[free, index].mean()),
            "probability_after": float(after[free, index].mean()),
            "heat_before": shares[0],
            "heat_after": shares[1],
        }
    return effects


def _heat_at_marker(model: Clarity, films: NDArray[np.uint8], finding: int) -> float:
    maps = grid_maps(model, films, [finding] * len(films)).astype(np.float64)
    grid = maps.shape[-1]
    rows, columns = (slice(max(0, of.start - 1), of.stop + 1) for of in _marker_place(grid))
    total = maps.sum(axis=(1, 2))
    return float(
        np.divide(maps[:, rows, columns].sum(axis=(1, 2)), total, out=np.zeros(len(maps)), where=total > 0).mean()
    )


def _marker_place(size: int) -> tuple[slice, slice]:
    """Rows and columns of the marker on a grid of `size`, at least one each."""
    top, left, side = MARKER
    return tuple(slice(int(at * size), max(int(at * size) + 1, round((at + side) * size))) for at in (top, left))  # pyright: ignore
