"""`clarity distill dump`, `verify`, `info` and `show`."""

from pathlib import Path
from typing import Literal

from clarity_cxr.data.augmentation import AugmentationConfig


def dump(
    *,
    teacher: Path,
    store: Path,
    epochs: int,
    out: Path,
    only: str | None = None,
    shard: str | None = None,
    seed: int = 0,
    augmentation: AugmentationConfig = AugmentationConfig(),  # noqa: B008 (frozen)
    batch_size: int = 64,
    precision: Literal["float32", "bfloat16"] = "float32",
    device: str = "cpu",
) -> None:
    """Compute a teacher's logits for every training film and epoch, on the pixels that the student will see.

    Continues what is there. Give the same command several times, on several machines or under torchrun, to share the
    work: each process takes epochs that no other is making, and ends when all are there.

    Args:
        teacher: teacher written by `clarity train`.
        store: prepared store of the teacher's size, which the student will be trained on.
        epochs: epochs that the student will be trained for.
        out: folder of the logits.
        only: epochs to make here, FIRST:LAST without the last, such as 50:100 (default: all).
        shard: share of those epochs to make here, I/N from 1/N to N/N, for job arrays on file systems without locks.
        seed: the student's run.seed.
        augmentation: the student's augmentation.
        batch_size: films per forward pass; the same one gives the same bytes.
        precision: of the teacher's forward pass; bfloat16 takes half the time and moves probabilities by about 0.001.
        device: where the teacher runs: cpu, cuda, cuda:1.
    """
    from clarity_cxr.distill.dump import dump as dump_logits
    from clarity_cxr.distill.source import LogitSource
    from clarity_cxr.shards import parse_shard

    source = LogitSource(teacher, store, augmentation, seed, device, precision)
    origin = {"teacher": str(teacher.resolve()), "store": str(store.resolve())}
    chosen = range(epochs) if only is None else _epoch_range(only)
    share = chosen[parse_shard(shard).of(len(chosen))]
    if chosen and not share:
        print(f"{out}: shard {shard} of {len(chosen)} epochs has none; nothing to do")
        return
    logits = dump_logits(source, out, epochs, only=share, batch_size=batch_size, origin=origin)
    missing = logits.missing()
    print(f"{out}: {epochs - len(missing)} of {epochs} epochs" + ("" if missing else f", digest {logits.digest()}"))


def verify(
    logits: Path,
    /,
    *,
    teacher: Path | None = None,
    store: Path | None = None,
    samples: int = 64,
    seed: int = 0,
    repair: bool = False,
    device: str = "cpu",
) -> int:
    """Check every digest of a store of logits and compute random (image, epoch) pairs anew; exit code 1 if any is off.

    Args:
        logits: folder written by `clarity distill dump`.
        teacher: the teacher's file, if it is no longer where it was.
        store: the prepared films, if they are no longer where they were.
        samples: pairs to compute anew.
        seed: of the pairs.
        repair: compute damaged and wrong epochs again.
        device: where the teacher runs.

    Returns:
        0, or 1 if something is wrong that was not repaired.
    """
    from clarity_cxr.distill import verify as verification
    from clarity_cxr.distill.store import LogitStore, spans

    opened = LogitStore(logits)
    source = verification.open_source(opened, teacher, store, device)
    found = verification.verify(opened, source, samples=samples, seed=seed)
    bad = sorted({*found.damaged, *found.wrong})
    if bad and repair:
        verification.repair(opened, source, bad)
        print(f"repaired epochs {spans(bad)}")
        found = verification.verify(opened, source, samples=samples, seed=seed)
    for name, epochs in (("unfinished", found.missing), ("damaged", found.damaged), ("wrong", found.wrong)):
        if epochs:
            print(f"{name} epochs: {spans(epochs)}")
    print(
        f"{found.compared} rows computed anew: largest difference {found.largest_difference:.3g}, "
        f"{found.largest_steps:.3g} float16 steps ({found.allowed_steps:g} allowed)"
    )
    print(f"{logits}: {'sound' if found.passed else 'not sound; --repair computes the damaged epochs again'}")
    return 0 if found.passed else 1


def info(logits: Path, /) -> None:
    """Print what a store of logits was made of, which epochs are there, and its size.

    Args:
        logits: folder written by `clarity distill dump`.
    """
    from clarity_cxr.distill.store import LogitStore, spans

    opened = LogitStore(logits)
    manifest = opened.manifest
    for name, value in {**manifest.identity, **manifest.origin}.items():
        print(f"{name}: {value}")
    missing = opened.missing()
    size = sum(path.stat().st_size for path in logits.iterdir())
    print(f"epochs: {manifest.epochs - len(missing)} of {manifest.epochs} of {manifest.films:,} films")
    print(f"missing epochs: {spans(missing)}" if missing else f"complete, digest {opened.digest()}")
    print(f"size: {size / 1e6:,.1f} MB")


def show(
    logits: Path,
    /,
    *,
    image: str,
    epoch: int,
    out: Path = Path(),
    teacher: Path | None = None,
    store: Path | None = None,
) -> None:
    """Write the augmented film behind a stored row, and the teacher's probabilities, as PNG and JSON.

    Args:
        logits: folder written by `clarity distill dump`.
        image: image id of a training film.
        epoch: epoch, from 0.
        out: folder for both files.
        teacher: the teacher's file, if it is no longer where it was.
        store: the prepared films, if they are no longer where they were.
    """
    from clarity_cxr.distill.show import show as write_pair
    from clarity_cxr.distill.store import LogitStore
    from clarity_cxr.distill.verify import open_source

    opened = LogitStore(logits)
    content = write_pair(opened, open_source(opened, teacher, store, "cpu"), image, epoch, out)
    for finding, probability in content["probabilities"].items():
        print(f"{finding:<20} {probability:.3f}{'  *' if content['labels'][finding] else ''}")
    print(f"{out}: {image} in epoch {epoch}; * is a label of the film")


def _epoch_range(text: str) -> range:
    from clarity_cxr.errors import ConfigError

    first, colon, stop = text.partition(":")
    if not colon or not first.isdecimal() or not stop.isdecimal():
        raise ConfigError(f"--only {text!r}: expected FIRST:STOP, two numbers such as 50:100")
    return range(int(first), int(stop))
