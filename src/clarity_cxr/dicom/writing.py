"""A prediction as DICOM objects that refer to their film, one by one or all together, in memory or as files."""

from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from clarity_cxr.dicom import RESULT_SUFFIXES
from clarity_cxr.dicom.capture import capture
from clarity_cxr.dicom.origin import origin_of
from clarity_cxr.dicom.reading import DicomFilm
from clarity_cxr.dicom.report import report
from clarity_cxr.dicom.segmentation import heatmap_segmentation, mask_segmentation
from clarity_cxr.errors import ClarityError, FilmError
from clarity_cxr.files import atomic_path
from clarity_cxr.inference.prediction import FilmPrediction

if TYPE_CHECKING:
    from pydicom import Dataset

Result = TypeVar("Result")


def structured_report(film: DicomFilm, prediction: FilmPrediction, checkpoint_sha256: str) -> "Dataset":
    """A Comprehensive SR (TID 1500): every finding with its probability, boxes of the positive ones as regions.

    Args:
        film: from `clarity_cxr.dicom.reading.read_film`.
        prediction: what is said about it.
        checkpoint_sha256: digest of the file of the model that said it.

    Raises:
        FilmError: the film's header lacks or contradicts what a reference to it needs.
    """
    origin = origin_of(film.header, prediction, checkpoint_sha256)
    return _made(lambda: report(origin, prediction))


def results(film: DicomFilm, prediction: FilmPrediction, checkpoint_sha256: str) -> dict[str, "Dataset"]:
    """All objects that a prediction gives, by their suffix of `RESULT_SUFFIXES`.

    The two segmentations are left out where no finding was decided positive.

    Raises:
        FilmError: the film's header lacks or contradicts what a reference to it needs.
    """
    origin = origin_of(film.header, prediction, checkpoint_sha256)
    made = {
        ".sr.dcm": _made(lambda: report(origin, prediction)),
        ".seg.dcm": _made(lambda: mask_segmentation(origin, prediction)),
        ".heat.dcm": _made(lambda: heatmap_segmentation(origin, prediction)),
        ".sc.dcm": _made(lambda: capture(origin, film.pixels, prediction)),
    }
    return {suffix: result for suffix, result in made.items() if result is not None}


def write_results(film: DicomFilm, prediction: FilmPrediction, checkpoint_sha256: str, stem: Path) -> list[Path]:
    """Write all objects of a prediction as `<stem><suffix>`, and remove those of an earlier one that it has not.

    Raises:
        FilmError: the film's header lacks or contradicts what a reference to it needs.
        ClarityError: the files cannot be written.
    """
    made = results(film, prediction, checkpoint_sha256)
    paths = []
    for suffix in RESULT_SUFFIXES:
        path = stem.with_name(stem.name + suffix)
        if suffix not in made:
            path.unlink(missing_ok=True)
            continue
        with atomic_path(path) as temporary:
            temporary.write_bytes(encode(made[suffix]))
        paths.append(path)
    return paths


def encode(result: "Dataset") -> bytes:
    """An object as the bytes of a DICOM file."""
    stream = BytesIO()
    result.save_as(stream, enforce_file_format=True)
    return stream.getvalue()


def _made(make: Callable[[], Result]) -> Result:
    """What `make` returns; the many ways in which a broken header fails are one error without the header's values."""
    try:
        return make()
    except (ClarityError, MemoryError):
        raise
    except Exception as error:
        reason = f"the film's header does not allow DICOM results ({type(error).__name__})"
        raise FilmError(f"{reason}; its attributes contradict the standard") from error
