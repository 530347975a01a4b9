import numpy as np
import pytest

from clarity_cxr.calibration import Calibration, decision_rule, logit, sigmoid
from clarity_cxr.errors import ClarityError

NAMES = ("A", "B")


def make_calibration():
    return Calibration(
        "platt",
        {"A": 2.0, "B": 1.0},
        {"A": -1.0, "B": 0.0},
        {"half": {"A": 0.2689, "B": 0.5}, "youden": {"A": 0.1}, "sensitive": {}},
        {"films": 3},
    )


def test_platt_scaling_is_a_line_on_the_logits():
    found = make_calibration().apply(np.array([[0.5, 0.25]]), NAMES)
    np.testing.assert_allclose(found, [[1 / (1 + np.e), 0.25]])


def test_logit_and_sigmoid_invert_each_other_and_stay_finite():
    values = np.array([0.0, 1e-3, 0.5, 0.999, 1.0])
    np.testing.assert_allclose(sigmoid(logit(values)), values, atol=2e-7)
    np.testing.assert_array_equal(sigmoid(np.array([-1e4, 1e4])), [0, 1])


def test_plain_values_round_trip():
    calibration = make_calibration()
    assert Calibration.from_dict(calibration.to_dict()) == calibration


def test_the_rule_decides_as_the_model_does_on_its_own_scale():
    rule = decision_rule(make_calibration(), NAMES)
    assert rule.point == "half"
    own = np.array([0.5, 0.4999])
    decided = rule.probabilities(own) >= np.array(list(rule.thresholds.values()))
    np.testing.assert_array_equal(decided, [True, False])
    assert decision_rule(make_calibration(), NAMES, 0.0).thresholds == {"A": 0, "B": 0}
    assert decision_rule(make_calibration(), NAMES, 0.3).point == "own"


def test_a_point_without_a_finding_falls_back_to_half():
    rule = decision_rule(make_calibration(), NAMES, operating_point="youden")
    assert rule.thresholds == {"A": 0.1, "B": 0.5}
    assert rule.to_dict()["operating_point"] == "youden"
    assert rule.to_dict()["calibration"] == "platt"


def test_a_checkpoint_without_calibration_has_no_operating_points():
    rule = decision_rule(None, NAMES)
    assert rule.to_dict() == {"operating_point": "half", "calibration": "none", "thresholds": {"A": 0.5, "B": 0.5}}
    np.testing.assert_array_equal(rule.probabilities(np.float32([0.25, 0.75])), [0.25, 0.75])
    with pytest.raises(ClarityError, match="clarity calibrate"):
        decision_rule(None, NAMES, operating_point="youden")
    with pytest.raises(ClarityError, match="half, youden, sensitive"):
        decision_rule(make_calibration(), NAMES, operating_point="best")  # pyright: ignore
