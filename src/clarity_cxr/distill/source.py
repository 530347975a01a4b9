"""Where logits come from: a teacher on augmented films."""

import os
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from clarity_cxr.data.augmentation import AugmentationConfig, augment
from clarity_cxr.data.store import open_store
from clarity_cxr.distill.manifest import Identity, film_identity
from clarity_cxr.errors import LogitsError
from clarity_cxr.files import file_digest
from clarity_cxr.models.device import usable_device
from clarity_cxr.models.teacher import load_teacher, read_teacher_provenance

Precision = Literal["float32", "bfloat16"]


class LogitSource:
    """A teacher and the films that it is to be asked about.

    Args:
        teacher: a teacher's checkpoint.
        store: a prepared store of its size.
        augmentation: magnitudes.
        seed: the student's run seed.
        device: where the teacher runs; under torchrun, `cuda` is each process's own.
        precision: of the forward pass: `float32`, with no TF32, or bfloat16 autocast.

    Raises:
        CheckpointError: the teacher cannot be used, or is of another finding set.
        StoreError: the store cannot be used, or is of another size.
        LogitsError: the store has no training films.
    """

    def __init__(
        self,
        teacher: Path,
        store: Path,
        augmentation: AugmentationConfig,
        seed: int,
        device: str = "cpu",
        precision: Precision = "float32",
    ) -> None:
        if device == "cuda" and "LOCAL_RANK" in os.environ:
            device = f"cuda:{os.environ['LOCAL_RANK']}"
        self.device = usable_device(device)
        self.teacher = load_teacher(teacher).to(self.device)
        self.films = open_store(store, size=self.teacher.config.image_size)
        self.rows = self.films.rows("train")
        if not len(self.rows):
            raise LogitsError(f"{store}: no training films; expected a store with films in the split 'train'")
        self.augmentation = augmentation
        self.seed = seed
        self.precision: Precision = precision
        self.identity: Identity = {"teacher": file_digest(teacher)} | film_identity(self.films, augmentation, seed)
        self.identity |= {"precision": precision}
        self.licence: str | None = read_teacher_provenance(teacher).get("weights_licence")

    def image_ids(self, positions: NDArray[np.int64]) -> list[str]:
        """Image ids of training films by their rows in an epoch's array."""
        return self.films.index["image_id"].to_numpy()[self.rows[positions]].tolist()

    def augmented(self, positions: NDArray[np.int64], epoch: int) -> Tensor:
        """The pixels behind rows of an epoch's array.

        Args:
            positions: (B,) rows of the array.
            epoch: which.

        Returns:
            (B, 1, S, S) float32 in [0, 1], on the teacher's device.
        """
        rows = self.rows[positions]
        films = torch.from_numpy(self.films.films[rows]).to(self.device)
        keys = torch.from_numpy(self.films.keys[rows])
        return augment(films, keys, epoch, self.seed, self.augmentation)[0]

    def logits(self, positions: NDArray[np.int64], epoch: int) -> NDArray[np.float16]:
        """The teacher's logits (B, 14) on the pixels of `augmented`.

        Raises:
            LogitsError: one of them is not finite in float16; names the films.
        """
        reproducible = torch.backends.cudnn.flags(enabled=True, deterministic=True, allow_tf32=False)
        bfloat16 = torch.autocast(self.device.type, torch.bfloat16, enabled=self.precision == "bfloat16")
        with torch.inference_mode(), reproducible, bfloat16:
            logits = self.teacher(self.teacher.preprocess(self.augmented(positions, epoch))).half().cpu().numpy()
        finite = np.isfinite(logits).all(axis=1)
        if not finite.all():
            films = ", ".join(self.image_ids(positions[~finite]))
            raise LogitsError(f"the teacher's logits are not finite in epoch {epoch} for {films}")
        return logits
