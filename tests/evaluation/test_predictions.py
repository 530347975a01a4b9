import numpy as np
import pytest

from clarity_cxr.evaluation.predictions import predict_store
from clarity_cxr.findings import BOXED_FINDINGS, BOXED_INDICES, FINDINGS
from tests.evaluation.readable_store import GRID, SIZE, ReadingModel, make_content

NOTHING = np.zeros(0, dtype=np.int64)


@pytest.fixture
def store(tmp_path):
    return make_content().write(tmp_path / "store")


def predict(model, store, rows, map_rows=NOTHING, mean_rows=NOTHING, **options):
    return predict_store(model, store, rows, map_rows=map_rows, mean_rows=mean_rows, progress=False, **options)


def test_probabilities_and_maps_belong_to_their_rows(store):
    rows, map_rows = store.rows("test"), store.localization_rows("val")
    found = predict(ReadingModel(), store, rows[::-1], map_rows, batch_size=7)
    np.testing.assert_array_equal(found.rows, rows)
    some = rows[[5, 1, 30]]
    np.testing.assert_allclose(found.probabilities_of(some), np.where(store.labels[some], 0.9, 0.1), rtol=1e-6)
    finding = FINDINGS.index("Mass")
    maps = found.maps_of(map_rows[[3, 0]], finding)
    films = store.films[map_rows[[3, 0]]].reshape(2, GRID, SIZE // GRID, GRID, SIZE // GRID).max(axis=(2, 4))
    np.testing.assert_allclose(maps, np.where(films == 200, 1 / 65, 0), rtol=1e-6)


@pytest.mark.parametrize("batch_size", [1, 16, 1000])
def test_batch_size_changes_nothing(store, batch_size):
    rows, halves = store.rows("test"), store.localization_rows("val")
    expected = predict(ReadingModel(), store, rows, halves, store.rows("val"), batch_size=5)
    found = predict(ReadingModel(), store, rows, halves, store.rows("val"), batch_size=batch_size)
    for name in ("rows", "probabilities", "map_rows", "maps", "mean_counts"):
        np.testing.assert_array_equal(getattr(found, name), getattr(expected, name))
    np.testing.assert_allclose(found.mean_maps, expected.mean_maps, atol=1e-6)


def test_attention_is_asked_for_only_where_maps_are_needed(store):
    model = ReadingModel()
    predict(model, store, store.rows("test"), store.localization_rows("val"), batch_size=10)
    asked = {wanted: sum(count for count, flag in model.asked if flag is wanted) for wanted in (True, False)}
    assert asked == {True: len(store.localization_rows("val")), False: 40 - len(store.localization_rows("val"))}


def test_mean_map_is_over_the_films_labelled_with_the_finding(store):
    rows = store.rows("val")
    found = predict(ReadingModel(), store, NOTHING, NOTHING, rows, batch_size=9)
    for position, finding in enumerate(BOXED_INDICES):
        labelled = rows[store.labels[rows, finding]]
        films = store.films[labelled].reshape(-1, GRID, SIZE // GRID, GRID, SIZE // GRID).max(axis=(2, 4)) == 200
        assert found.mean_counts[position] == len(labelled) > 0
        np.testing.assert_allclose(found.mean_maps[position], films.mean(axis=0), atol=1e-6)


def test_a_finding_on_no_film_has_an_empty_mean_map(store):
    mass = FINDINGS.index("Mass")
    rows = np.flatnonzero(~store.labels[:, mass])[:20]
    found = predict(ReadingModel(), store, NOTHING, NOTHING, rows)
    assert found.mean_counts[BOXED_FINDINGS.index("Mass")] == 0
    assert not found.mean_maps[BOXED_FINDINGS.index("Mass")].any()


@pytest.mark.parametrize("training", [True, False])
def test_the_model_keeps_its_mode_even_after_an_error(store, training):
    model = ReadingModel().train(training)
    predict(model, store, store.rows("val"))
    assert model.training is training
    model.preprocess = None
    with pytest.raises(TypeError):
        predict(model, store, store.rows("val"))
    assert model.training is training


def test_without_segment_cam_the_maps_are_the_attention(store):
    rows = store.localization_rows("val")
    found = predict(ReadingModel(segment_cam=False), store, NOTHING, rows)
    dim = store.films[rows[0], 0, 0] / 200 / 65  # the label pixel, which the mask would remove
    np.testing.assert_allclose(found.maps[0, 0, 0, 0], dim, rtol=1e-5)
