import pytest
import torch

from clarity_cxr.losses import background_activation_suppression_loss
from tests.reference import losses as reference


@pytest.fixture
def batch():
    generator = torch.Generator().manual_seed(0)
    labels = (torch.rand(5, 14, generator=generator) < 0.2).float()
    labels[0] = 0
    return torch.randn(5, 14, generator=generator), torch.randn(5, 14, generator=generator), labels


def test_equals_reference(batch):
    expected = reference.background_activation_suppression_loss(*(tensor.double().numpy() for tensor in batch))
    assert background_activation_suppression_loss(*batch).item() == pytest.approx(expected, rel=1e-5)


def test_equal_logits_cost_one_and_no_positive_costs_nothing():
    logits = torch.zeros(1, 3)
    assert background_activation_suppression_loss(logits, logits, torch.ones(1, 3)).item() == pytest.approx(1)
    assert background_activation_suppression_loss(logits, logits, torch.zeros(1, 3)).item() == 0


def test_extreme_logits_stay_finite():
    loss = background_activation_suppression_loss(torch.full((1, 1), 80.0), torch.full((1, 1), -80.0), torch.ones(1, 1))
    assert loss.item() == pytest.approx(80 / 1e-8, rel=1e-5)


def test_the_denominator_has_a_gradient_unless_detached(batch):
    background, patch, labels = batch
    for detached in (False, True):
        patch = patch.detach().requires_grad_()
        background = background.detach().requires_grad_()
        background_activation_suppression_loss(background, patch, labels, detached).backward()
        assert background.grad is not None
        assert (background.grad[labels > 0] > 0).all()
        assert (background.grad[labels == 0] == 0).all()
        if detached:
            assert patch.grad is None
        else:
            assert patch.grad is not None
            assert (patch.grad[labels > 0] < 0).all()


def test_gradients(batch):
    background, patch, labels = (tensor.double() for tensor in batch)
    background.requires_grad_()
    patch.requires_grad_()
    assert torch.autograd.gradcheck(
        lambda b, p: background_activation_suppression_loss(b, p, labels), (background, patch)
    )


def test_float32_under_autocast(batch):
    background, patch, labels = batch
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = background_activation_suppression_loss(background.bfloat16(), patch.bfloat16(), labels)
    assert loss.dtype == torch.float32
