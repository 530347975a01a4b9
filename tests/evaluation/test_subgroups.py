import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import roc_auc_score

from clarity_cxr.evaluation.intervals import draw_patients
from clarity_cxr.evaluation.subgroups import summarise_subgroups
from clarity_cxr.findings import FINDINGS


def make_films(count=600, seed=0):
    generator = np.random.default_rng(seed)
    index = pd.DataFrame({"patient_id": np.arange(count) // 2, "sex": np.where(np.arange(count) % 3 == 0, "F", "M")})
    index["age"] = np.where(np.arange(count) < 5, np.nan, generator.integers(5, 90, count))
    index["follow_up"] = np.arange(count) % 8
    labels = generator.random((count, 14)) < 0.3
    labels[:, 0] = np.arange(count) == 0
    probabilities = np.clip(generator.normal(0.4, 0.2, labels.shape) + 0.2 * labels, 0, 1)
    probabilities[:, 9] = np.where(index["sex"] == "F", labels[:, 9] * 0.8 + 0.1, probabilities[:, 9])
    return index, probabilities, labels


@pytest.fixture(scope="module")
def summary():
    index, probabilities, labels = make_films()
    draws = draw_patients(index["patient_id"].to_numpy(), 60, 0)
    return summarise_subgroups(index, probabilities, labels, draws, 0.5)


def test_figures_of_a_group_are_those_of_its_films(summary):
    index, probabilities, labels = make_films()
    mine = (index["sex"] == "M").to_numpy()
    found = summary["sex"]["groups"]["male"]
    assert found["films"] == mine.sum()
    assert found["patients"] == index["patient_id"][mine].nunique()
    entry = found["per_finding"]["Edema"]
    at = FINDINGS.index("Edema")
    assert entry["auc"] == pytest.approx(roc_auc_score(labels[mine, at], probabilities[mine, at]))
    decided = probabilities[mine, at] >= 0.5
    assert entry["sensitivity"] == pytest.approx(decided[labels[mine, at]].mean())
    assert entry["false_positive_rate"] == pytest.approx(decided[~labels[mine, at]].mean())
    assert entry["auc_interval"][0] < entry["auc"] < entry["auc_interval"][1]
    assert entry["sensitivity_films"] == labels[mine, at].sum()


def test_the_largest_gap_is_the_one_that_was_made(summary):
    gap = summary["sex"]["largest_gap"]["auc"]
    assert (gap["finding"], gap["high"], gap["low"]) == ("Mass", "female", "male")
    assert gap["interval"][0] < gap["gap"] < gap["interval"][1]


def test_small_figures_are_marked_and_left_out(summary):
    entry = summary["sex"]["groups"]["female"]["per_finding"][FINDINGS[0]]
    assert entry["auc_small"]
    assert not entry["false_positive_rate_small"]
    assert summary["sex"]["groups"]["female"]["macro"]["auc_findings"] == 13


def test_groups_unknown_values_and_missing_attributes(summary):
    assert list(summary["age"]["groups"]) == ["under 18", "18 to 39", "40 to 59", "60 and over"]
    assert summary["age"]["unknown"] == 5
    assert list(summary["follow_up"]["groups"]) == ["first film", "1st to 4th", "5th and later"]
    assert "view" not in summary
