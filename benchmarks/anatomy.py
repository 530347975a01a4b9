"""Priors of a store by each provider, end to end: python benchmarks/anatomy.py

Goal: at least 20 films/s with the built-in segmenter on two cores, memory flat. The store's films are noise-textured
drawings; the pass reads, segments, cleans, packs, writes and flushes as `clarity anatomy STORE` does. PSPNet runs with
random weights over a few films, which cost what trained ones cost; its masks are also compared, film by film, with a
direct call of the library. The film check is timed on films in memory. Processor seconds are given too, for they mean
something on a busy machine as well.
"""

import argparse
import os
import resource
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from clarity_cxr.anatomy.builtin import load_builtin
from clarity_cxr.anatomy.film_check import check_films
from clarity_cxr.anatomy.pspnet import TARGETS, WEIGHTS_NAME, PSPNetSegmenter
from clarity_cxr.anatomy.store_priors import write_store_priors
from clarity_cxr.data.phantom import PhantomConfig, write_release
from clarity_cxr.data.prepare import prepare
from record import record


def timed(function: Callable[..., object], *arguments: object) -> tuple[float, float]:
    """Wall-clock and processor seconds of one call."""
    start, before = time.perf_counter(), time.process_time()
    function(*arguments)
    return time.perf_counter() - start, time.process_time() - before


def resident() -> float:
    """Resident memory of this process in MiB."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() / 2**20


def random_pspnet(folder: Path) -> PSPNetSegmenter:
    """The library's own class with random weights, read as it reads its own."""
    from torchxrayvision.baseline_models import chestx_det

    torch.manual_seed(0)
    state = chestx_det.pspnet(14).state_dict()
    torch.save({f"module.{name}": value for name, value in state.items()}, folder / WEIGHTS_NAME)
    return PSPNetSegmenter(chestx_det.PSPNet(cache_dir=str(folder)))


def differing_share(segmenter: PSPNetSegmenter, films: np.ndarray) -> float:
    """Share of 128 x 128 mask pixels that differ from a direct call of the library, one film at a time."""
    import torchxrayvision as xrv

    differing = []
    for film, regions in zip(films, segmenter.regions(films), strict=True):
        scaled = torch.from_numpy(xrv.datasets.normalize(film.astype(np.float32), 255))[None, None]
        with torch.no_grad():
            masks = (torch.sigmoid(segmenter.network(scaled)[0]) > 0.5).numpy()[list(TARGETS.values())]
        share = masks.reshape(len(TARGETS), 128, 4, 128, 4).mean(axis=(2, 4))
        differing.append(((share >= 0.5) != regions).mean())
    return float(np.mean(differing))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--films", type=int, default=600)
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--pspnet-films", type=int, default=4)
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    rows = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for count in (options.films // 4, options.films):
            release, out = folder / f"release{count}", folder / f"store{count}"
            write_release(release, PhantomConfig(films=count, size=options.size), processes=options.threads)
            store = prepare(release, out, size=options.size, processes=options.threads)
            segmenter = load_builtin()
            before = resident()
            wall, processor = timed(write_store_priors, out, segmenter, 32, True)
            rows.append(row("builtin, store", count, wall, processor) | {"memory_growth_mib": resident() - before})
        films = np.array(store.films[:256])
        rows.append(row("film check, in memory", len(films), *timed(check_films, films)))
        pspnet = random_pspnet(folder)
        few = films[: options.pspnet_films]
        rows.append(row("torchxrayvision, in memory", len(few), *timed(pspnet.regions, few)))
        rows[-1]["differing_pixels"] = differing_share(pspnet, few[:2])
    record("anatomy", rows, size=options.size, threads=options.threads, batch_size=32)


def row(what: str, films: int, wall: float, processor: float) -> dict[str, float | str]:
    return {
        "what": what,
        "films": films,
        "seconds": wall,
        "films_per_second": films / wall,
        "processor_seconds_per_film": processor / films,
    }


if __name__ == "__main__":
    main()
