"""What a logit store was made of: `manifest.json`, and the comparison with what a run needs."""

import dataclasses
import hashlib
import json
from pathlib import Path
from typing import Any

from clarity_cxr.data.augmentation import AugmentationConfig
from clarity_cxr.data.store import FilmStore, ids_digest
from clarity_cxr.errors import LogitsError
from clarity_cxr.files import write_json
from clarity_cxr.findings import FINDINGS

FORMAT_VERSION = 2
NAME = "manifest.json"

Identity = dict[str, Any]
"""Everything that the numbers of a store depend on, by dotted name, as plain values."""


@dataclasses.dataclass(frozen=True)
class Manifest:
    """The header of a logit store.

    Attributes:
        identity: everything that the numbers depend on, see `film_identity`, with `teacher`, its file's SHA-256, and
            `precision`, that of its forward pass.
        epochs: how many are planned; a store is finished when all of them are there.
        origin: where the teacher and the films were, the terms of the teacher's weights, batch size and versions.
    """

    identity: Identity
    epochs: int
    origin: dict[str, Any]

    @property
    def key(self) -> str:
        """SHA-256 of the identity: stores of one key hold the same numbers."""
        return _digest(self.identity)

    @property
    def films(self) -> int:
        """Rows of every epoch."""
        return self.identity["film_count"]


def film_identity(films: FilmStore, augmentation: AugmentationConfig, seed: int) -> Identity:
    """The part of a store's identity that a student's run has too: films, augmentation, seed.

    Args:
        films: prepared films; their split `train`, in the store's order, is what the rows of an epoch stand for.
        augmentation: magnitudes.
        seed: the run's seed.
    """
    magnitudes = {key: list(v) if isinstance(v, tuple) else v for key, v in dataclasses.asdict(augmentation).items()}
    rows = films.rows("train")
    return {
        "augmentation.digest": augmentation.digest(),
        **{f"augmentation.{name}": value for name, value in magnitudes.items()},
        "seed": seed,
        "film_count": len(rows),
        "image_ids": ids_digest(films.index["image_id"].iloc[rows]),
        "films": films.fingerprint,
        "findings": list(FINDINGS),
        "image_size": films.size,
    }


def differences(stored: Identity, needed: Identity) -> list[str]:
    """The fields of `needed` that a store has otherwise, with both values."""
    return [
        f"{name} is {stored.get(name)!r} in the store, {value!r} here"
        for name, value in needed.items()
        if stored.get(name) != value
    ]


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Write `manifest.json`, with digests of itself.

    Raises:
        ClarityError: the folder cannot be written to.
    """
    content = {"format_version": FORMAT_VERSION, **dataclasses.asdict(manifest), "key": manifest.key}
    write_json(folder / NAME, content | {"digest": _digest(content)})


def read_manifest(folder: Path) -> Manifest:
    """Read `manifest.json` and check its digest.

    Raises:
        LogitsError: there is none, or it is damaged, was edited, or is of another format version or finding set.
    """
    path = folder / NAME
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        digest, version = content.pop("digest"), content["format_version"]
    except (FileNotFoundError, NotADirectoryError):
        raise LogitsError(
            f"{folder}: not a store of a teacher's logits (no {NAME}); make one with `clarity distill dump`"
        ) from None
    except (ValueError, KeyError, AttributeError, TypeError) as error:
        raise LogitsError(f"{path}: damaged ({error}); dump into another folder") from None
    if version != FORMAT_VERSION:
        raise LogitsError(f"{path}: format version {version}, this program reads {FORMAT_VERSION}; dump again")
    if _digest(content) != digest:
        raise LogitsError(
            f"{path}: its content does not have its digest: it was edited or is damaged. What it says about the logits "
            "can no longer be trusted; restore it, or dump into another folder"
        )
    manifest = Manifest(content["identity"], content["epochs"], content["origin"])
    if manifest.identity["findings"] != list(FINDINGS):
        raise LogitsError(f"{path}: findings are {manifest.identity['findings']}, expected {list(FINDINGS)}")
    return manifest


def _digest(content: Any) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
