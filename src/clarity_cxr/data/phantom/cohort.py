"""Who was filmed and what they have: patients, follow-ups, labels, splits, and the table of the release."""

from functools import lru_cache

import numpy as np
import pandas as pd
from scipy.special import ndtri

from clarity_cxr.data.phantom.config import PhantomConfig
from clarity_cxr.data.phantom.draws import Stream, generator
from clarity_cxr.findings import FINDINGS

NIH_PREVALENCE = {
    "Atelectasis": 0.103,
    "Cardiomegaly": 0.025,
    "Consolidation": 0.042,
    "Edema": 0.021,
    "Effusion": 0.119,
    "Emphysema": 0.022,
    "Fibrosis": 0.015,
    "Hernia": 0.002,
    "Infiltration": 0.177,
    "Mass": 0.052,
    "Nodule": 0.056,
    "Pleural_Thickening": 0.030,
    "Pneumonia": 0.013,
    "Pneumothorax": 0.047,
}
"""Share of NIH ChestX-ray14's films with each finding."""

EVEN_PREVALENCE = 0.13
"""Share of every finding at rarity 0."""

CO_OCCURRENCE = {
    ("Atelectasis", "Effusion"): 0.28,
    ("Cardiomegaly", "Edema"): 0.30,
    ("Cardiomegaly", "Effusion"): 0.22,
    ("Consolidation", "Effusion"): 0.18,
    ("Consolidation", "Pneumonia"): 0.15,
    ("Edema", "Effusion"): 0.18,
    ("Edema", "Infiltration"): 0.15,
    ("Edema", "Pneumonia"): 0.12,
    ("Emphysema", "Pneumothorax"): 0.35,
    ("Fibrosis", "Pleural_Thickening"): 0.22,
    ("Infiltration", "Pneumonia"): 0.12,
    ("Mass", "Nodule"): 0.20,
    ("Atelectasis", "Pneumothorax"): 0.10,
    ("Edema", "Emphysema"): -0.20,
    ("Cardiomegaly", "Emphysema"): -0.15,
}
"""Correlations of the latent severities, beyond the common `SICKNESS`."""

SICKNESS = 0.06
"""Correlation of any two findings' latent severities."""

PERSISTENCE = 0.8
"""Share of a latent severity's variance that belongs to the patient, not to the film."""

_DETECTORS = ((2500, 2048, 0.168), (2048, 2500, 0.168), (2992, 2991, 0.143), (2992, 2543, 0.143), (3056, 2544, 0.139))
_GROUP, _GROUP_TEST = 9, 2


def prevalences(rarity: float) -> np.ndarray:
    """Share of films with each finding (14,) at a rarity in [0, 1]."""
    nih = np.array([NIH_PREVALENCE[name] for name in FINDINGS])
    return nih**rarity * EVEN_PREVALENCE ** (1 - rarity)


def _mixing() -> np.ndarray:
    """Square root of the latent correlation matrix (14, 14)."""
    count = len(FINDINGS)
    correlation = np.full((count, count), SICKNESS)
    for (first, second), value in CO_OCCURRENCE.items():
        i, j = FINDINGS.index(first), FINDINGS.index(second)
        correlation[i, j] = correlation[j, i] = SICKNESS + value
    np.fill_diagonal(correlation, 1.0)
    return np.linalg.cholesky(correlation)


@lru_cache(maxsize=4)
def draw_cohort(config: PhantomConfig) -> pd.DataFrame:
    """One row per film, in the order of the release.

    A longer release of the same seed begins with the same films.

    Returns:
        Columns `image_id, patient_id, follow_up, age, sex, view, width, height, spacing, official` ("train_val" or
        "test"); one bool column per finding; `spurious` (bool): whether the film carries the spurious marker.
    """
    films = config.films
    people = generator(config.seed, Stream.COHORT).random((films, 8))
    counts = 1 + np.minimum(24, np.floor(np.log(1 - people[:, 0]) / np.log(1 - 1 / 3.6))).astype(int)
    last = int(np.searchsorted(np.cumsum(counts), films)) + 1
    people, counts = people[:last], counts[:last]
    patient = np.repeat(np.arange(last), counts)[:films]
    first = np.concatenate([[0], np.cumsum(counts)[:-1]])
    follow_up = np.arange(films) - first[patient]
    visits = generator(config.seed, Stream.COHORT, 1).random((films, 4))
    labels = _draw_labels(config, patient, last)
    age = np.clip(np.round(48 + 16.5 * ndtri(np.clip(people[:, 1], 1e-6, 1 - 1e-6))), 17, 92)[patient]
    bedside = 0.9 * people[patient, 3] + 0.5 * visits[:, 0] + 0.08 * np.minimum(labels.sum(1), 3)
    detector = np.array(_DETECTORS)[(visits[:, 1] * len(_DETECTORS)).astype(int)]
    table = pd.DataFrame(
        {
            "image_id": [f"{p + 1:08d}_{f:03d}.png" for p, f in zip(patient, follow_up, strict=True)],
            "patient_id": patient + 1,
            "follow_up": follow_up,
            "age": (age + follow_up // 3).astype(int),
            "sex": np.where(people[patient, 2] < 0.56, "M", "F"),
            "view": np.where(bedside > 0.82, "AP", "PA"),
            "width": detector[:, 0].astype(int),
            "height": detector[:, 1].astype(int),
            "spacing": detector[:, 2],
            "official": np.where(_in_test(people[:, 4])[patient], "test", "train_val"),
        }
    )
    table[list(FINDINGS)] = labels
    table["spurious"] = _draw_spurious(config, labels, visits[:, 2])
    return table


def _in_test(numbers: np.ndarray) -> np.ndarray:
    """Two of every nine patients in a row (22 %), so that even a tiny release has both parts."""
    test = np.zeros(len(numbers), bool)
    for start in range(0, len(numbers), _GROUP):
        group = numbers[start : start + _GROUP]
        test[start + np.argsort(group, kind="stable")[: max(1, round(len(group) * _GROUP_TEST / _GROUP))]] = True
    return test


def _draw_labels(config: PhantomConfig, patient: np.ndarray, patients: int) -> np.ndarray:
    """Labels (films, 14): latent normal severities over thresholds that give the prevalences."""
    mixing = _mixing().T
    count = len(FINDINGS)
    lasting = generator(config.seed, Stream.LABELS).standard_normal((patients, count)) @ mixing
    passing = generator(config.seed, Stream.LABELS, 1).standard_normal((len(patient), count)) @ mixing
    severity = np.sqrt(PERSISTENCE) * lasting[patient] + np.sqrt(1 - PERSISTENCE) * passing
    return severity > ndtri(1 - prevalences(config.rarity))


def _draw_spurious(config: PhantomConfig, labels: np.ndarray, numbers: np.ndarray) -> np.ndarray:
    if config.spurious_finding is None:
        return np.zeros(len(labels), bool)
    positive = labels[:, FINDINGS.index(config.spurious_finding)]
    strength = config.spurious_strength
    return numbers < np.where(positive, strength, 1 - strength)
