"""The codes of the findings, and of what is said about them, in reports and segmentations."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pydicom.sr.coding import Code

PRIVATE_SCHEME = "99CLARITY"
"""Designator of the codes that no public scheme has for us (PS3.3 8.2)."""

_FINDINGS = {
    "Atelectasis": ("46621007", "SCT", "Atelectasis"),
    "Cardiomegaly": ("8186001", "SCT", "Cardiomegaly"),
    "Consolidation": ("95436008", "SCT", "Lung consolidation"),
    "Edema": ("19242006", "SCT", "Pulmonary edema"),
    "Effusion": ("60046008", "SCT", "Pleural effusion"),
    "Emphysema": ("87433001", "SCT", "Pulmonary emphysema"),
    "Fibrosis": ("51615001", "SCT", "Fibrosis of lung"),
    "Hernia": ("39839004", "SCT", "Diaphragmatic hernia"),
    "Infiltration": ("112121", "DCM", "Infiltrate"),
    "Mass": ("4147007", "SCT", "Mass"),
    "Nodule": ("27925004", "SCT", "Nodule"),
    "Pleural_Thickening": ("Pleural_Thickening", PRIVATE_SCHEME, "Pleural thickening"),
    "Pneumonia": ("233604007", "SCT", "Pneumonia"),
    "Pneumothorax": ("36118008", "SCT", "Pneumothorax"),
}
"""Value, scheme and meaning; of the DICOM standard's chest findings (CID 6102) where it has them."""

PROBABILITY = ("111012", "DCM", "Certainty of Finding")
"""The standard's concept for how sure a detector is of a finding (CID 6048), in percent."""
DECIDED_POSITIVE = ("decided_positive", PRIVATE_SCHEME, "Decided positive at the threshold")
CHEST_RADIOGRAPHY = ("399208008", "SCT", "Plain X-ray of chest")


def finding_code(finding: str) -> "Code":
    """The coded concept of a finding."""
    return code(_FINDINGS[finding])


def code(concept: tuple[str, str, str]) -> "Code":
    """(value, scheme, meaning) as pydicom's `Code`."""
    from pydicom.sr.coding import Code

    return Code(*concept)
