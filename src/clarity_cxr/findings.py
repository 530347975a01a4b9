"""The 14 findings of NIH ChestX-ray14, their spellings, and the anatomical prior of each (Table 1)."""

FINDINGS: tuple[str, ...] = (
    "Atelectasis",
    "Cardiomegaly",
    "Consolidation",
    "Edema",
    "Effusion",
    "Emphysema",
    "Fibrosis",
    "Hernia",
    "Infiltration",
    "Mass",
    "Nodule",
    "Pleural_Thickening",
    "Pneumonia",
    "Pneumothorax",
)
"""Class order of every tensor, table and file."""

NO_FINDING = "No Finding"
"""The release's label for a film with none of the 14."""

BOXED_FINDINGS: tuple[str, ...] = (
    "Atelectasis",
    "Cardiomegaly",
    "Effusion",
    "Infiltration",
    "Mass",
    "Nodule",
    "Pneumonia",
    "Pneumothorax",
)
"""The eight findings that have radiologists' boxes."""

BOXED_INDICES: tuple[int, ...] = tuple(FINDINGS.index(name) for name in BOXED_FINDINGS)

BOX_FILE_SPELLINGS: dict[str, str] = {"Infiltrate": "Infiltration"}
"""Names that the release's box file spells differently."""

PRIORS: tuple[str, ...] = ("lungs", "heart", "lungs_mediastinum", "diaphragm_mediastinum")
"""The four distinct masks behind Table 1, in storage order."""

_PRIOR_BY_FINDING = {"Cardiomegaly": "heart", "Hernia": "diaphragm_mediastinum", "Mass": "lungs_mediastinum"}

PRIOR_OF_FINDING: tuple[int, ...] = tuple(PRIORS.index(_PRIOR_BY_FINDING.get(name, "lungs")) for name in FINDINGS)
"""For each finding, the index of its prior in `PRIORS` (Table 1)."""
