import numpy as np
import pytest

from clarity_cxr.evaluation.protocols import (
    PROTOCOLS,
    TruthBoxes,
    read_truth,
    score_peers,
    score_protocols,
    search_protocols,
    source_overlaps,
)
from clarity_cxr.findings import BOXED_FINDINGS, FINDINGS
from clarity_cxr.localization.thresholds import Threshold
from clarity_cxr.metrics import msli_of_ious
from tests.evaluation.readable_store import make_content

SIZE = 20


@pytest.fixture
def store(tmp_path):
    return make_content().write(tmp_path / "store")


def two_blobs(finding, rows):
    """A big lukewarm blob in the corner, and a small hot one, moved by the row, where the truth is."""
    maps = np.zeros((len(rows), SIZE, SIZE), dtype=np.float32)
    maps[:, :8, :8] = 0.5
    for position, row in enumerate(rows):
        maps[position, 12:16, 10 + row : 14 + row] = 1.0
    return maps


def truth_of(rows, positive):
    rows = np.asarray(rows)
    boxes = np.stack([10 + rows, np.full(len(rows), 12), 14 + rows, np.full(len(rows), 16)], axis=1).astype(float)
    return TruthBoxes(rows, boxes, rows * 10, np.asarray(positive))


def everywhere(value, finding="Mass"):
    return {name: {finding: Threshold(value, "searched")} for name in PROTOCOLS}


def test_each_protocol_counts_what_it_says():
    truth = {"Mass": truth_of([0, 1, 2, 3], [True, False, True, False])}
    scores = score_protocols(two_blobs, truth, SIZE, everywhere(0.25))
    paper, anything, top = (scores[name]["Mass"] for name in ("paper", "all", "top"))
    np.testing.assert_array_equal(paper.overlaps, [1, 1])
    np.testing.assert_array_equal(paper.patients, [0, 20])
    np.testing.assert_array_equal(anything.overlaps, [1, 0, 1, 0])
    np.testing.assert_array_equal(anything.patients, [0, 10, 20, 30])
    np.testing.assert_array_equal(top.overlaps, [0, 0, 0, 0])
    assert [score.missed for score in (paper, anything, top)] == [0, 2, 2]


def test_peers_look_at_no_prediction_and_at_what_they_say():
    truth = {"Mass": truth_of([0, 1], [True, False])}
    scores = {name: found["Mass"] for name, found in score_peers(two_blobs, truth, SIZE).items()}
    np.testing.assert_array_equal(scores["rgt"].overlaps, [1, 1])
    np.testing.assert_array_equal(scores["bas"].overlaps, [0, 0])  # the big blob is the largest at 0.15
    np.testing.assert_array_equal(scores["ham"].overlaps, [1, 1])  # at 0.5 the lukewarm blob is not above
    assert [scores[name].threshold.value for name in ("ham", "rgt", "bas")] == [0.5, 0.5, 0.15]
    assert {found.missed for found in scores.values()} == {0}


def test_ham_counts_a_film_once_with_all_its_boxes():
    both = TruthBoxes(
        np.zeros(2, dtype=np.int64),
        np.array([[10.0, 12, 14, 16], [0, 0, 4, 4]]),
        np.array([7, 7]),
        np.ones(2, dtype=bool),
    )
    found = score_peers(two_blobs, {"Mass": both}, SIZE)["ham"]["Mass"]
    np.testing.assert_array_equal(found.overlaps, [0.5])
    np.testing.assert_array_equal(found.patients, [7])


def test_the_search_finds_the_threshold_that_removes_the_wrong_blob():
    truth = {"Mass": truth_of([0, 1, 2], [True, True, False])}
    thresholds, scores = search_protocols(two_blobs, truth, SIZE)
    assert thresholds["top"]["Mass"].value >= 0.5
    np.testing.assert_array_equal(scores["top"]["Mass"].overlaps, [1, 1, 0])
    assert msli_of_ious(scores["all"]["Mass"].overlaps) == pytest.approx(2 / 3)


def test_search_and_scoring_agree_on_the_same_boxes():
    generator = np.random.default_rng(0)
    noise = generator.random((9, SIZE, SIZE)).astype(np.float32)
    truth = {"Mass": truth_of(range(6), [True] * 5 + [False]), "Nodule": truth_of(range(3, 6), [False] * 3)}

    def maps(finding, rows):
        return noise[rows + (0 if finding == "Mass" else 3)]

    thresholds, searched = search_protocols(maps, truth, SIZE)
    scored = score_protocols(maps, truth, SIZE, thresholds)
    for name in PROTOCOLS:
        for finding in truth:
            np.testing.assert_array_equal(searched[name][finding].overlaps, scored[name][finding].overlaps)
            assert searched[name][finding].threshold == scored[name][finding].threshold
    assert thresholds["all"]["Nodule"].source == "unconditioned"
    assert set(thresholds["all"]) == set(FINDINGS)
    assert thresholds["all"]["Hernia"].source == "macro"


def test_chunks_and_several_boxes_of_one_film_keep_their_order(monkeypatch):
    rows = [0, 0, 1, 3, 3]
    truth = truth_of(rows, [True] * 5)
    truth.boxes[[1, 4]] = [0, 0, 8, 8]
    expected = source_overlaps(two_blobs, "Mass", truth, SIZE, np.array([0.3, 0.6]))
    np.testing.assert_array_equal(expected.any_component, [[1, 1], [1, 0], [1, 1], [1, 1], [1, 0]])
    monkeypatch.setattr("clarity_cxr.evaluation.protocols._MAP_PIXELS_AT_ONCE", SIZE**2)
    chunked = source_overlaps(two_blobs, "Mass", truth, SIZE, np.array([0.3, 0.6]))
    np.testing.assert_array_equal(chunked.any_component, expected.any_component)
    np.testing.assert_array_equal(chunked.top_component, expected.top_component)


def test_truth_is_in_store_pixels_with_the_decision_of_its_film(store):
    mass = FINDINGS.index("Mass")

    def probabilities_of(rows):
        values = np.zeros((len(rows), len(FINDINGS)), dtype=np.float32)
        values[:, mass] = np.where(rows % 2, 0.5, 0.49)
        return values

    truth = read_truth(store, "test", probabilities_of, 0.5)
    assert tuple(truth) == BOXED_FINDINGS
    found = truth["Mass"]
    table = store.boxes[(store.boxes["finding"] == "Mass") & store.boxes["row"].isin(store.localization_rows("test"))]
    np.testing.assert_array_equal(found.rows, table["row"])
    np.testing.assert_array_equal(found.boxes, table[["x0", "y0", "x1", "y1"]] * 64)
    np.testing.assert_array_equal(found.patients, found.rows // 2 + 1)
    np.testing.assert_array_equal(found.positive, found.rows % 2 == 1)
