"""`clarity anatomy-sheet`: outlines of random films of a store, and how many of its priors are plausible."""

from pathlib import Path
from typing import Literal


def anatomy_sheet(
    store: Path,
    /,
    *,
    out: Path,
    count: int = 48,
    seed: int = 0,
    provider: Literal["builtin", "torchxrayvision"] = "builtin",
    weights: Path | None = None,
) -> None:
    """Draw random films of a store with the outlines of their regions, and judge all of its films.

    Red: left lung; blue: right lung; yellow: heart; purple: mediastinum; green: facies diaphragmatica. The captions
    give the film check's score and what it objects to.

    Args:
        store: prepared store.
        out: PNG to write.
        count: number of films drawn.
        seed: another seed draws other films.
        provider: segmenter that draws the outlines.
        weights: weights file to use instead of the segmenter's own.
    """
    from clarity_cxr.anatomy.segmenters import load_segmenter
    from clarity_cxr.anatomy.sheet import draw_sheet, judge_store
    from clarity_cxr.data.store import open_store

    films = open_store(store)
    draw_sheet(films, load_segmenter(provider, weights), out, count, seed)
    print(out)
    print(judge_store(films))
