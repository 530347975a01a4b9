"""Predictor: the same answer from arrays and files, boxes in the film's own pixels."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import clarity_cxr
from clarity_cxr.errors import CheckpointError, ClarityError, FilmError
from clarity_cxr.findings import FINDINGS
from clarity_cxr.inference.prediction import DEFAULT_BOX_THRESHOLD, FilmPrediction, assemble_prediction, film_boxes
from clarity_cxr.inference.predictor import Predictor
from clarity_cxr.localization.boxes import find_boxes
from tests.inference.conftest import THRESHOLDS, make_film


@pytest.fixture(scope="module")
def predictor(checkpoint: Path) -> Predictor:
    return clarity_cxr.load(checkpoint, decision_threshold=0.0)


def test_prediction_holds_every_finding_and_the_maps(predictor):
    prediction = predictor.predict(make_film(0))
    assert (prediction.width, prediction.height) == (80, 96)
    assert tuple(prediction.probabilities) == FINDINGS
    assert all(0 < value < 1 for value in prediction.probabilities.values())
    assert prediction.heatmaps.shape == (14, 64, 64)
    assert prediction.heatmaps.min() >= 0
    assert prediction.heatmaps.max() == pytest.approx(1)
    assert prediction.attention.shape == (14, 8, 8)
    assert prediction.masks.shape == (14, 8, 8)
    assert prediction.masks.dtype == bool


def test_checkpoint_thresholds_are_used_and_others_have_the_default(predictor):
    assert predictor.thresholds == {name: THRESHOLDS.get(name, DEFAULT_BOX_THRESHOLD) for name in FINDINGS}
    for box in predictor.predict(make_film(0)).boxes:
        assert box.threshold == predictor.thresholds[box.finding]


def test_file_array_and_float_give_the_same(predictor, tmp_path):
    film = make_film(3)
    Image.fromarray(film).save(tmp_path / "film.png")
    expected = predictor.predict(film).probabilities
    assert predictor.predict(tmp_path / "film.png").probabilities == expected
    assert predictor.predict(str(tmp_path / "film.png")).probabilities == expected
    assert predictor.predict(film / np.float32(255)).probabilities == expected
    assert predictor.predict(film.astype(np.uint16) * 257).probabilities == expected


def test_batch_equals_one_by_one_for_films_of_any_size(predictor):
    films = [make_film(0), make_film(1, 200, 120), make_film(2, 64, 64)]
    together = predictor.predict_batch(films)
    assert predictor.predict_batch([]) == []
    for film, prediction in zip(films, together, strict=True):
        alone = predictor.predict(film)
        assert list(prediction.probabilities.values()) == pytest.approx(list(alone.probabilities.values()), abs=1e-5)
        assert np.allclose(prediction.heatmaps, alone.heatmaps, atol=1e-4)


def test_boxes_are_given_for_positive_findings_only(checkpoint, predictor):
    film = make_film(0)
    probabilities = predictor.predict(film).probabilities
    middle = float(np.median(list(probabilities.values())))
    prediction = clarity_cxr.load(checkpoint, decision_threshold=middle).predict(film)
    assert prediction.decisions == {name: value >= middle for name, value in probabilities.items()}
    assert {box.finding for box in prediction.boxes} <= set(prediction.positives)
    assert prediction.positives == sorted(prediction.positives, key=lambda name: -probabilities[name])
    assert clarity_cxr.load(checkpoint, decision_threshold=1.0).predict(film).boxes == []


def test_boxes_are_scaled_to_the_film_and_scored_by_mean_heat_times_probability():
    heatmap = np.zeros((64, 64), dtype=np.float32)
    heatmap[8:16, 4:12] = 0.8
    heatmap[40:42, 40:44] = 1.0
    first, second = film_boxes("Mass", find_boxes(heatmap, 0.5), 0.5, 0.9, scale=(10, 2))
    assert (first.x0, first.y0, first.x1, first.y1) == (40, 16, 120, 32)
    assert first.score == pytest.approx(0.8 * 0.9)
    assert (second.x0, second.y0, second.x1, second.y1) == (400, 80, 440, 84)
    assert second.score == pytest.approx(0.9)
    assert film_boxes("Mass", find_boxes(np.zeros((64, 64), dtype=np.float32), 0.5), 0.5, 0.9, (10, 2)) == []


def test_every_positive_finding_has_its_own_threshold():
    probabilities = np.where(np.arange(14) % 2, 0.9, 0.1)
    heatmaps = np.random.default_rng(0).random((14, 16, 16)).astype(np.float32)
    thresholds = {name: 0.5 + index / 30 for index, name in enumerate(FINDINGS)}
    maps = {"probabilities": probabilities, "heatmaps": heatmaps, "attention": heatmaps, "masks": heatmaps > 0.5}
    prediction = assemble_prediction(FINDINGS, (32, 48), maps, thresholds, 0.5)
    assert prediction.positives == list(FINDINGS[1::2])
    for index, name in enumerate(FINDINGS):
        found = find_boxes(heatmaps[index], thresholds[name])
        expected = film_boxes(name, found, thresholds[name], 0.9, (3, 2)) if index % 2 else []
        assert [box for box in prediction.boxes if box.finding == name] == expected


def test_boxes_lie_in_the_film(predictor):
    prediction = predictor.predict(make_film(5, 333, 517))
    assert prediction.boxes
    for box in prediction.boxes:
        assert 0 <= box.x0 < box.x1 <= 517
        assert 0 <= box.y0 < box.y1 <= 333
        assert 0 < box.score <= prediction.probabilities[box.finding]


def test_json_round_trip(predictor):
    prediction = predictor.predict(make_film(0))
    content = json.loads(json.dumps(prediction.to_json(), allow_nan=False))
    assert set(content) == {"width", "height", "probabilities", "decisions", "decided", "boxes"}
    assert content["probabilities"] == pytest.approx(prediction.probabilities, abs=1e-6)
    assert content["decisions"] == prediction.decisions
    assert len(content["boxes"]) == len(prediction.boxes)
    assert set(content["boxes"][0]) == {"finding", "x0", "y0", "x1", "y1", "score", "threshold"}


def test_predictions_do_not_depend_on_what_was_predicted_before(predictor):
    first: FilmPrediction = predictor.predict(make_film(0))
    predictor.predict_batch([make_film(seed) for seed in range(1, 5)])
    assert predictor.predict(make_film(0)).probabilities == first.probabilities


@pytest.mark.parametrize(
    ("film", "complaint"),
    [
        (np.zeros((4, 4, 3), dtype=np.uint8), "grey image"),
        (np.zeros((0, 4), dtype=np.uint8), "grey image"),
        (np.zeros((4, 4), dtype=np.int32), "int32"),
        (np.full((4, 4), 255.0), r"\[0, 1\]"),
        (np.full((4, 4), np.nan), r"\[0, 1\]"),
    ],
)
def test_arrays_that_are_no_films_are_refused(predictor, film, complaint):
    with pytest.raises(FilmError, match=complaint):
        predictor.predict(film)


def test_mistakes_are_named(checkpoint, tmp_path):
    with pytest.raises(CheckpointError, match=r"absent\.safetensors"):
        clarity_cxr.load(tmp_path / "absent.safetensors")
    with pytest.raises(ClarityError, match=r"decision threshold 1\.5"):
        clarity_cxr.load(checkpoint, decision_threshold=1.5)
    for device in ("cuda:97", "teapot"):
        with pytest.raises(ClarityError, match=device):
            clarity_cxr.load(checkpoint, device)
