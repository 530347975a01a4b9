"""Films of another hospital: no figure counts a label that its data set does not have."""

import numpy as np
import pandas as pd
import pytest

from clarity_cxr.errors import StoreError
from clarity_cxr.evaluation.calibration import fit_calibration, summarise_calibration
from clarity_cxr.evaluation.compare import compare_runs
from clarity_cxr.evaluation.evaluate import PREDICTIONS_FILE
from clarity_cxr.evaluation.intervals import bootstrap_auc, draw_patients
from clarity_cxr.evaluation.predictions import load_predictions, predict_store, save_predictions
from clarity_cxr.evaluation.run_files import RunFiles, read_predictions
from clarity_cxr.evaluation.score import EvaluationOptions, score
from clarity_cxr.evaluation.subgroups import summarise_subgroups
from clarity_cxr.evaluation.summary import plain, summarise_classification
from clarity_cxr.evaluation.table import classification_table
from clarity_cxr.findings import FINDINGS
from tests.evaluation.readable_store import GRID, ReadingModel, make_content

MASS, HERNIA = FINDINGS.index("Mass"), FINDINGS.index("Hernia")


@pytest.fixture
def films():
    """Probabilities, labels, which are defined, and patients, which go by name; no Hernia is labelled."""
    generator = np.random.default_rng(0)
    labels = generator.random((200, 14)) < 0.4
    labelled = generator.random((200, 14)) < 0.8
    labelled[:, HERNIA] = False
    probabilities = np.clip(generator.normal(0.4, 0.2, labels.shape) + 0.2 * labels, 0, 1)
    return probabilities, labels, labelled, np.array([f"P{row // 2}" for row in range(200)])


def test_every_figure_is_that_of_the_labelled_films_alone(films):
    probabilities, labels, labelled, patients = films
    draws = draw_patients(patients, 20, 0)
    found = summarise_classification(probabilities, labels, patients, draws, labelled)
    calibration = fit_calibration(probabilities, labels, labelled)
    described = summarise_calibration(probabilities, labels, calibration, labelled)
    mine = labelled[:, MASS]
    alone = summarise_classification(probabilities[mine], labels[mine], patients[mine], draws)
    alone_calibration = fit_calibration(probabilities[mine], labels[mine])
    alone_described = summarise_calibration(probabilities[mine], labels[mine], alone_calibration)
    counts = {"n_undefined": int((~mine).sum())}
    assert found.per_finding["Mass"] == alone.per_finding["Mass"] | counts
    assert described["Mass"] == alone_described["Mass"]
    assert found.findings_in_mean == 13
    hernia = found.per_finding["Hernia"]
    assert (hernia["n_positive"], hernia["n_negative"], hernia["n_undefined"]) == (0, 0, 200)
    assert np.isnan(hernia["auc"])
    assert plain(described["Hernia"]["raw"]) == {
        "brier": None,
        "ece": None,
        "reliability": {"probability": [], "frequency": [], "films": []},
    }
    assert "Hernia" not in calibration.operating_points["youden"]


def test_undefined_labels_may_hold_anything(films):
    probabilities, labels, labelled, patients = films
    draws = draw_patients(patients, 20, 0)
    other = np.where(labelled, labels, ~labels)
    np.testing.assert_array_equal(
        bootstrap_auc(probabilities, labels, patients, draws, labelled),
        bootstrap_auc(probabilities, other, patients, draws, labelled),
    )
    index = pd.DataFrame({"patient_id": patients, "sex": np.where(np.arange(200) % 3, "F", "M")})
    groups = [summarise_subgroups(index, probabilities, each, draws, 0.5, labelled) for each in (labels, other)]
    assert plain(groups[0]) == plain(groups[1])
    female = groups[0]["sex"]["groups"]["female"]["per_finding"]["Mass"]
    mine = (index["sex"] == "F").to_numpy() & labelled[:, MASS]
    assert female["false_positive_rate_films"] == (~labels[mine, MASS]).sum()
    assert female["sensitivity"] == pytest.approx((probabilities[mine & labels[:, MASS], MASS] >= 0.5).mean())


def test_a_store_of_another_hospital(tmp_path):
    content = make_content()
    content.index["patient_id"] = [f"P{row // 2:03d}" for row in range(len(content.index))]
    content.index["Hernia"] = pd.array([pd.NA] * len(content.index), dtype="boolean")
    undefined = np.arange(len(content.index)) % 5 == 0
    content.index["Mass"] = pd.arrays.BooleanArray(content.index["Mass"].to_numpy(), undefined)
    store = content.write(tmp_path / "store")
    predictions = predict_store(
        ReadingModel(),
        store,
        np.concatenate([store.rows("val"), store.rows("test")]),
        map_rows=store.rows("test"),
        mean_rows=np.union1d(store.rows("val"), store.localization_rows("val")),
        progress=False,
    )
    scored = score(predictions, store, GRID, EvaluationOptions(replicates=10))
    result = plain(scored.figures)
    assert result["macro_auc"] == 1
    assert result["per_finding"]["Mass"]["n_undefined"] == 8
    assert result["per_finding"]["Hernia"]["auc"] is None
    assert "not labelled" in list(classification_table(result).columns[3].cells)
    assert set(scored.boxes["patient_id"]) <= set(store.patients)

    save_predictions(tmp_path / PREDICTIONS_FILE, predictions, store)
    stored = read_predictions(tmp_path / PREDICTIONS_FILE)
    np.testing.assert_array_equal(stored["labelled"], store.labelled[predictions.rows])
    np.testing.assert_array_equal(load_predictions(tmp_path / PREDICTIONS_FILE, store).rows, predictions.rows)
    scored.boxes.to_csv(tmp_path / "boxes.csv")
    boxes = pd.read_csv(tmp_path / "boxes.csv", dtype={"patient_id": str})
    run = RunFiles(tmp_path, result, stored, boxes, None, None, None, None, None, store)
    differences = compare_runs(run, run, replicates=5)
    assert differences["macro_auc"] == {"first": 1, "second": 1, "difference": 0, "interval": [0, 0]}
    assert np.isnan(differences["auc Hernia"]["first"])


def test_training_asks_for_every_label(tmp_path):
    content = make_content()
    content.index["Hernia"] = pd.arrays.BooleanArray(np.zeros(120, bool), np.arange(120) == 3)
    store = content.write(tmp_path / "store")
    store.require_labels("test")
    with pytest.raises(StoreError, match=r"store: 1 of 40 train films have no label of Hernia; "):
        store.require_labels("train")
