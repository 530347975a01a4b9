import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_curve

from clarity_cxr.calibration import logit, sigmoid
from clarity_cxr.cli.calibrate import calibrate as command
from clarity_cxr.errors import ConfigError
from clarity_cxr.evaluation.calibration import fit_calibration, summarise_calibration
from clarity_cxr.findings import FINDINGS
from clarity_cxr.models import create_model, load_checkpoint, save_checkpoint
from tests.evaluation.readable_store import make_content


def make_films(count=4000, seed=0):
    """Probabilities whose logits are twice too flat and three too high, as weighted classes make them."""
    generator = np.random.default_rng(seed)
    logits = generator.normal(-2, 1.5, (count, len(FINDINGS)))
    labels = generator.random(logits.shape) < sigmoid(logits)
    return sigmoid(logits / 2 + 3).astype(np.float32), labels


def test_platt_is_logistic_regression_on_the_logit():
    probabilities, labels = make_films()
    found = fit_calibration(probabilities, labels)
    expected = LogisticRegression(C=np.inf).fit(logit(probabilities[:, [0]]), labels[:, 0])
    assert found.scale[FINDINGS[0]] == pytest.approx(expected.coef_.item(), abs=0.02)
    assert found.offset[FINDINGS[0]] == pytest.approx(expected.intercept_.item(), abs=0.05)
    assert found.fitted_on == {"split": "val", "films": 4000, "sensitivity": 0.9}


def test_calibration_mends_new_films_and_keeps_their_order():
    probabilities, labels = make_films(seed=1)
    fitted = fit_calibration(*make_films())
    shown = fitted.apply(probabilities, FINDINGS)
    np.testing.assert_array_equal(
        np.argsort(shown[:, 3], kind="stable"), np.argsort(probabilities[:, 3], kind="stable")
    )
    for values in summarise_calibration(probabilities, labels, fitted).values():
        assert values["calibrated"]["ece"] < 0.03 < 0.3 < values["raw"]["ece"]
        assert values["calibrated"]["brier"] < values["raw"]["brier"]


def test_temperature_has_no_offset():
    fitted = fit_calibration(*make_films(), method="temperature")
    assert set(fitted.offset.values()) == {0.0}
    assert fitted.method == "temperature"


def test_operating_points_against_scikit_learn():
    probabilities, labels = make_films()
    fitted = fit_calibration(probabilities, labels, sensitivity=0.8)
    shown = fitted.apply(probabilities, FINDINGS)
    for index, finding in enumerate(FINDINGS[:3]):
        false, true, thresholds = roc_curve(labels[:, index], shown[:, index], drop_intermediate=False)
        points = fitted.operating_points
        assert points["youden"][finding] == pytest.approx(thresholds[np.argmax(true - false)])
        assert points["sensitive"][finding] == pytest.approx(thresholds[np.argmax(true >= 0.8)])
        assert ((shown[:, index] >= points["half"][finding]) == (probabilities[:, index] >= 0.5)).all()


def test_a_finding_without_positives_is_left_alone():
    probabilities, labels = make_films(100)
    labels[:, 2] = False
    fitted = fit_calibration(probabilities, labels)
    name = FINDINGS[2]
    assert (fitted.scale[name], fitted.offset[name]) == (1.0, 0.0)
    assert fitted.operating_points["half"][name] == pytest.approx(0.5)
    assert name not in fitted.operating_points["youden"]
    assert summarise_calibration(probabilities, labels, fitted)[name]["operating_points"]["youden"] is None
    with pytest.raises(ConfigError, match="sensitivity 0"):
        fit_calibration(probabilities, labels, sensitivity=0.0)


def test_the_command_stores_it_in_the_checkpoint(tmp_path, capsys):
    store = make_content().write(tmp_path / "store")
    model = create_model("clarity_t8_64", width=32, depth=2, heads=2, attention_blocks=2, token_blocks=2)
    path = tmp_path / "model.safetensors"
    save_checkpoint(path, model, thresholds={"Mass": 0.3}, provenance={"epoch": 3})
    command(path, store=store.path)
    metadata = load_checkpoint(path).metadata
    assert metadata.thresholds == {"Mass": 0.3}
    assert metadata.provenance == {"epoch": 3}
    assert metadata.calibration is not None
    assert metadata.calibration.fitted_on["store"] == store.fingerprint
    assert metadata.calibration.fitted_on["films"] == 40
    assert "Mass: scale" in capsys.readouterr().out
