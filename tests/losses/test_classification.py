import socket

import numpy as np
import pytest
import torch
import torch.distributed
import torch.multiprocessing
from torch.nn.functional import multilabel_soft_margin_loss

from clarity_cxr.losses import multilabel_soft_margin, weighted_bce
from tests.reference import losses as reference


@pytest.fixture
def batch():
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(6, 14, generator=generator) * 3
    targets = torch.rand(6, 14, generator=generator)
    labels = (torch.rand(6, 14, generator=generator) < 0.15).float()
    return logits, targets, labels


@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_weighted_bce_equals_reference_on_hard_and_soft_targets(batch, reduction):
    logits, targets, labels = batch
    for goal in (labels, targets):
        expected = reference.weighted_bce(logits.double().numpy(), goal.double().numpy(), labels.numpy(), reduction)
        assert weighted_bce(logits, goal, labels, reduction).item() == pytest.approx(expected, rel=1e-5)


def test_labels_default_to_the_targets_at_one_half(batch):
    logits, targets, _ = batch
    expected = weighted_bce(logits, targets, (targets >= 0.5).float())
    assert weighted_bce(logits, targets) == expected


def test_labels_may_be_bool(batch):
    logits, _, labels = batch
    assert weighted_bce(logits, labels.bool()) == weighted_bce(logits, labels)


def test_a_batch_of_one_kind_of_label_stays_finite():
    logits = torch.zeros(2, 3)
    # |P| = 0 is taken as 1: w_N = 6 / 6 = 1, so the loss is ln 2.
    assert weighted_bce(logits, torch.zeros(2, 3)).item() == pytest.approx(np.log(2))
    assert weighted_bce(logits, torch.ones(2, 3)).item() == pytest.approx(np.log(2))


def test_extreme_logits_stay_finite_and_keep_their_gradient():
    logits = torch.tensor([[-200.0, 200.0]], requires_grad=True)
    loss = weighted_bce(logits, torch.tensor([[1.0, 0.0]]))
    loss.backward()
    assert loss.item() == pytest.approx(400.0)
    assert logits.grad is not None
    assert logits.grad.tolist() == [[-1.0, 1.0]]


def test_multilabel_soft_margin_is_torchs(batch):
    logits, targets, labels = batch
    assert multilabel_soft_margin(logits, targets).item() == pytest.approx(
        multilabel_soft_margin_loss(logits, targets).item(), rel=1e-6
    )
    summed = reference.weighted_bce(logits.double().numpy(), labels.double().numpy(), labels.numpy(), "sum", False)
    assert multilabel_soft_margin(logits, labels, reduction="sum").item() == pytest.approx(summed, rel=1e-5)


def test_gradients(batch):
    logits, targets, labels = (tensor[:2, :4].double() for tensor in batch)
    logits.requires_grad_()
    assert torch.autograd.gradcheck(lambda x: weighted_bce(x, targets, labels, "sum"), logits)
    assert torch.autograd.gradcheck(lambda x: multilabel_soft_margin(x, targets), logits)


def test_float32_under_autocast(batch):
    logits, _, labels = batch
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = weighted_bce(logits.bfloat16(), labels)
    assert loss.dtype == torch.float32
    assert loss == weighted_bce(logits.bfloat16().float(), labels)


def test_mistakes_are_refused(batch):
    logits, _, labels = batch
    with pytest.raises(ValueError, match=r"logits \(6, 14\), targets \(6, 1\)"):
        weighted_bce(logits, labels[:, :1])
    with pytest.raises(ValueError, match="'mean' or 'sum'"):
        weighted_bce(logits, labels, reduction="none")  # pyright: ignore[reportArgumentType]


def _loss_of_half(rank, port, logits, labels):
    torch.distributed.init_process_group("gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=2)
    try:
        half = slice(rank * 3, rank * 3 + 3)
        return weighted_bce(logits[half], labels[half]).item()
    finally:
        torch.distributed.destroy_process_group()


def _second_process(port, logits, labels, queue):
    queue.put(_loss_of_half(1, port, logits, labels))


def test_two_processes_weigh_by_the_global_batch():
    generator = torch.Generator().manual_seed(1)
    logits = torch.randn(6, 14, generator=generator)
    labels = torch.zeros(6, 14)
    labels[0, :5] = 1  # all positives in the first process
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    spawn = torch.multiprocessing.get_context("spawn")
    queue = spawn.SimpleQueue()
    process = spawn.Process(target=_second_process, args=(port, logits, labels, queue))
    process.start()
    mean_of_processes = (_loss_of_half(0, port, logits, labels) + queue.get()) / 2
    process.join()
    assert mean_of_processes == pytest.approx(weighted_bce(logits, labels).item(), rel=1e-6)
