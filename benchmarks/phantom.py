"""Films drawn per second and core, against PNG encoding of the same films: python benchmarks/phantom.py

Goal: at least 300 films/s per core at 128 px, before PNG encoding. The peers are Pillow's PNG encoder (its default
level, and the fastest one, which releases use) and one scipy Gaussian filter (sigma 3) of the same films. One process,
one thread, processor time; rounds alternate, so that a machine that slows down slows all; the best round counts.
"""

import argparse
import io
import time
from collections.abc import Callable

import numpy as np
from PIL import Image
from scipy.ndimage import gaussian_filter

from clarity_cxr.data.phantom import PhantomConfig, draw_films
from record import record


def encode(films: np.ndarray, level: int) -> None:
    """PNG files of all films, in memory."""
    for film in films:
        Image.fromarray(film).save(io.BytesIO(), "png", compress_level=level)


def blur(films: np.ndarray) -> None:
    """One Gaussian filter of every film."""
    for film in films:
        gaussian_filter(film.astype(np.float32), 3.0)


def seconds(work: Callable[[], object]) -> float:
    """Processor time of one call: other programs on the machine do not count."""
    start = time.process_time()
    work()
    return time.process_time() - start


def rates(size: int, films: int, rounds: int, rarity: float) -> list[dict[str, object]]:
    """Best rates over the rounds, in films per second."""
    config = PhantomConfig(films=films * (rounds + 1), size=size, rarity=rarity)
    drawn = draw_films(config, np.arange(8))
    best: dict[str, float] = {}
    for number in range(rounds):
        indices = np.arange(films) + films * number

        def draw(indices: np.ndarray = indices) -> None:
            nonlocal drawn
            drawn = draw_films(config, indices)

        works: dict[str, Callable[[], None]] = {
            "draw": draw,
            "PNG, level 6": lambda: encode(drawn.films, 6),
            "PNG, level 1": lambda: encode(drawn.films, 1),
            "Gaussian filter": lambda: blur(drawn.films),
        }
        for name, work in works.items():
            best[name] = min(best.get(name, np.inf), seconds(work))
    return [
        {"size": size, "work": name, "films_per_s": films / took, "time_over_draw": took / best["draw"]}
        for name, took in best.items()
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sizes", type=int, nargs="+", default=[64, 128, 256, 512])
    parser.add_argument("--films", type=int, default=256, help="films per round at 128 px; fewer at larger sizes")
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--rarity", type=float, default=0.3)
    options = parser.parse_args()
    rows: list[dict[str, object]] = []
    for size in options.sizes:
        films = max(8, min(options.films, options.films * 128**2 // size**2))
        rows += rates(size, films, options.rounds, options.rarity)
    record("phantom", rows, rarity=options.rarity, rounds=options.rounds, goal="draw >= 300 films/s at 128 px")


if __name__ == "__main__":
    main()
