"""Charts: which there are, and that ROC curves and SVGs are right."""

import xml.etree.ElementTree as ET

import numpy as np
import pandas as pd
import pytest

from clarity_cxr.evaluation.curves import LOSSES, learning_charts, roc_charts, roc_curve, validation_chart
from clarity_cxr.findings import FINDINGS
from clarity_cxr.metrics import auc_per_finding


def metrics_table() -> pd.DataFrame:
    """Losses and validation scores on different rows, as a logger may leave them."""
    train = [{"epoch": e, "step": 10 * e, "train/L_total": 9.0 - e, "train/L_BAS": 0.5} for e in range(4)]
    scores = [{"epoch": e, "step": 10 * e, "val/macro_auc": 0.7, "val/msli": 0.2, "val/udp": u}
              for e, u in enumerate((0.3, 0.6, 0.5, 0.4))]  # fmt: skip
    return pd.DataFrame(train + scores)


def test_one_chart_per_loss_that_was_on():
    charts = learning_charts(metrics_table())
    assert [chart.title for chart in charts] == ["L_total", "L_BAS"]
    assert learning_charts(pd.DataFrame({"epoch": [0], "step": [1]})) == []
    assert {"L_CLS_C", "L_CLS_P", "L_CLS_f", "L_AC", "L_PRX", "L_CNF", "L_OCT"} <= set(LOSSES)


def test_best_epoch_is_that_of_the_highest_udp():
    chart = validation_chart(metrics_table())
    assert chart is not None
    assert "best UDP 0.600 at epoch 1" in chart.subtitle
    assert validation_chart(pd.DataFrame({"epoch": [0], "train/L_total": [1.0]})) is None


def test_undefined_scores_are_left_out():
    table = pd.DataFrame({"epoch": [0, 1, 2], "val/macro_auc": [0.5, 0.6, 0.7], "val/udp": [np.nan] * 3})
    chart = validation_chart(table)
    assert chart is not None
    assert chart.subtitle == ""


def test_svg_is_whole_asks_for_nothing_and_follows_the_text_colour():
    for chart in learning_charts(metrics_table()):
        root = ET.fromstring(chart.svg)
        assert root.get("viewBox")
        assert root.get("width") is None
        assert "currentColor" in chart.svg
        assert "#010203" not in chart.svg
        assert "<image" not in chart.svg


@pytest.mark.parametrize("ties", [False, True])
def test_roc_curve_has_the_area_of_the_rank_sum(ties):
    generator = np.random.default_rng(0)
    labels = generator.random(150) < 0.3
    scores = generator.random(150) + 0.3 * labels
    scores = np.round(scores, 1) if ties else scores
    false_rate, true_rate = roc_curve(scores, labels)
    assert (false_rate[0], true_rate[0], false_rate[-1], true_rate[-1]) == (0, 0, 1, 1)
    area = float(np.sum(np.diff(false_rate) * (true_rate[1:] + true_rate[:-1]) / 2))
    assert area == pytest.approx(auc_per_finding(scores[:, None], labels[:, None])[0])


def test_long_roc_curves_are_thinned_but_keep_their_ends():
    generator = np.random.default_rng(0)
    false_rate, true_rate = roc_curve(generator.random(5000), generator.random(5000) < 0.5)
    assert len(false_rate) <= 240
    assert (false_rate[-1], true_rate[-1]) == (1, 1)


def test_undefined_roc_is_said():
    labels = np.zeros((20, len(FINDINGS)), dtype=bool)
    labels[:5, 0] = True
    probabilities = np.random.default_rng(0).random(labels.shape)
    charts = roc_charts(probabilities, labels, auc_per_finding(probabilities, labels).tolist())
    assert len(charts) == len(FINDINGS)
    assert charts[0].subtitle.startswith("AUC ")
    assert charts[0].subtitle.endswith("n = 5")
    assert charts[1].subtitle == "undefined, n = 0"
