"""How often the film check objects to films as they are, turned, inverted, cut, and to pictures that are no films.

python benchmarks/film_check.py STORE

Goal: at least 90 % of films rotated by 90 or 180 degrees or inverted are flagged, at most 5 % of films as they are. The
test split is given apart, for films of the other splits may have taught the check. Photographs are those that
scikit-image and matplotlib bring along, if they are installed.
"""

import argparse
import importlib.util
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from PIL import Image

from clarity_cxr.anatomy.film_check import FilmCheck, check_films
from clarity_cxr.data.images import read_film, resize_film
from clarity_cxr.data.store import FilmStore, open_store
from clarity_cxr.errors import FilmError
from record import record

BATCH = 64

CHANGES: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "as they are": lambda films: films,
    "rotated by 90 degrees": lambda films: np.rot90(films, 1, axes=(1, 2)),
    "rotated by 180 degrees": lambda films: np.rot90(films, 2, axes=(1, 2)),
    "rotated by 270 degrees": lambda films: np.rot90(films, 3, axes=(1, 2)),
    "inverted": lambda films: 255 - films,
    "upside down (mirrored)": lambda films: films[:, ::-1],
    "upper 45 % cut off": lambda films: cut(films, slice(45, 100), slice(0, 100)),
    "lower 55 % cut off": lambda films: cut(films, slice(0, 45), slice(0, 100)),
    "right half only": lambda films: cut(films, slice(0, 100), slice(50, 100)),
}


def cut(films: np.ndarray, rows: slice, columns: slice) -> np.ndarray:
    """A part of each film, in per cent of its sides, at the film's own aspect: the rest stays black."""
    size = films.shape[1]
    y, x = (slice(size * part.start // 100, size * part.stop // 100) for part in (rows, columns))
    part = films[:, y, x]
    canvas = np.zeros_like(films)
    canvas[:, : part.shape[1], : part.shape[2]] = part
    longest = max(part.shape[1:])
    return np.stack([resize_film(film[:longest, :longest], size) for film in canvas])


def checks(store: FilmStore, rows: np.ndarray, change: Callable[[np.ndarray], np.ndarray]) -> Iterator[FilmCheck]:
    for first in range(0, len(rows), BATCH):
        films = np.ascontiguousarray(change(np.array(store.films[rows[first : first + BATCH]])))
        yield from check_films(films)


def foreign_pictures(size: int) -> Iterator[tuple[str, np.ndarray]]:
    """Kind and pixels of pictures that are no films."""
    rng = np.random.default_rng(0)
    for _ in range(100):
        yield "white noise", rng.integers(0, 256, (size, size), dtype=np.uint8)
        cells = int(rng.integers(2, 24))
        coarse = Image.fromarray(rng.integers(0, 256, (cells, cells), dtype=np.uint8))
        yield "smooth noise", np.asarray(coarse.resize((size, size), Image.Resampling.BICUBIC))
        turn = rng.uniform(0, 2 * np.pi)
        y, x = np.mgrid[-1 : 1 : size * 1j, -1 : 1 : size * 1j]
        ramp = np.cos(turn) * x + np.sin(turn) * y
        ramp = (ramp - ramp.min()) / np.ptp(ramp)
        yield "linear gradient", (255 * ramp ** rng.uniform(0.5, 2)).astype(np.uint8)
        blob = (x - rng.uniform(-0.5, 0.5)) ** 2 + (y - rng.uniform(-0.5, 0.5)) ** 2
        blob = blob / blob.max()
        yield "radial gradient", (255 * (blob if rng.random() < 0.5 else 1 - blob)).astype(np.uint8)
    for path in photographs():
        try:
            yield "photograph or drawing", resize_film(read_film(path), size)
        except FilmError:
            continue


def photographs() -> list[Path]:
    folders = []
    for package, folder in (("skimage", "data"), ("matplotlib", "mpl-data/sample_data")):
        found = importlib.util.find_spec(package)
        if found is not None and found.origin is not None:
            folders.append(Path(found.origin).parent / folder)
    return sorted(path for folder in folders for path in folder.iterdir() if path.suffix in (".png", ".jpg"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("store", type=Path)
    options = parser.parse_args()
    store = open_store(options.store)
    test = set(store.rows("test").tolist())
    table = []
    for name, change in CHANGES.items():
        rows = np.arange(len(store))
        results = list(checks(store, rows, change))
        flagged = np.array([not check.passed for check in results])
        in_test = np.array([row in test for row in rows])
        common = Counter(check.reasons[0] for check in results if check.reasons).most_common(1)
        table.append(
            {
                "pictures": name,
                "films": len(rows),
                "flagged": float(flagged.mean()),
                "test_films": int(in_test.sum()),
                "flagged_test": float(flagged[in_test].mean()),
                "commonest_reason": common[0][0] if common else "",
            }
        )
    kinds: dict[str, list[bool]] = {}
    for kind, picture in foreign_pictures(store.size):
        check = check_films(picture[None])[0]
        kinds.setdefault(kind, []).append(not check.passed)
    table += [{"pictures": kind, "films": len(hits), "flagged": float(np.mean(hits))} for kind, hits in kinds.items()]
    record("film_check", table, store=str(options.store))


if __name__ == "__main__":
    main()
