import math

import pytest
import torch

from clarity_cxr.losses import contrastive_class_token_loss, orthogonal_class_token_loss
from tests.reference import losses as reference


@pytest.fixture
def tokens():
    return torch.randn(3, 4, 5, 8, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def labels():
    # One image without a positive, one with all.
    return torch.tensor([[1, 0, 1, 0, 0], [0, 0, 0, 0, 0], [1, 1, 1, 1, 1], [0, 0, 0, 0, 1]]).float()


def test_orthogonal_equals_reference(tokens, labels):
    expected = reference.orthogonal_class_token_loss(tokens.double().numpy(), labels.numpy())
    assert orthogonal_class_token_loss(tokens, labels).item() == pytest.approx(expected, rel=1e-5)


def test_contrastive_equals_reference(tokens, labels):
    expected = reference.contrastive_class_token_loss(tokens.double().numpy(), labels.numpy())
    assert contrastive_class_token_loss(tokens, labels).item() == pytest.approx(expected, rel=1e-5)


def test_orthogonal_tokens_cost_nothing_and_parallel_ones_cost_one():
    positive = torch.ones(1, 4)
    axes = torch.eye(4)[None, None]
    assert orthogonal_class_token_loss(axes, positive).item() == 0
    parallel = torch.arange(1.0, 5.0)[:, None].expand(4, 6)[None, None]
    assert orthogonal_class_token_loss(parallel, positive).item() == pytest.approx(1)
    # Contrastive: rows of the identity as logits.
    expected = math.log(math.e + 3) - 1
    assert contrastive_class_token_loss(axes, positive).item() == pytest.approx(expected)


def test_no_positive_class_costs_nothing(tokens):
    none = torch.zeros(4, 5)
    assert orthogonal_class_token_loss(tokens, none).item() == 0
    assert contrastive_class_token_loss(tokens, none).item() == 0


def test_identical_and_zero_tokens_give_a_finite_gradient(labels):
    for value in (0.0, 1.0):
        tokens = torch.full((3, 4, 5, 8), value, requires_grad=True)
        (orthogonal_class_token_loss(tokens, labels) + contrastive_class_token_loss(tokens, labels)).backward()
        assert tokens.grad is not None
        assert tokens.grad.isfinite().all()
        # Identical directions are a stationary point: nothing but noise in the start can separate them.
        assert tokens.grad.abs().max() < 1e-6


def test_gradients(tokens, labels):
    tokens = tokens[:2, :, :, :3].double().requires_grad_()
    assert torch.autograd.gradcheck(lambda x: orthogonal_class_token_loss(x, labels.double()), tokens)
    assert torch.autograd.gradcheck(lambda x: contrastive_class_token_loss(x, labels.double()), tokens)


def test_float32_under_autocast(tokens, labels):
    for loss in (orthogonal_class_token_loss, contrastive_class_token_loss):
        with torch.autocast("cpu", dtype=torch.bfloat16):
            value = loss(tokens.bfloat16(), labels)
        assert value.dtype == torch.float32
        assert value == loss(tokens.bfloat16().float(), labels)


def test_shapes_are_checked(tokens, labels):
    with pytest.raises(ValueError, match=r"tokens \(q, B, C, D\)"):
        orthogonal_class_token_loss(tokens[0], labels)
    with pytest.raises(ValueError, match=r"\(4, 4\)"):
        contrastive_class_token_loss(tokens, labels[:, :4])
