"""Gallery: which films it shows, and its pages."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from clarity_cxr.cli.gallery import gallery
from clarity_cxr.data.store import FilmStore, open_store
from clarity_cxr.errors import ClarityError
from clarity_cxr.evaluation.gallery import PANELS, gallery_page, gallery_rows
from clarity_cxr.findings import BOXED_FINDINGS
from clarity_cxr.inference.predictor import Predictor, load
from clarity_cxr.models import create_model, save_checkpoint


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("gallery") / "tiny.safetensors"
    with torch.random.fork_rng():
        torch.manual_seed(0)
        save_checkpoint(path, create_model("clarity_t8_64"))
    return path


@pytest.fixture(scope="module")
def predictor(weights: Path) -> Predictor:
    return load(weights)


@pytest.fixture
def unboxed(phantom_store: FilmStore) -> FilmStore:
    store = open_store(phantom_store.path)
    store.boxes = store.boxes.iloc[:0]
    return store


def shown(rows):
    return [(row.finding, row.image_id) for row in rows]


def test_rows_are_boxed_films_of_their_finding(phantom_store, predictor):
    rows = list(gallery_rows(phantom_store, predictor, films=2))
    truth = set(zip(phantom_store.boxes["finding"], phantom_store.boxes["image_id"], strict=True))
    assert rows
    assert set(shown(rows)) <= truth
    assert {row.finding for row in rows} <= set(BOXED_FINDINGS)
    for row in rows:
        assert len(row.panels) == len(PANELS)
        assert row.labelled
        assert row.iou is None or 0 <= row.iou <= 1


def test_films_come_from_the_test_half_where_it_has_any(phantom_store, predictor):
    half = set(phantom_store.index["image_id"].iloc[phantom_store.localization_rows("test")])
    boxed = phantom_store.boxes[phantom_store.boxes["image_id"].isin(half)]
    for row in gallery_rows(phantom_store, predictor):
        if row.finding in set(boxed["finding"]):
            assert row.image_id in half


def test_positives_come_first(phantom_store, predictor):
    for finding in BOXED_FINDINGS:
        of_finding = [row.positive for row in gallery_rows(phantom_store, predictor, 4) if row.finding == finding]
        assert of_finding == sorted(of_finding, reverse=True)


def test_seed_decides_the_draw(unboxed, predictor):
    first = shown(gallery_rows(unboxed, predictor, 5, seed=0))
    assert first == shown(gallery_rows(unboxed, predictor, 5, seed=0))
    assert first != shown(gallery_rows(unboxed, predictor, 5, seed=1))


def test_without_boxes_random_test_films_are_shown(unboxed, predictor):
    rows = list(gallery_rows(unboxed, predictor, 5))
    test_films = set(unboxed.index["image_id"].iloc[unboxed.rows("test")])
    assert len(rows) == 5
    assert {row.image_id for row in rows} <= test_films
    assert all(row.iou is None for row in rows)


def test_caption_says_what_there_is_to_know(phantom_store, predictor):
    row = next(iter(gallery_rows(phantom_store, predictor, 1)))
    row = replace(row, probability=0.834, positive=True, iou=0.5, labelled=True)
    assert row.caption == "p 0.83, IoU 0.50"
    assert replace(row, positive=False, iou=None, labelled=False).caption == "p 0.83, predicted negative, not labelled"


def test_page_holds_every_panel(phantom_store, predictor):
    rows = list(gallery_rows(phantom_store, predictor, 1))[:2]
    page = np.asarray(gallery_page(rows, "Two findings"))
    film = np.asarray(rows[0].panels[0])
    assert page.shape[1] > len(PANELS) * film.shape[1]
    assert page.shape[0] > 2 * film.shape[0]


def test_command_writes_a_page_per_finding(phantom_store, weights, tmp_path, capsys):
    gallery(checkpoint=weights, store=phantom_store.path, out=tmp_path / "pages", films=1)
    pages = sorted((tmp_path / "pages").iterdir())
    assert sorted(capsys.readouterr().out.split()) == [str(page) for page in pages]
    assert {page.stem for page in pages} <= {name.lower() for name in BOXED_FINDINGS}
    with Image.open(pages[0]) as page:
        page.verify()
    with pytest.raises(ClarityError, match="--films 0"):
        gallery(checkpoint=weights, store=phantom_store.path, out=tmp_path, films=0)
