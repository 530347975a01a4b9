"""One computation on several processes: how many there are, and what they add up.

Lightning starts the processes of a training run. Other commands join those that `torchrun` or SLURM started.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from numpy.typing import NDArray
from torch import Tensor


def process_count() -> int:
    """Processes that work together; 1 without a process group."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def process_rank() -> int:
    """This process's place among them, from 0."""
    return dist.get_rank() if process_count() > 1 else 0


@contextmanager
def joined_processes(device: str) -> Iterator[torch.device]:
    """Join the processes that `torchrun` started, if it did; leave them at the end.

    Args:
        device: where each computes; `cuda` becomes the process's own.

    Yields:
        The device of this process.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) == 1 or process_count() > 1:
        yield torch.device(device)
        return
    place = torch.device(device)
    if place.type == "cuda" and place.index is None:
        place = torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
        torch.cuda.set_device(place)
    dist.init_process_group("nccl" if place.type == "cuda" else "gloo")
    try:
        yield place
    finally:
        dist.destroy_process_group()


def own_share(count: int) -> NDArray[np.int64]:
    """The positions among `count` that this process looks after: every n-th, from its rank."""
    return np.arange(process_rank(), count, process_count())


def sum_over_processes(array: NDArray[Any], device: torch.device | str) -> NDArray[Any]:
    """Sum of an array over all processes; exact where every element is zero in all of them but one.

    Args:
        array: numbers, of one shape in all processes, which must call this together.
        device: the process group's kind of device.
    """
    if process_count() == 1:
        return array
    total = torch.from_numpy(np.ascontiguousarray(array)).to(device)
    dist.all_reduce(total)
    return total.cpu().numpy()


def mean_over_processes(value: Tensor) -> Tensor:
    """Mean of a tensor over all processes, with the gradient of all of them."""
    return value if process_count() == 1 else _Sum.apply(value) / process_count()  # pyright: ignore[reportOperatorIssue]


class _Sum(torch.autograd.Function):
    """Sum over all processes; the gradient is the sum of theirs."""

    @staticmethod
    def forward(ctx: Any, value: Tensor) -> Tensor:
        """The sum, the same in every process."""
        total = value.contiguous().clone()
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        """The sum of the processes' gradients."""
        total = gradients[0].contiguous().clone()
        dist.all_reduce(total)
        return total
