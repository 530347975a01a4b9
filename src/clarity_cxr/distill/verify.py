"""Is a logit store what its manifest says? Every digest, and a sample computed anew."""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from clarity_cxr.data.augmentation import AugmentationConfig
from clarity_cxr.distill.dump import computation, make_epoch
from clarity_cxr.distill.manifest import differences
from clarity_cxr.distill.source import LogitSource
from clarity_cxr.distill.store import LogitStore
from clarity_cxr.errors import LogitsError
from clarity_cxr.progress import progress_bar

FINEST_STEP_AT = 2.0**-4
"""Below this size float16 is finer than float32 arithmetic keeps a logit; the step at this size counts."""
ALLOWED_STEPS = {"float32": 1.0, "bfloat16": 16.0}
"""Float16 steps between a stored and a recomputed logit, by the precision of the teacher's forward pass."""


@dataclass(frozen=True)
class Verification:
    """What a check of a store found.

    Attributes:
        missing: planned epochs that are not finished.
        damaged: finished epochs whose bytes changed, or that lost one of their two files.
        compared: (image, epoch) pairs computed anew.
        largest_difference: between a stored and a recomputed logit.
        largest_steps: the same in float16 steps.
        allowed_steps: from where a pair is wrong.
        wrong: epochs with such a pair.
    """

    missing: list[int]
    damaged: list[int]
    compared: int
    largest_difference: float
    largest_steps: float
    allowed_steps: float
    wrong: list[int]

    @property
    def passed(self) -> bool:
        """Whether everything that is there is right; unfinished epochs are not wrong."""
        return not self.damaged and not self.wrong


def open_source(store: LogitStore, teacher: Path | None, films: Path | None, device: str) -> LogitSource:
    """The teacher and films that a store was made of.

    Args:
        store: the logits.
        teacher: where the teacher is now; None is where it was.
        films: where the prepared films are now; None is where they were.
        device: where the teacher runs.

    Raises:
        LogitsError: they are not those of the manifest.
        ClarityError: they cannot be opened.
    """
    identity, origin = store.manifest.identity, store.manifest.origin
    magnitudes: dict[str, Any] = {
        name.removeprefix("augmentation."): tuple(value) if isinstance(value, list) else value
        for name, value in identity.items()
        if name.startswith("augmentation.") and name != "augmentation.digest"
    }
    source = LogitSource(
        teacher or Path(origin["teacher"]),
        films or Path(origin["store"]),
        AugmentationConfig(**magnitudes),
        identity["seed"],
        device,
        identity["precision"],
    )
    differing = differences(identity, source.identity)
    if differing:
        raise LogitsError(f"{store.path}: not made of these: {'; '.join(differing)}; give --teacher and --store")
    return source


def verify(store: LogitStore, source: LogitSource, *, samples: int = 64, seed: int = 0) -> Verification:
    """Check every digest and compute random (image, epoch) pairs anew.

    Args:
        store: the logits.
        source: of `open_source`.
        samples: pairs, spread over random epochs.
        seed: of the pairs.
    """
    missing = store.missing()
    damaged = [epoch for epoch in missing if _was_finished(store, epoch)]
    sound = []
    with progress_bar("Digests", store.manifest.epochs) as advance:
        for epoch in range(store.manifest.epochs):
            if epoch not in missing:
                (sound if store.is_sound(epoch) else damaged).append(epoch)
            advance(1)
    allowed = ALLOWED_STEPS[source.precision]
    largest, steps, compared, wrong = 0.0, 0.0, 0, []
    with progress_bar("Computing anew", samples if sound else 0) as advance:
        for epoch, positions in _pairs(sound, store.shape[0], samples, seed):
            stored, anew = store.epoch(epoch)[positions], source.logits(positions, epoch)
            apart = steps_apart(stored, anew)
            if apart.max() > allowed:
                wrong.append(epoch)
            largest = max(largest, float(np.abs(stored.astype(np.float32) - anew.astype(np.float32)).max()))
            steps, compared = max(steps, float(apart.max())), compared + len(positions)
            advance(len(positions))
    unfinished = [epoch for epoch in missing if epoch not in damaged]
    return Verification(unfinished, sorted(damaged), compared, largest, steps, allowed, wrong)


def repair(store: LogitStore, source: LogitSource, epochs: list[int]) -> None:
    """Compute epochs again, in the batch size that the store was made with.

    Args:
        store: the logits.
        source: of `open_source`.
        epochs: those that are damaged or wrong.
    """
    batch_size = store.manifest.origin["batch_size"]
    with progress_bar("Repairing", len(epochs) * store.shape[0]) as advance:
        for epoch in epochs:
            store.record_path(epoch).unlink(missing_ok=True)
            make_epoch(store, source, epoch, batch_size, computation(source, batch_size), advance)


def steps_apart(a: NDArray[np.float16], b: NDArray[np.float16]) -> NDArray[np.float32]:
    """Distance of logits in steps of float16 at their size, which counts as 1/16 at least."""
    size = np.maximum(np.maximum(np.abs(a), np.abs(b)), np.float16(FINEST_STEP_AT))
    apart = np.abs(a.astype(np.float32) - b.astype(np.float32))
    return (apart / np.spacing(size)).astype(np.float32)


def _was_finished(store: LogitStore, epoch: int) -> bool:
    return os.path.lexists(store.record_path(epoch)) or (
        store.array_path(epoch).exists() and not store.partial_path(epoch).exists()
    )


def _pairs(epochs: list[int], films: int, samples: int, seed: int) -> Iterator[tuple[int, NDArray[np.int64]]]:
    """Random epochs with random rows of each."""
    if not epochs:
        return
    generator = np.random.Generator(np.random.PCG64(seed))
    chosen, counts = np.unique(generator.choice(epochs, size=samples), return_counts=True)
    for epoch, count in zip(chosen.tolist(), counts.tolist(), strict=True):
        yield epoch, np.unique(generator.choice(films, size=count)).astype(np.int64)
