import numpy as np
import pytest

from clarity_cxr.evaluation.validation import validation_scores
from clarity_cxr.findings import BOXED_INDICES, FINDINGS
from tests.evaluation.readable_store import ReadingModel, make_content


@pytest.fixture
def store(tmp_path):
    return make_content().write(tmp_path / "store")


def test_a_model_that_reads_the_truth_scores_one(store):
    found = validation_scores(ReadingModel(), store)
    assert found["macro_auc"] == 1
    assert found["findings_in_mean"] == 8
    assert found["msli_by_protocol"] == {"paper": 1, "all": 1, "top": 1}
    assert found["udp"] == found["selection"] == 1
    assert found["thresholds"] is not None
    assert set(found["thresholds"]) == set(FINDINGS)
    assert all(0 < value < 1 for value in found["thresholds"].values())


def test_the_protocol_of_udp_is_an_option(store):
    model = ReadingModel(blind_to=(BOXED_INDICES[0], BOXED_INDICES[3]))
    paper = validation_scores(model, store)
    anything = validation_scores(model, store, udp_protocol="all")
    auc = paper["macro_auc"]
    assert auc == pytest.approx((6 + 2 * 0.5) / 8)
    assert paper["msli"] == 1
    assert anything["msli"] == pytest.approx(6 / 8)
    assert anything["udp"] == anything["selection"] == pytest.approx((auc + 6 / 8) / 2)
    assert paper["udp_by_protocol"] == anything["udp_by_protocol"]


def test_nothing_predicted_positive_selects_as_nothing_found(store):
    found = validation_scores(ReadingModel(blind_to=BOXED_INDICES), store)
    assert np.isnan(found["msli"])
    assert np.isnan(found["udp"])
    assert found["msli_by_protocol"]["all"] == 0
    assert found["selection"] == found["macro_auc"] / 2


def test_without_boxes_macro_auc_selects(tmp_path):
    content = make_content()
    content.boxes = content.boxes.iloc[:0]
    found = validation_scores(ReadingModel(), content.write(tmp_path / "store"))
    assert np.isnan(found["msli"])
    assert np.isnan(found["udp"])
    assert found["thresholds"] is None
    assert found["selection"] == found["macro_auc"] == 1
