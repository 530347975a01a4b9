"""What a result comes from: the film it refers to and the model that made it, and identifiers that follow from both."""

import copy
import json
import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from clarity_cxr import __version__
from clarity_cxr.errors import ClarityError, FilmError
from clarity_cxr.inference.prediction import FilmPrediction

if TYPE_CHECKING:
    from highdicom import AlgorithmIdentificationSequence
    from pydicom import Dataset

MANUFACTURER = "clarity-cxr"
MODEL_NAME = "CLARiTy, research use only"

_REFERENCE = ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID", "SOPClassUID")
_MAY_BE_EMPTY = (
    "AccessionNumber",
    "PatientBirthDate",
    "PatientID",
    "PatientName",
    "PatientSex",
    "ReferringPhysicianName",
    "StudyDate",
    "StudyID",
    "StudyTime",
)


@dataclass(frozen=True)
class Origin:
    """Where a result comes from.

    Attributes:
        source: the film's header, fit to be referred to.
        checkpoint_sha256: the model, by its file.
        decided: how probabilities were calibrated and decided, as plain values.
    """

    source: "Dataset"
    checkpoint_sha256: str
    decided: dict[str, Any]

    def uid(self, part: str) -> str:
        """The identifier of a part of the result: the same film, model and decision always give the same one.

        An archive that is sent a result a second time therefore knows that it has it already.
        """
        from pydicom.uid import generate_uid

        made_by = [self.checkpoint_sha256, json.dumps(self.decided, sort_keys=True), __version__]
        return generate_uid(entropy_srcs=[str(self.source.SOPInstanceUID), *made_by, part])

    def object_options(self, kind: str, series_number: int) -> dict[str, Any]:
        """Arguments that every highdicom object takes: identifiers, numbers and who made it."""
        return {
            "series_instance_uid": self.uid(f"{kind} series"),
            "sop_instance_uid": self.uid(kind),
            "series_number": series_number,
            "instance_number": 1,
            "manufacturer": MANUFACTURER,
            "manufacturer_model_name": MODEL_NAME,
            "software_versions": __version__,
            "device_serial_number": self.checkpoint_sha256[:16],
            "series_description": f"{MANUFACTURER} {kind}: research use only",
        }

    def parameters(self) -> dict[str, str]:
        """What a prediction depends on besides the film."""
        return {
            "checkpoint_sha256": self.checkpoint_sha256,
            "operating_point": self.decided["operating_point"],
            "calibration": self.decided["calibration"],
        }

    def algorithm(self) -> "AlgorithmIdentificationSequence":
        """Name, version and parameters of what made a segmentation."""
        from highdicom import AlgorithmIdentificationSequence
        from pydicom.sr.codedict import codes

        family = codes.DCM.ArtificialIntelligence
        return AlgorithmIdentificationSequence(MANUFACTURER, family, __version__, parameters=self.parameters())


def origin_of(header: "Dataset", prediction: FilmPrediction, checkpoint_sha256: str) -> Origin:
    """The origin of what is said about a film.

    Raises:
        FilmError: an identifier that a reference to the film needs is missing.
        ClarityError: the DICOM extra is not installed.
    """
    _require_extra()
    return Origin(_source_header(header), checkpoint_sha256, prediction.rule.to_dict())


def _source_header(header: "Dataset") -> "Dataset":
    """A copy of a film's header that results can refer to, with empty values for what must be there but may be empty.

    Raises:
        FilmError: an identifier that a reference needs is missing.
    """
    missing = [keyword for keyword in _REFERENCE if not header.get(keyword)]
    if missing:
        raise FilmError(f"DICOM results cannot refer to a film without {', '.join(missing)}")
    source = copy.copy(header)
    for keyword in _broken(source):
        del source[keyword]
    for keyword in _MAY_BE_EMPTY:
        if source.get(keyword) is None:
            setattr(source, keyword, "")
    return source


def _broken(header: "Dataset") -> list[str]:
    """Attributes, apart from the identifiers, whose values the standard does not allow; results would repeat them."""
    from pydicom.config import RAISE
    from pydicom.valuerep import validate_value

    broken = []
    for element in header:
        if element.keyword in _REFERENCE or not element.keyword or element.VR in ("SQ", "UN"):
            continue
        values = element.value if element.VM > 1 else [element.value]
        try:
            for value in values:
                validate_value(element.VR, value, RAISE)
        except (ValueError, TypeError):
            broken.append(element.keyword)
    spacing = header.get("PixelSpacing")
    if spacing and "PixelSpacing" not in broken and not all(float(side) > 0 for side in spacing):
        broken.append("PixelSpacing")
    return broken


def _require_extra() -> None:
    """Raise a `ClarityError` that names the extra, unless highdicom is installed; keep it from printing names."""
    try:
        import highdicom as _  # noqa: F401
    except ImportError:
        raise ClarityError('DICOM results need further packages: pip install "clarity-cxr[dicom]"') from None
    warnings.filterwarnings("ignore", category=UserWarning, module="highdicom")
