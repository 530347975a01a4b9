"""Films, priors and boxes of phantom releases."""

import numpy as np
import pytest

from clarity_cxr.data.phantom import PhantomConfig, draw_films
from clarity_cxr.data.phantom.cohort import draw_cohort
from clarity_cxr.findings import FINDINGS, PRIORS

CONFIG = PhantomConfig(films=300, size=96, seed=5, rarity=0.0)


@pytest.fixture(scope="module")
def batch():
    return draw_films(CONFIG, np.arange(CONFIG.films))


def test_a_film_does_not_depend_on_its_batch(batch):
    chosen = np.array([41, 7, 299, 8, 7])
    other = draw_films(CONFIG, chosen)
    np.testing.assert_array_equal(other.films, batch.films[chosen])
    np.testing.assert_array_equal(other.priors, batch.priors[chosen])
    np.testing.assert_array_equal(other.labels, batch.labels[chosen])
    for row, index in enumerate(chosen):
        corners = ["finding", "x0", "y0", "x1", "y1"]
        here = other.boxes.loc[other.boxes["row"] == row, corners].to_numpy()
        there = batch.boxes.loc[batch.boxes["row"] == index, corners].to_numpy()
        np.testing.assert_array_equal(here, there)


def test_a_longer_release_begins_with_the_same_films(batch):
    longer = draw_films(PhantomConfig(films=500, size=96, seed=5, rarity=0.0), np.arange(0, 300, 37))
    np.testing.assert_array_equal(longer.films, batch.films[::37])


def test_another_seed_draws_other_films(batch):
    other = draw_films(PhantomConfig(films=300, size=96, seed=6, rarity=0.0), np.arange(4))
    assert all(not np.array_equal(a, b) for a, b in zip(other.films, batch.films, strict=False))


def test_an_index_outside_the_release_is_an_error():
    with pytest.raises(IndexError):
        draw_films(CONFIG, np.array([300]))


def test_exactly_the_labelled_findings_have_boxes(batch):
    for row, labels in enumerate(batch.labels):
        painted = set(batch.boxes.loc[batch.boxes["row"] == row, "finding"])
        assert painted == {name for name, on in zip(FINDINGS, labels, strict=True) if on}


def test_boxes_lie_in_the_film_and_are_not_empty(batch):
    boxes = batch.boxes
    assert boxes[["x0", "y0"]].min().min() >= 0
    assert boxes[["x1", "y1"]].max().max() <= 1
    assert (boxes["x1"] - boxes["x0"]).min() >= 1 / 96
    assert (boxes["y1"] - boxes["y0"]).min() >= 1 / 96


def test_boxes_have_the_size_of_their_finding(batch):
    sides = batch.boxes.assign(
        side=np.maximum(batch.boxes["x1"] - batch.boxes["x0"], batch.boxes["y1"] - batch.boxes["y0"])
    )
    longest = sides.groupby("finding")["side"].median()
    assert longest["Nodule"] < 0.085  # 3 cm on a 38 cm film
    assert 0.085 < longest["Mass"] < 0.22
    assert 0.35 < longest["Cardiomegaly"] < 0.65
    assert longest["Emphysema"] > 0.6


def test_lesions_lie_in_their_regions(batch):
    """Boxes' middles of round lesions are in a lung, hernias' beside the midline, effusions' in the lower half."""
    boxes = batch.boxes.assign(
        x=(batch.boxes["x0"] + batch.boxes["x1"]) / 2, y=(batch.boxes["y0"] + batch.boxes["y1"]) / 2
    )
    round_lesions = boxes[boxes["finding"].isin(["Mass", "Nodule"])]
    lungs = batch.priors[
        round_lesions["row"], 0, (round_lesions["y"] * 128).astype(int), (round_lesions["x"] * 128).astype(int)
    ]
    assert lungs.mean() > 0.95
    hernias = boxes[boxes["finding"] == "Hernia"]
    assert hernias["x"].between(0.35, 0.68).all()
    assert (boxes.loc[boxes["finding"] == "Effusion", "y"] > 0.5).mean() > 0.95


def test_priors_are_nested_and_of_plausible_size(batch):
    lungs, heart, lungs_mediastinum, diaphragm_mediastinum = (batch.priors[:, k] for k in range(len(PRIORS)))
    assert batch.priors.shape == (300, 4, 128, 128)
    assert not (lungs & ~lungs_mediastinum).any()
    assert not (heart & ~lungs_mediastinum).any()
    assert not (heart & ~diaphragm_mediastinum).any()
    assert not (lungs & heart).any()
    assert 0.15 < lungs.mean((1, 2)).min() < lungs.mean((1, 2)).max() < 0.55
    assert 0.03 < heart.mean((1, 2)).min() < heart.mean((1, 2)).max() < 0.25
    columns = np.arange(128)
    centre = (heart * columns).sum((1, 2)) / heart.sum((1, 2))
    assert (centre > 64).mean() > 0.95  # the heart lies towards the picture's right


def test_lungs_are_darker_than_the_heart():
    films = draw_films(PhantomConfig(films=60, size=128, seed=1, rarity=1.0), np.arange(60))
    lungs = (films.films * films.priors[:, 0]).sum((1, 2)) / films.priors[:, 0].sum((1, 2))
    heart = (films.films * films.priors[:, 1]).sum((1, 2)) / films.priors[:, 1].sum((1, 2))
    assert (lungs + 30 < heart).mean() > 0.9


def test_all_sizes_show_the_same_patient():
    small = draw_films(PhantomConfig(films=12, size=64, seed=3, rarity=0.0), np.arange(6))
    large = draw_films(PhantomConfig(films=12, size=256, seed=3, rarity=0.0), np.arange(6))
    np.testing.assert_array_equal(small.priors, large.priors)
    reduced = large.films.reshape(6, 64, 4, 64, 4).mean((2, 4))
    for a, b in zip(small.films, reduced, strict=True):
        assert np.corrcoef(a.reshape(-1), b.reshape(-1))[0, 1] > 0.97
    assert small.boxes["finding"].tolist() == large.boxes["finding"].tolist()


@pytest.mark.parametrize("size", [65, 1024])
def test_any_size_can_be_drawn(size):
    batch = draw_films(PhantomConfig(films=2, size=size, rarity=0.0), np.arange(2))
    assert batch.films.shape == (2, size, size)
    assert batch.films.std() > 20


def test_follow_ups_show_the_same_anatomy(batch):
    table = draw_cohort(CONFIG)
    first = table.index[(table["follow_up"] == 0) & (table["patient_id"].duplicated(keep=False))].to_numpy()
    overlap = _overlap(batch.priors[first, 0], batch.priors[first + 1, 0])
    strangers = _overlap(batch.priors[first, 0], np.roll(batch.priors[first, 0], 1, axis=0))
    assert overlap > strangers + 0.02


def _overlap(a: np.ndarray, b: np.ndarray) -> float:
    return float(((a & b).sum((1, 2)) / (a | b).sum((1, 2))).mean())


def test_the_spurious_marker_is_bright_and_nowhere_else():
    config = PhantomConfig(films=80, size=96, rarity=0.0, spurious_finding="Mass", spurious_strength=0.9)
    marked, plain = (
        draw_films(config, np.arange(80)),
        draw_films(PhantomConfig(films=80, size=96, rarity=0.0), np.arange(80)),
    )
    spurious = marked.table["spurious"].to_numpy()
    changed = (marked.films != plain.films).any((1, 2))
    np.testing.assert_array_equal(changed, spurious)
    assert 0 < spurious.sum() < 80
    assert not (marked.films != plain.films)[:, : int(0.85 * 96)].any()
