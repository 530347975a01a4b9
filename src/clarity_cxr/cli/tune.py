"""`clarity tune`."""

from pathlib import Path


def tune(
    base: Path,
    /,
    *,
    store: Path,
    out: Path,
    trials: int = 20,
    storage: str | None = None,
    seed: int = 0,
    device: str = "cpu",
) -> None:
    """Search the eight loss weights with Optuna, as the paper does; the same command continues.

    Each trial is a training run. Ends with OUT/best.yaml, a training config, and Optuna's plots.

    Args:
        base: training config; all but the loss weights is taken from it.
        store: prepared store of the model's size.
        out: folder of the trials, the plots and best.yaml; processes may share it.
        trials: of the whole search; more than before extends it.
        storage: Optuna storage URL that machines share (default: SQLite in OUT).
        seed: of the search; the runs' own is the config's.
        device: where trials are scored, e.g. cpu or cuda; training follows `run.accelerator`.
    """
    from clarity_cxr.models.device import usable_device
    from clarity_cxr.studies.tune import tune as search

    usable_device(device)
    print(search(base, store, out, trials=trials, storage=storage, seed=seed, device=device))
