"""Train, validation and test splits by patient, from a hash of the patient id and a named seed alone."""

import hashlib

import numpy as np
import pandas as pd

VALIDATION_SEED = "clarity-cxr/validation/1"
LOCALIZATION_SEED = "clarity-cxr/localization/1"
VALIDATION_SHARE = 0.1
"""Share of all films, the official test films included, that is drawn from the official train_val list."""


def assign_splits(films: pd.DataFrame, boxes: pd.DataFrame) -> pd.DataFrame:
    """Add the columns `split` ("train", "val", "test") and `localization` ("val", "test", "").

    Test is the official test list. Validation is a tenth of *all* films, drawn patient-wise from the official
    train_val list; on the full release that is 11,212 films and leaves 75,312 for training. The test films with boxes
    are halved patient-wise. Patients are drawn in the order of a hash of their id, so neither draw depends on file
    order; both depend on which patients the release holds.

    Args:
        films: as `Release.films`; columns `image_id`, `patient_id` and `official` are read.
        boxes: as `Release.boxes`; column `image_id` is read.
    """
    test = films["official"].eq("test").to_numpy()
    patients = films["patient_id"].to_numpy()
    validation = _draw_patients(patients[~test], round(VALIDATION_SHARE * len(films)), VALIDATION_SEED)
    boxed = films["image_id"].isin(boxes["image_id"]).to_numpy() & test
    halved = _draw_patients(patients[boxed], round(boxed.sum() / 2), LOCALIZATION_SEED)
    in_validation = films["patient_id"].isin(validation).to_numpy()
    in_half = films["patient_id"].isin(halved).to_numpy()
    return films.assign(
        split=np.select([test, in_validation], ["test", "val"], "train"),
        localization=np.select([boxed & in_half, boxed], ["val", "test"], ""),
    )


def patients_across(films: pd.DataFrame, column: str) -> list[int]:
    """Ids of the patients whose films have more than one non-empty value in `column`, in ascending order."""
    present = films[films[column].ne("")]
    values = present.groupby("patient_id")[column].nunique()
    return [int(patient) for patient in values.index[values > 1]]


def _draw_patients(patients: np.ndarray, target: int, seed: str) -> np.ndarray:
    """Ids of patients, in hash order, whose films number `target` or as near to it as whole patients allow.

    Args:
        patients: (n,) patient id of each film.
        target: number of films wanted.
        seed: name of the draw; another name gives an independent order.
    """
    unique, counts = np.unique(patients, return_counts=True)
    order = np.argsort([_hash(seed, int(patient)) for patient in unique], kind="stable")
    unique, counts = unique[order], counts[order]
    drawn = np.cumsum(counts) <= target
    missing = target - int(counts[drawn].sum())
    for position in np.flatnonzero(~drawn):
        if counts[position] <= missing:
            drawn[position] = True
            missing -= int(counts[position])
        if not missing:
            break
    rest = np.flatnonzero(~drawn)
    if missing and len(rest):
        smallest = rest[np.argmin(counts[rest])]
        drawn[smallest] = counts[smallest] - missing < missing
    return unique[drawn]


def _hash(seed: str, patient: int) -> int:
    return int.from_bytes(hashlib.blake2b(f"{seed}:{patient}".encode(), digest_size=8).digest(), "little")
