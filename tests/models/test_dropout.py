"""Dropout with cheap draws: rate, scale, keyed draws, gradient."""

import pytest
import torch
from torch import nn

from clarity_cxr.models import create_model
from clarity_cxr.models.dropout import Dropout, use_cheap_dropout


@pytest.mark.parametrize("shape", [(1000, 333), (7, 11, 13, 101)])
@pytest.mark.parametrize("rate", [0.1, 0.5])
def test_drops_at_its_rate_and_keeps_the_mean(shape: tuple[int, ...], rate: float) -> None:
    torch.manual_seed(0)
    dropped = Dropout(rate)(torch.ones(shape))
    share = (dropped == 0).float().mean().item()
    assert share == pytest.approx(rate, abs=5 * (rate * (1 - rate) / dropped.numel()) ** 0.5)
    assert dropped.unique().tolist() == pytest.approx([0, 1 / (1 - rate)])


def test_neighbours_that_share_a_draw_are_independent() -> None:
    torch.manual_seed(0)
    zero = (Dropout(0.5)(torch.ones(400_000)) == 0).float().view(-1, 4)
    correlation = torch.corrcoef(zero.T)
    assert (correlation - torch.eye(4)).abs().max().item() < 0.016, "5 standard errors of 100,000 rows"


def test_the_seed_keys_the_draws_and_the_gradient_follows_the_mask() -> None:
    x = torch.ones(5, 7, requires_grad=True)
    torch.manual_seed(3)
    first = Dropout(0.3)(x)
    torch.manual_seed(3)
    assert torch.equal(Dropout(0.3)(x), first)
    first.sum().backward()
    assert torch.equal(x.grad, first.detach())


def test_nothing_happens_in_eval_mode_or_at_rate_zero() -> None:
    x = torch.randn(3, 5)
    assert torch.equal(Dropout(0.5).eval()(x), x)
    assert torch.equal(Dropout(0.0)(x), x)


def test_every_dropout_of_a_model_is_replaced_at_its_rate() -> None:
    layers = nn.Sequential(nn.Linear(2, 2), nn.Sequential(nn.Dropout(0.2)))
    use_cheap_dropout(layers)
    assert [type(layer) for layer in layers[1]] == [Dropout]
    assert layers[1][0].p == 0.2
    model = create_model("clarity_t8_64", pool_dropout=0.1, mlp_dropout=0.2, attention_dropout=0.3)
    assert not [module for module in model.modules() if type(module) is nn.Dropout]
    assert {module.p for module in model.modules() if isinstance(module, Dropout)} == {0.1, 0.2, 0.3}
