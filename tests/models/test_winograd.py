"""Winograd's convolution equals the direct one, follows its weights, and steps aside where it must."""

import pytest
import torch
from torch import nn
from torch.nn.functional import conv2d

from clarity_cxr.models.winograd import WinogradConv2d


def pair(inputs: int = 256, outputs: int = 40) -> tuple[WinogradConv2d, nn.Conv2d]:
    torch.manual_seed(0)
    ours, direct = WinogradConv2d(inputs, outputs), nn.Conv2d(inputs, outputs, 3, padding=1)
    direct.load_state_dict(ours.state_dict())
    return ours, direct


def films(*shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(1))


def relative_error(found: torch.Tensor, exact: torch.Tensor) -> float:
    """Root mean square of the error over that of the exact values."""
    return ((found.double() - exact).square().mean() / exact.square().mean()).sqrt().item()


def exact(convolution: nn.Conv2d, x: torch.Tensor) -> torch.Tensor:
    assert convolution.bias is not None
    return conv2d(x.double(), convolution.weight.double(), convolution.bias.double(), padding=1)


@pytest.mark.parametrize("size", [(14, 14), (7, 9), (1, 1), (2, 5)])
@pytest.mark.parametrize("memory_format", [torch.channels_last, torch.contiguous_format])
@torch.no_grad()
def test_equals_the_direct_convolution(size, memory_format):
    ours, direct = pair()
    x = films(3, 256, *size).contiguous(memory_format=memory_format)
    found = ours.to(memory_format=memory_format)(x)
    assert ours._transformed is not None
    assert found.shape == direct(x).shape
    assert found.dtype == torch.float32
    assert relative_error(found, exact(direct, x)) < 2e-6
    torch.testing.assert_close(found, direct(x), rtol=1e-5, atol=1e-5)


@torch.no_grad()
def test_float64_is_exact_to_its_own_rounding():
    ours, direct = pair()
    x = films(2, 256, 6, 6).double()
    torch.testing.assert_close(ours.double()(x), direct.double()(x), rtol=1e-12, atol=1e-12)


@torch.no_grad()
def test_bfloat16_is_not_much_further_from_the_truth_than_direct():
    ours, direct = pair(384, 64)
    x = films(2, 384, 14, 14)
    with torch.autocast("cpu", torch.bfloat16):
        found, peer = ours(x), direct(x)
    assert found.dtype == torch.bfloat16
    truth = exact(direct, x)
    assert relative_error(found, truth) < 2.5 * relative_error(peer, truth)


@torch.no_grad()
def test_changed_weights_are_noticed():
    ours, direct = pair()
    x = films(1, 256, 4, 4)
    ours(x)
    ours.weight.mul_(2)
    direct.weight.mul_(2)
    torch.testing.assert_close(ours(x), direct(x), rtol=1e-5, atol=1e-5)
    weight = films(*direct.weight.shape)
    ours.load_state_dict({"weight": weight, "bias": direct.bias}, assign=True)
    direct.weight.copy_(weight)
    torch.testing.assert_close(ours(x), direct(x), rtol=1e-5, atol=1e-4)
    with torch.autocast("cpu", torch.bfloat16):
        ours(x)
    torch.testing.assert_close(ours(x), direct(x), rtol=1e-5, atol=1e-4)


def test_optimizer_steps_are_noticed():
    ours, direct = pair()
    x = films(1, 256, 4, 4)
    with torch.no_grad():
        ours(x)
    for convolution in (ours, direct):
        convolution(x).square().sum().backward()
        torch.optim.AdamW(convolution.parameters(), lr=0.1, fused=True).step()
    with torch.no_grad():
        torch.testing.assert_close(ours(x), direct(x), rtol=1e-5, atol=1e-4)


def test_switching_to_eval_forgets_the_transformed_weights():
    ours, _ = pair()
    with torch.no_grad():
        ours(films(1, 256, 4, 4))
    assert ours._transformed is not None
    assert ours.eval()._transformed is None


def test_gradients_are_those_of_the_direct_convolution():
    ours, direct = pair()
    gradients = []
    for convolution in (ours, direct):
        x = films(2, 256, 6, 6).requires_grad_()
        convolution(x).sin().sum().backward()
        gradients.append((x.grad, convolution.weight.grad, convolution.bias.grad))
    assert all(torch.equal(a, b) for a, b in zip(*gradients, strict=True))


@torch.no_grad()
def test_few_channels_and_exported_graphs_stay_direct():
    few, direct = pair(14, 28)
    x = films(2, 14, 6, 6)
    assert torch.equal(few(x), direct(x))
    ours, _ = pair()
    program = torch.export.export(ours.eval(), (films(1, 256, 4, 4),))
    called = {str(node.target) for node in program.graph.nodes}
    assert "aten.conv2d.default" in called
    assert ours._transformed is None


def test_the_state_holds_the_weights_alone():
    ours, direct = pair()
    with torch.no_grad():
        ours(films(1, 256, 4, 4))
    assert ours.state_dict().keys() == direct.state_dict().keys()
