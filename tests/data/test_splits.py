"""Splits: by patient, of the right sizes, and independent of file order."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from clarity_cxr.data.release import read_release
from clarity_cxr.data.splits import assign_splits, patients_across
from tests.data.conftest import REAL_RELEASE


def _films(counts: np.ndarray, first_test_patient: int) -> pd.DataFrame:
    patients = np.repeat(np.arange(len(counts)), counts)
    return pd.DataFrame(
        {
            "image_id": [f"{row:08d}_000.png" for row in range(len(patients))],
            "patient_id": patients,
            "official": np.where(patients < first_test_patient, "train_val", "test"),
        }
    )


def _boxes(films: pd.DataFrame, number: int) -> pd.DataFrame:
    return films.loc[films["official"].eq("test"), ["image_id"]].head(number)


@pytest.fixture
def films() -> pd.DataFrame:
    return _films(np.random.default_rng(0).geometric(0.3, 1000), first_test_patient=800)


def test_validation_is_a_tenth_of_all_films_and_test_the_official_list(films: pd.DataFrame) -> None:
    splits = assign_splits(films, _boxes(films, 0))

    assert splits["split"].eq("val").sum() == round(len(films) / 10)
    assert splits["split"].eq("test").equals(films["official"].eq("test"))
    assert patients_across(splits, "split") == []
    assert splits["localization"].eq("").all()


def test_boxed_test_films_are_halved_by_patient(films: pd.DataFrame) -> None:
    boxes = _boxes(films, 200)

    splits = assign_splits(films, boxes)

    boxed = films["image_id"].isin(boxes["image_id"])
    assert splits.loc[boxed, "localization"].value_counts().to_dict() == {"val": 100, "test": 100}
    assert splits.loc[~boxed, "localization"].eq("").all()
    assert patients_across(splits, "localization") == []


def test_splits_do_not_depend_on_the_order_of_films(films: pd.DataFrame) -> None:
    boxes = _boxes(films, 200)
    shuffled = films.sample(frac=1, random_state=1)

    expected = assign_splits(films, boxes).set_index("image_id").sort_index()
    found = assign_splits(shuffled, boxes).set_index("image_id").sort_index()

    pd.testing.assert_frame_equal(found, expected)


def test_a_count_that_whole_patients_cannot_reach_is_approached() -> None:
    films = _films(np.full(20, 3), first_test_patient=20)  # a tenth is 6: two patients of three films
    assert assign_splits(films, _boxes(films, 0))["split"].eq("val").sum() == 6
    films = _films(np.full(7, 4), first_test_patient=7)  # 3 of 28 is nearer to one patient than to none
    assert assign_splits(films, _boxes(films, 0))["split"].eq("val").sum() == 4
    films = _films(np.full(3, 5), first_test_patient=3)  # 2 of 15 is nearer to none
    assert assign_splits(films, _boxes(films, 0))["split"].eq("val").sum() == 0


def test_the_draw_is_pinned(films: pd.DataFrame) -> None:
    """A change of hash or seed moves patients between splits and makes earlier results incomparable."""
    validation = assign_splits(films, _boxes(films, 0)).query("split == 'val'")["patient_id"].unique()

    assert validation[:5].tolist() == [14, 22, 30, 31, 49]


def test_patients_in_two_values_are_listed() -> None:
    films = pd.DataFrame({"patient_id": [3, 3, 1, 1, 2], "split": ["train", "test", "val", "val", "train"]})

    assert patients_across(films, "split") == [3]


@pytest.mark.skipif(not REAL_RELEASE.is_dir(), reason="the NIH subset is not beside the project")
def test_the_official_lists_give_the_published_counts() -> None:
    films = pd.concat(
        pd.DataFrame({"image_id": _entries(REAL_RELEASE / f"{official}_list.txt"), "official": official})
        for official in ("train_val", "test")
    )
    films["patient_id"] = films["image_id"].str[:8].astype(int)

    splits = assign_splits(films, _boxes(films, 0))

    assert splits["split"].value_counts().to_dict() == {"train": 75312, "val": 11212, "test": 25596}
    assert patients_across(splits, "split") == []


@pytest.mark.skipif(not REAL_RELEASE.is_dir(), reason="the NIH subset is not beside the project")
def test_the_real_subset() -> None:
    release = read_release(REAL_RELEASE)

    splits = assign_splits(release.films, release.boxes)

    assert splits["split"].value_counts().to_dict() == {"train": 1413, "val": 193, "test": 321}
    assert splits["localization"].value_counts().to_dict() == {"": 1870, "test": 29, "val": 28}


def _entries(path: Path) -> list[str]:
    return path.read_text().split()
