"""Looking at the priors of a whole store: a sheet of random films, and counts of what is empty or implausible."""

from collections import Counter
from pathlib import Path

import numpy as np

from clarity_cxr.anatomy.builtin import load_builtin
from clarity_cxr.anatomy.drawing import draw_outlines, tile
from clarity_cxr.anatomy.film_check import check_film, check_films, implausibilities
from clarity_cxr.anatomy.regions import REGIONS
from clarity_cxr.anatomy.segmenters import Segmenter
from clarity_cxr.data.store import FilmStore
from clarity_cxr.files import atomic_path
from clarity_cxr.progress import progress_bar

_COLUMNS = 8
_BATCH = 64


def draw_sheet(store: FilmStore, segmenter: Segmenter, path: Path, count: int = 48, seed: int = 0) -> None:
    """Draw `count` random films of a store with the outlines of their regions, and write the sheet as PNG."""
    rows = np.sort(np.random.default_rng(seed).permutation(len(store))[:count])
    pictures = []
    with progress_bar("Drawing films", len(rows)) as advance:
        for row in rows:
            film = np.array(store.films[row])
            masks = np.stack([segmenter(film)[region] for region in REGIONS])
            check = check_film(film)
            stem = store.index["image_id"].iloc[row].rsplit(".", 1)[0]
            caption = f"{stem}  {check.score:.2f}\n{', '.join(check.reasons)}"
            pictures.append(draw_outlines(film, masks, caption))
            advance(1)
    with atomic_path(path) as temporary:
        tile(pictures, _COLUMNS).save(temporary, format="PNG")


def judge_store(store: FilmStore) -> str:
    """In words, how many films of a store have empty or implausible built-in masks, or fail the film check."""
    segmenter = load_builtin()
    no_lungs = no_heart = implausible = 0
    reasons: Counter[str] = Counter()
    with progress_bar("Judging films", len(store)) as advance:
        for first in range(0, len(store), _BATCH):
            films = np.array(store.films[first : first + _BATCH])
            regions = segmenter.regions(films)
            filled = np.asarray(regions.any(axis=(2, 3)))
            no_lungs += int((~(filled[:, 0] | filled[:, 1])).sum())
            no_heart += int((~filled[:, 2]).sum())
            implausible += sum(bool(implausibilities(masks[:3])) for masks in regions)
            for check in check_films(films, segmenter):
                reasons.update(check.reasons[:1])
            advance(len(films))
    lines = [
        f"of {len(store):,} films: {no_lungs} without lungs, {no_heart} without a heart, "
        f"{implausible} ({implausible / len(store):.1%}) with implausible masks;",
        f"{reasons.total()} ({reasons.total() / len(store):.1%}) do not pass the film check:",
        *(f"  {number:5d}  {reason}" for reason, number in reasons.most_common()),
    ]
    return "\n".join(lines)
