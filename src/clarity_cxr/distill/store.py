"""The logit store: one dense float16 array per epoch, beside it the epoch's digest, and a manifest.

`LOGITS/` holds `manifest.json` and for every finished epoch `epoch_0000.npy` (n, 14) float16, a row for each training
film in the film store's order, and `epoch_0000.json` with its SHA-256. `epoch_0000.partial` is an epoch in the making.
"""

import hashlib
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from clarity_cxr.distill.manifest import Identity, Manifest, differences, read_manifest
from clarity_cxr.errors import LogitsError
from clarity_cxr.files import atomic_path, file_digest, write_json
from clarity_cxr.findings import FINDINGS


class LogitStore:
    """A store opened for reading; one epoch at a time is mapped, none is loaded.

    Attributes:
        path: the folder.
        manifest: what it was made of.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.manifest: Manifest = read_manifest(path)
        self._open: tuple[int, NDArray[np.float16]] | None = None

    def __reduce__(self) -> tuple[Any, ...]:
        return LogitStore, (self.path,)

    @property
    def shape(self) -> tuple[int, int]:
        """(n, 14): training films and findings of every epoch."""
        return self.manifest.films, len(FINDINGS)

    def array_path(self, epoch: int) -> Path:
        """File of an epoch's logits."""
        return self.path / f"epoch_{epoch:04d}.npy"

    def record_path(self, epoch: int) -> Path:
        """File of an epoch's digest; written last, so that an epoch with it is whole."""
        return self.path / f"epoch_{epoch:04d}.json"

    def partial_path(self, epoch: int) -> Path:
        """File of an epoch in the making."""
        return self.path / f"epoch_{epoch:04d}.partial"

    def recorded_digest(self, epoch: int) -> str | None:
        """SHA-256 that an epoch's file was finished with; None where it was not, or for another store."""
        try:
            record = json.loads(self.record_path(epoch).read_text(encoding="utf-8"))
            return record["sha256"] if record["key"] == self.manifest.key else None
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def has(self, epoch: int) -> bool:
        """Whether an epoch is finished: its record is there, and its file has the right length."""
        try:
            length = self.array_path(epoch).stat().st_size
        except OSError:
            return False
        return length == _file_length(self.shape) and self.recorded_digest(epoch) is not None

    def missing(self, epochs: range | None = None) -> list[int]:
        """Epochs, of those planned if none are named, that are not finished."""
        return [epoch for epoch in epochs or range(self.manifest.epochs) if not self.has(epoch)]

    def digest(self) -> str:
        """SHA-256 over the identity and the digests of all planned epochs.

        Raises:
            LogitsError: an epoch is missing.
        """
        missing = self.missing()
        if missing:
            raise LogitsError(
                f"{self.path}: epochs {spans(missing)} are missing; finish it with `clarity distill dump`"
            )
        digests = [self.recorded_digest(epoch) or "" for epoch in range(self.manifest.epochs)]
        return hashlib.sha256("\n".join([self.manifest.key, *digests]).encode()).hexdigest()

    def is_sound(self, epoch: int) -> bool:
        """Whether a finished epoch still has the bytes that it was finished with."""
        return self.has(epoch) and file_digest(self.array_path(epoch)) == self.recorded_digest(epoch)

    def epoch(self, epoch: int) -> NDArray[np.float16]:
        """An epoch's logits (n, 14), mapped; checked against its digest when it is opened.

        Raises:
            LogitsError: the epoch is missing or damaged.
        """
        if self._open is None or self._open[0] != epoch:
            if not self.is_sound(epoch):
                raise LogitsError(
                    f"{self.array_path(epoch)}: {'damaged' if self.has(epoch) else 'missing'}; "
                    f"`clarity distill verify {self.path} --repair` computes it again"
                )
            self._open = epoch, np.load(self.array_path(epoch), mmap_mode="r", allow_pickle=False)
        return self._open[1]

    def write(self, epoch: int, logits: NDArray[np.float16], origin: dict[str, Any]) -> None:
        """Finish an epoch: its array, then its record, each whole or not at all.

        Args:
            epoch: which.
            logits: (n, 14) float16.
            origin: how this epoch was computed: batch size, device, versions.

        Raises:
            ClarityError: the folder cannot be written to.
        """
        path = self.array_path(epoch)
        content = io.BytesIO()  # a file that np.save writes to itself does not say why it is cut short
        np.save(content, logits)
        with atomic_path(path) as temporary:
            temporary.write_bytes(content.getbuffer())
        write_json(self.record_path(epoch), {"sha256": file_digest(path), "key": self.manifest.key, "origin": origin})

    def require(self, needed: Identity, epochs: int) -> None:
        """Refuse a store that was made for another run, or that does not hold all epochs of this one.

        Args:
            needed: of the run, see `film_identity`.
            epochs: of the run.

        Raises:
            LogitsError: names each differing field with both values, or the missing epochs.
        """
        differing = differences(self.manifest.identity, needed)
        if differing:
            raise LogitsError(
                f"{self.path}: these logits were made for another run: {'; '.join(differing)}. "
                "Dump the teacher's logits for this run, or give this run the store's settings"
            )
        missing = self.missing(range(epochs))
        if missing:
            raise LogitsError(
                f"{self.path}: epochs {spans(missing)} of the {epochs} that this run needs are missing or unfinished; "
                f"make them with `clarity distill dump --epochs {epochs}`"
            )


def spans(epochs: list[int]) -> str:
    """Ascending numbers as text: 0-3, 7, 9-11."""
    parts: list[list[int]] = []
    for epoch in epochs:
        if parts and epoch == parts[-1][-1] + 1:
            parts[-1].append(epoch)
        else:
            parts.append([epoch])
    return ", ".join(str(part[0]) if len(part) == 1 else f"{part[0]}-{part[-1]}" for part in parts)


def _file_length(shape: tuple[int, int]) -> int:
    """Bytes of a float16 `.npy` file: numpy pads its header to 64 bytes, and both dimensions are short."""
    return 128 + 2 * shape[0] * shape[1]
