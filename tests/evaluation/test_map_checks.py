import numpy as np
import pytest
import torch
from scipy.stats import spearmanr

from clarity_cxr.evaluation.map_checks import (
    FRACTIONS,
    Pointing,
    area_under,
    deletion_insertion,
    grid_maps,
    marker_effect,
    paint_marker,
    pointing_hit,
    randomised_models,
    rank_correlation,
    shift_stability,
)
from clarity_cxr.evaluation.protocols import TruthBoxes
from clarity_cxr.findings import FINDINGS
from clarity_cxr.models import create_model

SIZE, GRID = 64, 8


@pytest.fixture(scope="module")
def model():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return create_model("clarity_t8_64", width=32, depth=2, heads=2, attention_blocks=2, token_blocks=2).eval()


def make_films(count=4, seed=0):
    return np.random.default_rng(seed).integers(0, 255, (count, SIZE, SIZE), dtype=np.uint8)


def brightness(films):
    """Probability of every finding: mean grey of the upper left quarter."""
    share = films[:, : SIZE // 2, : SIZE // 2].mean(axis=(1, 2)) / 255
    return np.repeat(share[:, None], len(FINDINGS), axis=1).astype(np.float32)


def test_the_peak_points():
    heat = np.zeros((10, 10))
    heat[4, 6] = 1
    assert pointing_hit(heat, np.array([[6.0, 4, 7, 5]])) == 1
    assert pointing_hit(heat, np.array([[0.0, 0, 6, 10]])) == 0
    heat[0, 0] = 1
    assert pointing_hit(heat, np.array([[0.0, 0, 6, 10]])) == 0.5
    assert pointing_hit(np.zeros((10, 10)), np.array([[0.0, 0, 10, 10]])) == 0


def test_pointing_notes_the_maps_that_go_by():
    rows = np.array([3, 3, 8])
    boxes = np.array([[0.0, 0, 2, 2], [8, 8, 10, 10], [0, 0, 2, 2]])
    truth = {"Mass": TruthBoxes(rows, boxes, rows, np.ones(3, dtype=bool))}

    def source(finding, rows):
        maps = np.zeros((len(rows), 10, 10), dtype=np.float32)
        maps[:, 9, 9] = 1
        return maps

    pointing = Pointing(source, truth)
    pointing("Mass", np.array([3, 8]))
    assert pointing.hits == {"Mass": {3: 1.0, 8: 0.0}}


def test_a_map_on_the_right_place_deletes_and_inserts_early():
    films = np.zeros((2, SIZE, SIZE), dtype=np.uint8)
    films[:, : SIZE // 2, : SIZE // 2] = 255
    right = np.zeros((2, SIZE, SIZE))
    right[:, : SIZE // 2, : SIZE // 2] = 1
    good = deletion_insertion(brightness, films, right, 0, GRID)
    bad = deletion_insertion(brightness, films, 1 - right, 0, GRID)
    assert good["deletion"].shape == (2, len(FRACTIONS))
    np.testing.assert_allclose(good["deletion"][:, 0], 1)
    np.testing.assert_allclose(good["insertion"][:, -1], 1)
    np.testing.assert_allclose(good["deletion"][:, -1], good["insertion"][:, 0])
    assert (area_under(good["deletion"]) < area_under(bad["deletion"])).all()
    assert (area_under(good["insertion"]) > area_under(bad["insertion"])).all()


def test_area_of_a_straight_line():
    np.testing.assert_allclose(area_under(np.array([FRACTIONS, 1 - 0 * FRACTIONS])), [0.5, 1])


def test_rank_correlation_is_scipys():
    generator = np.random.default_rng(0)
    first, second = np.round(generator.random((2, 3, 5, 5)), 1)
    expected = [spearmanr(a.ravel(), b.ravel()).statistic for a, b in zip(first, second, strict=True)]
    np.testing.assert_allclose(rank_correlation(first, second), expected)
    np.testing.assert_array_equal(rank_correlation(first, np.ones_like(first)), 0)


def test_randomised_models_share_what_was_not_randomised(model):
    found = randomised_models(model, seed=1)
    heads, later, everything = found.values()
    own = model.state_dict()
    for name, tensor in heads.state_dict().items():
        if name.startswith("backbone."):
            torch.testing.assert_close(tensor, own[name], rtol=0, atol=0)
    assert not torch.equal(heads.pooling.weights, model.pooling.weights)
    key = "blocks.{}.attn.qkv.weight"
    assert torch.equal(later.backbone.state_dict()[key.format(0)], model.backbone.state_dict()[key.format(0)])
    assert not torch.equal(later.backbone.state_dict()[key.format(1)], model.backbone.state_dict()[key.format(1)])
    assert not torch.equal(everything.backbone.state_dict()[key.format(0)], model.backbone.state_dict()[key.format(0)])
    films = make_films()
    own_maps = grid_maps(model, films, [0] * 4)
    np.testing.assert_allclose(rank_correlation(own_maps, own_maps), 1)
    assert rank_correlation(own_maps, grid_maps(everything, films, [0] * 4)).mean() < 0.9


def test_an_even_film_does_not_change_when_it_is_shifted(model):
    films = np.full((2, SIZE, SIZE), 90, dtype=np.uint8)
    found = shift_stability(model, brightness, films, [0, 1])
    assert found["shift"] == 2
    assert found["probability_change"] == pytest.approx(0)
    assert found["correlation"] <= 1 + 1e-9


def test_the_marker_is_seen_by_a_model_that_looks_there(model):
    films = np.zeros((3, SIZE, SIZE), dtype=np.uint8)
    painted = paint_marker(films)
    ys, xs = np.nonzero(painted[0])
    assert ys.min() > 0.85 * SIZE
    assert xs.max() < 0.15 * SIZE
    assert films.max() == 0

    def looks_at_the_corner(films):
        probabilities = np.full((len(films), len(FINDINGS)), 0.1, dtype=np.float32)
        probabilities[:, 9] = 0.1 + 0.8 * (films[:, ys[0], xs[0]] > 200)
        return probabilities

    labels = np.zeros((3, len(FINDINGS)), dtype=bool)
    labels[:, 0] = True
    effects = marker_effect(model, looks_at_the_corner, films, labels, FINDINGS)
    assert effects["Mass"]["probability_after"] - effects["Mass"]["probability_before"] == pytest.approx(0.8)
    assert effects["Nodule"]["probability_after"] == effects["Nodule"]["probability_before"]
    assert effects["Atelectasis"]["films"] == 0
    assert 0 <= effects["Mass"]["heat_after"] <= 1
