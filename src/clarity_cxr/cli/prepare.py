"""`clarity prepare`: from a release to a packed store."""

from pathlib import Path


def prepare(
    release: Path,
    /,
    *,
    out: Path,
    images: Path | None = None,
    boxes: Path | None = None,
    findings_map: str | None = None,
    size: int = 224,
    processes: int | None = None,
    skip_missing: bool = False,
    shard: str | None = None,
    film_check: bool = True,
    strict: bool = False,
) -> int:
    """Decode and resize films into a store for training or judging; continues after an interruption.

    Args:
        release: folder in the NIH ChestX-ray14 layout, or a manifest CSV with one row per film.
        out: folder of the store, made by this command; its unfinished form is OUT.partial.
        images: folder that the manifest's paths start from (default: the manifest's).
        boxes: CSV of boxes of the manifest's films, in pixels of their files.
        findings_map: how the manifest names things: chexpert, mimic, padchest, vindr or a YAML file.
        size: side of the stored films in pixels.
        processes: worker processes (default: one per processor).
        skip_missing: leave out rows without a film and films without a row instead of stopping.
        shard: share of the films to prepare here, I/N from 1/N to N/N, for job arrays; the last finishes the store.
        film_check: ask whether each film is a whole upright frontal chest film; OUT/film_check.csv names the others.
        strict: exit with 1 if one is not; else this is a warning.
    """
    import sys

    from clarity_cxr.data.manifest import data_set
    from clarity_cxr.data.prepare import prepare as prepare_store
    from clarity_cxr.data.prepare import prepare_shard
    from clarity_cxr.shards import parse_shard

    source = data_set(release, images, boxes, findings_map)
    if shard is None:
        store = prepare_store(source, out, size, processes, skip_missing)
    else:
        store = prepare_shard(source, out, parse_shard(shard), size, processes, skip_missing)
    if store is None:
        print(f"{out}: shard {shard} is done, others are not yet; the last of them finishes the store")
        return 0
    counts = ", ".join(f"{count:,} {split}" for split, count in store.manifest["splits"].items())
    priors = "with priors" if store.priors is not None else "without priors"
    print(f"{out}: {len(store):,} films at {store.size} px ({counts}), {len(store.boxes):,} boxes, {priors}")
    if not film_check:
        return 0
    from clarity_cxr.anatomy.film_check import STORE_REPORT, check_store, film_warnings

    failed = check_store(store)
    if not failed:
        return 0
    print(*film_warnings(failed, len(store)), f"all of them: {out / STORE_REPORT}", sep="\n", file=sys.stderr)
    return 1 if strict else 0
