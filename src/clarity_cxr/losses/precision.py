"""Losses are computed in float32 at least, whatever autocast the caller is in."""

import functools
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar

import torch
from torch import Tensor

P = ParamSpec("P")
R = TypeVar("R")


def _promote(value: Any) -> Any:
    if isinstance(value, Tensor) and value.is_floating_point():
        return value.to(torch.promote_types(value.dtype, torch.float32))
    return value


def full_precision(function: Callable[P, R]) -> Callable[P, R]:
    """Run `function` with autocast off and its half-precision tensor arguments cast to float32.

    Float64 tensors stay float64, so that gradients can be checked numerically.

    Args:
        function: a loss whose first positional or keyword argument is a tensor.

    Returns:
        `function` under the same signature.
    """

    @functools.wraps(function)
    def wrapped(*args: P.args, **kwargs: P.kwargs) -> R:
        first = next(value for value in (*args, *kwargs.values()) if isinstance(value, Tensor))
        with torch.autocast(first.device.type, enabled=False):
            promoted = {key: _promote(value) for key, value in kwargs.items()}
            return function(*map(_promote, args), **promoted)  # pyright: ignore[reportCallIssue]

    return wrapped


def require_same_shape(**tensors: Tensor) -> None:
    """Refuse tensors that would only fit by broadcasting.

    Args:
        tensors: the arguments to compare, under their names.

    Raises:
        ValueError: two of them differ in shape.
    """
    if len({tuple(tensor.shape) for tensor in tensors.values()}) > 1:
        shapes = ", ".join(f"{name} {tuple(tensor.shape)}" for name, tensor in tensors.items())
        raise ValueError(f"expected tensors of one shape, got {shapes}")
