"""What a film's header says against its being a frontal chest film."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pydicom import Dataset

_MODALITIES = ("CR", "DX", "RG", "OT", "DR", "")
_FRONTAL_VIEWS = ("AP", "PA", "")
_CHEST_WORDS = ("CHEST", "THORAX", "LUNG", "RIB", "HEART")
_CHEST_CODES = ("51185008", "43799004", "39607008", "T-D3000", "T-D3300", "T-28000")
"""Thorax, chest cavity and lung in SNOMED CT and in its older spelling."""
UPRIGHT_ORIENTATION = ["L", "F"]
"""Rows run to the patient's left, columns to the feet, as a frontal film is shown."""


def header_warnings(header: "Dataset") -> list[str]:
    """Reasons, in words, why the film may not be a frontal chest film as it should be; empty if none.

    Modality, View Position, Body Part Examined (or Anatomic Region) and Patient Orientation are looked at; an
    attribute that is missing or empty says nothing.
    """
    warnings = []
    modality = _word(header, "Modality")
    if modality not in _MODALITIES:
        warnings.append(f"Modality is {modality}, expected CR or DX")
    view = _word(header, "ViewPosition")
    if view not in _FRONTAL_VIEWS:
        warnings.append(f"View Position is {view}, expected a frontal view (PA or AP)")
    part = _word(header, "BodyPartExamined")
    if part and not any(word in part for word in _CHEST_WORDS):
        warnings.append(f"Body Part Examined is {part}, expected CHEST")
    region = _region(header)
    if not part and region and region not in _CHEST_CODES:
        warnings.append(f"Anatomic Region has the code {region}, expected the chest")
    orientation = main_orientation(header)
    if orientation and orientation != UPRIGHT_ORIENTATION:
        warnings.append(f"Patient Orientation is {'/'.join(orientation)}, expected L/F: turned or mirrored")
    return warnings


def _word(header: "Dataset", keyword: str) -> str:
    return str(header.get(keyword) or "").strip().upper()[:16]


def _region(header: "Dataset") -> str:
    regions = header.get("AnatomicRegionSequence")
    return _word(regions[0], "CodeValue") if regions else ""


def main_orientation(header: "Dataset") -> list[str]:
    """The main direction of rows and of columns, as "L", "F"; empty unless there are two."""
    value = header.get("PatientOrientation") or ()
    directions = [str(direction).strip().upper()[:1] for direction in value] if not isinstance(value, str) else []
    return directions if len(directions) == 2 and all(directions) else []
