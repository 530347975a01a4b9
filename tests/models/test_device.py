import pytest
import torch

from clarity_cxr.errors import ClarityError
from clarity_cxr.models.device import usable_device


def test_cpu_is_usable() -> None:
    assert usable_device("cpu") == torch.device("cpu")


@pytest.mark.parametrize("name", ["abacus", "cuda:999"])
def test_others_are_named(name: str) -> None:
    with pytest.raises(ClarityError, match=f"device '{name}' is not usable here"):
        usable_device(name)
