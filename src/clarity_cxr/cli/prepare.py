"""`clarity prepare`: from a release to a packed store."""

from pathlib import Path


def prepare(
    release: Path,
    /,
    *,
    out: Path,
    size: int = 224,
    processes: int | None = None,
    skip_missing: bool = False,
) -> None:
    """Decode and resize a release's films into a store for training; continues after an interruption.

    Args:
        release: Folder in the NIH ChestX-ray14 layout.
        out: Folder of the store, made by this command; its unfinished form is OUT.partial.
        size: Side of the stored films in pixels.
        processes: Worker processes (default: one per processor).
        skip_missing: Leave out rows without a film and films without a row instead of stopping.
    """
    from clarity_cxr.data.prepare import prepare as prepare_store

    store = prepare_store(release, out, size=size, processes=processes, skip_missing=skip_missing)
    counts = ", ".join(f"{count:,} {split}" for split, count in store.manifest["splits"].items())
    priors = "with priors" if store.priors is not None else "without priors"
    print(f"{out}: {len(store):,} films at {store.size} px ({counts}), {len(store.boxes):,} boxes, {priors}")
