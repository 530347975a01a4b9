import numpy as np
import pytest

from clarity_cxr.evaluation.controls import mean_maps, model_maps, prior_maps, random_maps
from clarity_cxr.evaluation.predictions import predict_store
from clarity_cxr.localization.boxes import find_boxes
from tests.evaluation.readable_store import GRID, SIZE, ReadingModel, make_content

ROWS = np.array([81, 90, 119])


@pytest.fixture
def store(tmp_path):
    return make_content().write(tmp_path / "store")


def predictions(store):
    rows = store.rows("test")
    return predict_store(ReadingModel(), store, rows, map_rows=rows, mean_rows=store.rows("val"), progress=False)


def test_random_maps_depend_on_seed_film_and_finding_only(store):
    first = random_maps(store, GRID, 0)("Mass", ROWS)
    assert first.shape == (3, SIZE, SIZE)
    np.testing.assert_array_equal(first.min(axis=(1, 2)), 0)
    np.testing.assert_array_equal(first.max(axis=(1, 2)), 1)
    np.testing.assert_array_equal(first[1:2], random_maps(store, GRID, 0)("Mass", ROWS[1:2]))
    others = (
        random_maps(store, GRID, 1)("Mass", ROWS),
        random_maps(store, GRID, 0)("Nodule", ROWS),
        random_maps(store, GRID, 0)("Mass", ROWS + 1 - 2 * (ROWS == 119)),
    )
    for other in others:
        assert all(np.abs(a - b).max() > 0.05 for a, b in zip(first, other, strict=True))


def test_random_maps_follow_the_image_id_not_the_row(tmp_path):
    content = make_content()
    content.index["image_id"] = content.index["image_id"].to_numpy()[::-1]
    other = content.write(tmp_path / "reversed")
    same = make_content().write(tmp_path / "store")
    np.testing.assert_array_equal(
        random_maps(other, GRID, 0)("Mass", np.array([0])), random_maps(same, GRID, 0)("Mass", np.array([119]))
    )


def test_prior_map_is_the_mask_of_the_finding_at_film_size(tmp_path):
    content = make_content()
    priors = np.zeros((120, 4, 128, 128), dtype=bool)
    priors[90, 0, 20:60, 40:100] = True  # lungs
    priors[90, 1, 64:80, 30:50] = True  # heart
    content.priors = np.packbits(priors, axis=-1, bitorder="big")
    source = prior_maps(content.write(tmp_path / "store"))
    lungs, heart = np.zeros((2, SIZE, SIZE))
    lungs[10:30, 20:50] = 1
    heart[32:40, 15:25] = 1
    np.testing.assert_array_equal(source("Nodule", ROWS)[1], lungs)
    np.testing.assert_array_equal(source("Cardiomegaly", ROWS)[1], heart)
    assert not source("Mass", ROWS).any()


def test_mean_map_is_one_map_for_all_films(store):
    maps = mean_maps(predictions(store), SIZE)("Mass", ROWS)
    np.testing.assert_array_equal(maps, np.repeat(maps[:1], 3, axis=0))
    assert maps.max() == 1


def test_model_maps_show_the_bright_rectangle(store):
    maps = model_maps(predictions(store), SIZE)("Mass", ROWS)
    for heatmap, film in zip(maps, store.films[ROWS], strict=True):
        np.testing.assert_array_equal(find_boxes(heatmap, 0.5).boxes, find_boxes(film, 199).boxes)
