"""Priors from masks that people bring themselves: one folder per region, one PNG per film."""

import hashlib
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from clarity_cxr.anatomy.regions import ORGANS, REGIONS, complete_regions
from clarity_cxr.data.images import PRIOR_SIZE, read_film
from clarity_cxr.errors import ClarityError, ReleaseError


class MaskFolder:
    """Regions read from `FOLDER/<region>/<stem>.png`, non-zero or bright where the region is.

    `left_lung`, `right_lung` and `heart` are needed; where `mediastinum` or `facies_diaphragmatica` is missing as a
    folder, it is derived from these.

    Args:
        folder: the folder of region folders.

    Raises:
        ReleaseError: one of the needed folders is missing.

    Attributes:
        name: "masks".
        film_size: None, for films are not looked at.
        weights_digest: SHA-256 of the names, sizes and times of all masks.
        threshold: share of a pixel's area that the region must cover.
    """

    name = "masks"
    film_size = None
    threshold = 0.5

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        absent = [region for region in ORGANS if not (folder / region).is_dir()]
        if absent:
            raise ReleaseError(
                f"{folder}: no folder {', '.join(absent)}; expected {', '.join(ORGANS)} (and, if you have them, "
                f"{', '.join(REGIONS[len(ORGANS) :])}), each with one PNG per film"
            )
        self.given = tuple(region for region in REGIONS if (folder / region).is_dir())
        self.weights_digest = _listing_digest(folder, self.given)

    def regions(self, films: np.ndarray, image_ids: Sequence[str] = ()) -> np.ndarray:
        """Masks of the films of these names.

        Args:
            films: not used.
            image_ids: names of the films, with or without suffix.

        Returns:
            (B, 5, 128, 128) bool in the order of `REGIONS`.

        Raises:
            ClarityError: a mask is missing or cannot be decoded.
        """
        return np.stack([self._film_regions(name.rsplit(".", 1)[0]) for name in image_ids])

    def _film_regions(self, stem: str) -> np.ndarray:
        masks = {region: self._read(region, stem) for region in self.given}
        derived = complete_regions(np.stack([masks[region] for region in ORGANS]))
        return np.stack([masks[region] if region in masks else derived[k] for k, region in enumerate(REGIONS)])

    def _read(self, region: str, stem: str) -> np.ndarray:
        path = self.folder / region / f"{stem}.png"
        if not path.is_file():
            raise ClarityError(
                f"{path}: no such mask; every film needs one in each region's folder (all black if none)"
            )
        picture = read_film(path)
        covered = (picture > (127 if picture.max() > 1 else 0)).astype(np.float32)
        small = Image.fromarray(covered).resize((PRIOR_SIZE, PRIOR_SIZE), Image.Resampling.BOX)
        return np.asarray(small) >= self.threshold


def _listing_digest(folder: Path, regions: tuple[str, ...]) -> str:
    digest = hashlib.sha256()
    for region in regions:
        with os.scandir(folder / region) as entries:
            listing = sorted((entry.name, entry.stat().st_size, entry.stat().st_mtime_ns) for entry in entries)
        digest.update(repr((region, listing)).encode())
    return digest.hexdigest()
