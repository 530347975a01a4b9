"""A prediction as DICOM objects that refer to their film."""

from dataclasses import dataclass
from io import BytesIO
from typing import TYPE_CHECKING

from clarity_cxr.dicom.reading import DicomFilm
from clarity_cxr.inference.predictor import FilmPrediction

if TYPE_CHECKING:
    from pydicom import Dataset


@dataclass(frozen=True)
class ModelIdentity:
    """What made a prediction: SHA-256 of the checkpoint's file, and the probability that decides a finding positive."""

    checkpoint_sha256: str
    decision_threshold: float


def structured_report(film: DicomFilm, prediction: FilmPrediction, model: ModelIdentity) -> "Dataset":
    """A Comprehensive SR (TID 1500): every finding with its probability, boxes of the positive ones as regions.

    Raises:
        FilmError: the film's header lacks what a reference to it needs.
    """
    raise NotImplementedError


def encode(result: "Dataset") -> bytes:
    """An object as the bytes of a DICOM file."""
    stream = BytesIO()
    result.save_as(stream, enforce_file_format=True)
    return stream.getvalue()
