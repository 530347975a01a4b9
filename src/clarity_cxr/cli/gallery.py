"""`clarity gallery`."""

from pathlib import Path


def gallery(*, checkpoint: Path, store: Path, out: Path, films: int = 4, seed: int = 0, device: str = "cpu") -> None:
    """Draw a store's films beside their masks, attention maps, heatmaps and boxes: one PNG per boxed finding.

    Films are drawn at random from the localisation-test films, those that the model decides positive first. A store
    without boxes gives one page of random test films, each with its most probable finding.

    Args:
        checkpoint: weights to use, a .safetensors file written by `clarity train`.
        store: prepared store to take films from.
        out: folder for the pages.
        films: films per finding.
        seed: of the draw.
        device: where the model runs: cpu, cuda, cuda:1, mps.
    """
    from itertools import groupby

    from clarity_cxr.data.store import open_store
    from clarity_cxr.errors import ClarityError
    from clarity_cxr.evaluation.gallery import gallery_page, gallery_rows
    from clarity_cxr.files import atomic_path
    from clarity_cxr.inference.predictor import load

    if films < 1:
        raise ClarityError(f"--films {films}: expected 1 or more")
    opened = open_store(store)
    predictor = load(checkpoint, device)
    rows = gallery_rows(opened, predictor, films, seed)
    pages = groupby(rows, key=lambda row: "random films" if opened.boxes.empty else row.finding)
    for name, of_page in pages:
        page = gallery_page(list(of_page), name.replace("_", " ").capitalize())
        path = out / f"{name.lower().replace(' ', '_')}.png"
        with atomic_path(path) as temporary:
            page.save(temporary, format="PNG")
        print(path)
