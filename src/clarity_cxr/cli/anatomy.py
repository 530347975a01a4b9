"""`clarity anatomy`: anatomical priors for a store or a release."""

from pathlib import Path
from typing import Literal


def anatomy(
    store_or_release: Path,
    /,
    *,
    provider: Literal["builtin", "torchxrayvision", "masks"] = "builtin",
    weights: Path | None = None,
    masks: Path | None = None,
    batch_size: int = 32,
    device: str = "cpu",
    replace: bool = False,
    shard: str | None = None,
) -> int:
    """Make the four anatomical priors of every film; the same command continues an interrupted run.

    Priors are masks of lungs, heart, lungs with mediastinum, and diaphragm with mediastinum, at 128 x 128. A store gets
    them packed into priors.npy, a release as one PNG per film in priors/, which `clarity prepare` packs.

    Args:
        store_or_release: prepared store, or folder in the NIH layout.
        provider: builtin needs nothing; torchxrayvision is the paper's segmenter and needs its library and weights;
            masks reads your own masks.
        weights: weights file to use instead of the provider's own.
        masks: for --provider masks: folder with left_lung/, right_lung/ and heart/ (and mediastinum/ and
            facies_diaphragmatica/ if you have them), each with one PNG per film.
        batch_size: films segmented together.
        device: where the segmenter runs: cpu, cuda, cuda:1, mps.
        replace: make priors anew where there are some of another provider or other weights.
        shard: share of the films to do here, I/N from 1/N to N/N, for job arrays; the last gives the store its priors.

    Returns:
        0, or 1 if any film of a release could not be read.
    """
    import sys

    from clarity_cxr.anatomy.segmenters import load_provider
    from clarity_cxr.errors import ConfigError
    from clarity_cxr.shards import parse_shard

    if batch_size < 1:
        raise ConfigError(f"--batch-size {batch_size}: must be at least 1")
    source = load_provider(provider, weights, masks, device)
    if (store_or_release / "manifest.json").is_file():
        from clarity_cxr.anatomy.store_priors import write_shard_priors, write_store_priors

        if shard is None:
            store = write_store_priors(store_or_release, source, batch_size, replace)
        else:
            store = write_shard_priors(store_or_release, source, parse_shard(shard), batch_size, replace)
        if store is None:
            print(
                f"{store_or_release}: shard {shard} is done, others are not yet; the last of them finishes the priors"
            )
            return 0
        entry = store.manifest["priors"]
        print(
            f"{store_or_release}: priors of {len(store):,} films by {entry['provider']}, "
            f"{entry['without_lungs']:,} without lungs"
        )
        return 0
    from clarity_cxr.anatomy.release_priors import write_release_priors
    from clarity_cxr.data.workers import available_processors

    share, processes = parse_shard(shard), available_processors()
    result = write_release_priors(store_or_release, source, batch_size, processes, replace, share)
    already = f", {result.kept:,} were there already" if result.kept else ""
    print(f"{store_or_release / 'priors'}: priors of {result.written:,} films written{already}")
    for message in result.unreadable:
        print(f"  {message}", file=sys.stderr)
    return 1 if result.unreadable else 0
