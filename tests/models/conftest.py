"""A model small enough to differentiate and compare on the CPU in a moment."""

import pytest
import torch

from clarity_cxr.models import Clarity, create_model


@pytest.fixture
def model() -> Clarity:
    torch.manual_seed(0)
    return create_model("clarity_t8_64", width=32, heads=2, depth=3, attention_blocks=2, token_blocks=2)


@pytest.fixture
def images() -> torch.Tensor:
    return torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(1))
