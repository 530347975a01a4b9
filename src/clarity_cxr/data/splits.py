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
    order; both depend on which patients the release holds. Films that have a split already keep it.

    Args:
        films: as `Release.films`; columns `image_id`, `patient_id`, `official` and, if there, `split` are read.
        boxes: as `Release.boxes`; column `image_id` is read.
    """
    patients = films["patient_id"].to_numpy()
    if "split" not in films:
        films = films.assign(split=_official_splits(films["official"].eq("test").to_numpy(), patients))
    test = films["split"].eq("test").to_numpy()
    boxed = films["image_id"].isin(boxes["image_id"]).to_numpy() & test
    halved = _draw_patients(patients[boxed], round(boxed.sum() / 2), LOCALIZATION_SEED)
    in_half = films["patient_id"].isin(halved).to_numpy()
    return films.assign(localization=np.select([boxed & in_half, boxed], ["val", "test"], ""))


def _official_splits(test: np.ndarray, patients: np.ndarray) -> np.ndarray:
    validation = _draw_patients(patients[~test], round(VALIDATION_SHARE * len(test)), VALIDATION_SEED)
    return np.select([test, np.isin(patients, validation)], ["test", "val"], "train")


def patients_across(films: pd.DataFrame, column: str) -> list[int | str]:
    """Ids of the patients whose films have more than one non-empty value in `column`, in ascending order."""
    present = films[films[column].ne("")]
    values = present.groupby("patient_id")[column].nunique()
    return values.index[values > 1].tolist()


def _draw_patients(patients: np.ndarray, target: int, seed: str) -> np.ndarray:
    """Ids of patients, in hash order, whose films number `target` or as near to it as whole patients allow.

    Args:
        patients: (n,) patient id of each film.
        target: number of films wanted.
        seed: name of the draw; another name gives an independent order.
    """
    unique, counts = np.unique(patients, return_counts=True)
    order = np.argsort([_hash(seed, patient) for patient in unique], kind="stable")
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


def _hash(seed: str, patient: object) -> int:
    return int.from_bytes(hashlib.blake2b(f"{seed}:{patient}".encode(), digest_size=8).digest(), "little")
