"""`clarity train`."""

from pathlib import Path

from clarity_cxr.data.augmentation import AugmentationConfig
from clarity_cxr.models.config import ModelOptions
from clarity_cxr.training.config import LossConfig, OptimizationConfig, RunConfig


def train(
    *,
    store: Path,
    out: Path,
    model: ModelOptions,
    augmentation: AugmentationConfig = AugmentationConfig(),  # noqa: B008 (frozen)
    loss: LossConfig = LossConfig(),  # noqa: B008 (frozen)
    optimization: OptimizationConfig = OptimizationConfig(),  # noqa: B008 (frozen)
    run: RunConfig = RunConfig(),  # noqa: B008 (frozen)
    distill: Path | None = None,
) -> None:
    """Train a CLARiTy, or a teacher, on a prepared store; the same command continues an interrupted run.

    Args:
        store: prepared store of the model's input size, see `clarity prepare`.
        out: run folder; ends with `best.safetensors` (highest validation UDP, a teacher: macro AUC) and `metrics.csv`.
        model: which model, from which starting weights, with which options.
        augmentation: magnitudes of rotation, crop, brightness and noise.
        loss: weights of Eq. 18 and 19, and the losses' options.
        optimization: epochs, batch size, learning rate.
        run: seed, device, precision, resume points.
        distill: store of a teacher's logits for this run's films, seed and augmentation, see `clarity distill dump`;
            its probabilities are then the targets of the classification losses.
    """
    import logging
    import warnings

    from lightning.fabric.utilities.rank_zero import rank_zero_only

    from clarity_cxr.training.train import train as train_model

    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    warnings.filterwarnings("ignore", module="lightning", message=".*(LeafSpec|logging interval|not resumable).*")
    best = train_model(store, out, model, augmentation, loss, optimization, run, distill)
    rank_zero_only(print)(best)
