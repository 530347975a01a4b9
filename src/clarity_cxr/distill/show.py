"""The augmented film behind a stored row, and what the teacher said about it."""

from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from clarity_cxr.distill.source import LogitSource
from clarity_cxr.distill.store import LogitStore
from clarity_cxr.errors import LogitsError
from clarity_cxr.files import atomic_path, write_json
from clarity_cxr.findings import FINDINGS


def show(store: LogitStore, source: LogitSource, image_id: str, epoch: int, out: Path) -> dict[str, Any]:
    """Write the picture that the teacher saw and its probabilities.

    Args:
        store: the logits.
        source: their teacher and films.
        image_id: a training film.
        epoch: which of its augmentations.
        out: folder for `STEM_epoch_0000.png` and `STEM_epoch_0000.json`.

    Returns:
        The content of the JSON: `image_id`, `epoch`, `probabilities` and `labels` by finding.

    Raises:
        LogitsError: no such film or epoch, or the epoch is damaged.
        ClarityError: the folder cannot be written to.
    """
    known = source.films.index["image_id"].to_numpy()[source.rows]
    found = np.flatnonzero(known == image_id)
    if not len(found):
        raise LogitsError(f"{image_id!r} is not a training film of {source.films.path}; one is {known[0]!r}")
    if epoch not in range(store.manifest.epochs):
        raise LogitsError(f"{store.path}: epoch {epoch} is not one of 0-{store.manifest.epochs - 1}")
    logits = store.epoch(epoch)[found[0]].astype(np.float64)
    labels = source.films.labels[source.rows[found[0]]]
    content = {
        "image_id": image_id,
        "epoch": epoch,
        "probabilities": dict(zip(FINDINGS, (1 / (1 + np.exp(-logits))).tolist(), strict=True)),
        "labels": dict(zip(FINDINGS, labels.tolist(), strict=True)),
    }
    pixels = source.augmented(found[:1], epoch)[0, 0].mul(255).round().byte().cpu().numpy()
    stem = f"{Path(image_id).stem}_epoch_{epoch:04d}"
    with atomic_path(out / f"{stem}.png") as temporary:
        Image.fromarray(pixels).save(temporary)
    write_json(out / f"{stem}.json", content)
    return content
