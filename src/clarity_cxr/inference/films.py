"""A film from a file of any kind that is read: PNG, JPEG or DICOM."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from clarity_cxr.data.images import read_film
from clarity_cxr.dicom import reading


@dataclass(frozen=True)
class Film:
    """A film that was read.

    Attributes:
        pixels: (H, W) uint8, air dark and bone bright.
        warnings: what its file says against it being a whole frontal chest film; empty for PNG and JPEG.
        dicom: the film with its header, if it is DICOM.
    """

    pixels: np.ndarray
    warnings: tuple[str, ...] = ()
    dicom: reading.DicomFilm | None = None


def read_any_film(path: Path) -> Film:
    """Read a film.

    Raises:
        FilmError: as `clarity_cxr.data.images.read_film` and `clarity_cxr.dicom.reading.read_film`.
        ClarityError: the film is DICOM and the DICOM extra is not installed.
    """
    if not reading.is_dicom(path):
        return Film(read_film(path))
    film = reading.read_film(path)
    return Film(film.pixels, tuple(film.warnings), film)
