import subprocess
import sys

import numpy as np
import pytest
import torch

from clarity_cxr.metrics import MacroAUC, macro_auc


@pytest.fixture
def batch():
    generator = np.random.default_rng(0)
    return generator.random((60, 14)).round(1), generator.random((60, 14)) < 0.2


def test_metric_over_batches_equals_function(batch):
    scores, labels = torch.from_numpy(batch[0]), torch.from_numpy(batch[1])
    metric = MacroAUC()
    for rows in torch.arange(60).split(16):
        metric.update(scores[rows], labels[rows].float())
    # The metric keeps float32 scores, which leaves the order of these one-decimal ones as it was.
    assert metric.compute().item() == pytest.approx(macro_auc(scores, labels).value, rel=1e-12)
    metric.reset()
    metric.update(scores[:30], labels[:30])
    assert metric.compute().item() == pytest.approx(macro_auc(scores[:30], labels[:30]).value, rel=1e-12)


def test_two_processes_give_the_value_of_one(batch):
    scores, labels = torch.from_numpy(batch[0]).float(), torch.from_numpy(batch[1])
    other = {torch.float32: scores[25:], torch.bool: labels[25:]}  # what the other process holds, by state

    def gather(state, group=None):
        return [state, other[state.dtype]]

    metric = MacroAUC(dist_sync_fn=gather, distributed_available_fn=lambda: True)
    for rows in (slice(0, 10), slice(10, 25)):
        metric.update(scores[rows], labels[rows])
    assert metric.compute().item() == pytest.approx(macro_auc(scores, labels).value, rel=1e-12)


def test_the_functions_come_without_torchmetrics():
    code = "import sys, clarity_cxr.metrics; assert 'torchmetrics' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
