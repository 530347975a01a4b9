import math

import numpy as np
import pytest

from clarity_cxr.evaluation.intervals import draw_patients, percentile_interval
from clarity_cxr.evaluation.protocols import PROTOCOLS, FindingScores
from clarity_cxr.evaluation.summary import (
    compare_with_controls,
    plain,
    summarise_classification,
    summarise_localization,
)
from clarity_cxr.findings import BOXED_FINDINGS, FINDINGS
from clarity_cxr.localization.thresholds import Threshold
from clarity_cxr.metrics import auc_per_finding

XI = Threshold(0.4, "searched")


def make_scores(overlaps, missed=0):
    """The same boxes under every protocol; `overlaps` finding -> IoUs, the others have no box."""
    values = {name: np.asarray(overlaps.get(name, []), dtype=float) for name in BOXED_FINDINGS}
    scores = {name: FindingScores(ious, np.arange(len(ious)), missed, XI) for name, ious in values.items()}
    return dict.fromkeys(PROTOCOLS, scores)


def test_macro_is_over_findings_with_boxes_and_says_how_many():
    scores = make_scores({"Cardiomegaly": [0.95], "Mass": [0.95, 0.6, 0.3, 0.0], "Nodule": [0.0, 0.0]})
    found = summarise_localization(scores, draw_patients(np.arange(4), 100, 0))
    mass = (5 + 3 + 2 + 0) / 20
    assert found.msli["all"] == pytest.approx((1 + mass + 0) / 3)
    assert found.msli_without_cardiomegaly["all"] == pytest.approx(mass / 2)
    assert found.findings_in_mean["all"] == 3
    assert found.iou_accuracy["all"]["0.5"] == pytest.approx((1 + 0.5 + 0) / 3)
    entry = found.per_finding["Mass"]["all"]
    assert entry["n"] == 4
    assert entry["msli"] == pytest.approx(mass)
    assert entry["iou_accuracy"]["0.2"] == 0.75
    assert (entry["threshold"], entry["threshold_source"]) == (0.4, "searched")
    empty = found.per_finding["Effusion"]["all"]
    assert (empty["n"], empty["msli_interval"]) == (0, None)
    assert math.isnan(empty["msli"])


def test_msli_interval_equals_a_slow_loop():
    ious = {"Mass": np.linspace(0, 1, 12), "Nodule": np.linspace(0.6, 0.2, 9)}
    draws = draw_patients(np.arange(12), 60, 4)
    found = summarise_localization(make_scores(ious), draws)
    slow = []
    for counts in draws.counts:
        per_finding = []
        for values in ious.values():
            resampled = np.repeat(values, counts[: len(values)])
            per_finding.append(np.mean([(resampled > level).mean() for level in (0.1, 0.25, 0.5, 0.75, 0.9)]))
        slow.append(np.mean(per_finding))
    np.testing.assert_allclose(found.msli_replicates["paper"], slow)
    assert found.intervals["msli"]["paper"] == pytest.approx(percentile_interval(np.array(slow)))


def test_best_control_and_ratio():
    draws = draw_patients(np.arange(2), 50, 0)
    model = summarise_localization(make_scores({"Mass": [0.95, 0.95]}), draws)
    weak = summarise_localization(make_scores({"Mass": [0.3, 0.3]}), draws)
    none = summarise_localization(make_scores({"Mass": [0.0, 0.0]}), draws)
    best = compare_with_controls(model, {"random": none, "mean": weak})["top"]
    assert best["control"] == "mean"
    assert best["ratio"] == pytest.approx(2.5)
    assert best["ratio_interval"] == pytest.approx([2.5, 2.5])
    assert compare_with_controls(model, {"random": none})["top"]["ratio"] is None
    assert compare_with_controls(model, {})["top"]["control"] is None


def test_classification_counts_and_undefined_findings():
    generator = np.random.default_rng(0)
    scores = generator.random((50, len(FINDINGS)))
    labels = generator.random((50, len(FINDINGS))) < 0.3
    labels[:, 3], labels[:, 5] = False, True
    patients = np.arange(50)
    found = summarise_classification(scores, labels, patients, draw_patients(patients, 200, 0))
    auc = auc_per_finding(scores, labels)
    assert found.findings_in_mean == 12
    assert found.macro == pytest.approx(np.nanmean(auc))
    entry = found.per_finding[FINDINGS[0]]
    low, high = entry["auc_interval"]
    assert entry["auc"] == auc[0]
    assert low < auc[0] < high
    assert entry["n_positive"] + entry["n_negative"] == 50
    undefined = found.per_finding[FINDINGS[3]]
    assert math.isnan(undefined["auc"])
    assert (undefined["auc_interval"], undefined["n_positive"]) == (None, 0)


def test_plain_values_for_json():
    content = {
        "a": np.float32(0.5),
        3: (np.nan, np.int64(2)),
        "c": {"d": np.array([1.0, np.inf])},
        "e": True,
        "f": None,
    }
    expected = {"a": 0.5, "3": [None, 2], "c": {"d": [1.0, None]}, "e": True, "f": None}
    assert plain(content) == expected
