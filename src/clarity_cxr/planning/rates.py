"""Rates of bare hardware: matrix products, copies in memory, disk. They are the floor under everything else."""

import os
import time
from collections.abc import Callable
from pathlib import Path

import torch

from clarity_cxr.files import file_digest, output_errors

_BLOCK = 1 << 23


def timings(function: Callable[[], object], seconds: float, device: torch.device) -> list[float]:
    """Seconds of each call, for about `seconds` in all but at least one call, after a call that is not counted.

    Args:
        function: what to time; its work on `device` is waited for.
        seconds: how long to go on.
        device: where the work is done.
    """
    function()
    _wait(device)
    taken: list[float] = []
    while sum(taken) < seconds or not taken:
        begin = time.perf_counter()
        function()
        _wait(device)
        taken.append(time.perf_counter() - begin)
    return taken


def matmul_rate(device: torch.device, dtype: torch.dtype, side: int, seconds: float) -> float:
    """Multiply-adds per second of a product of two square matrices, the best of repeated products.

    Args:
        device: where.
        dtype: of factors and product.
        side: rows and columns; a product is side^3 multiply-adds.
        seconds: how long to repeat.
    """
    left, right = torch.randn(2, side, side, device=device).to(dtype)
    product = torch.empty_like(left)
    return side**3 / min(timings(lambda: torch.mm(left, right, out=product), seconds, device))


def copy_rate(device: torch.device, size: int, seconds: float) -> float:
    """Bytes read plus bytes written per second while `size` bytes are copied within the device's memory, the best."""
    source = torch.zeros(size, dtype=torch.uint8, device=device)
    target = torch.ones_like(source)
    return 2 * size / min(timings(lambda: target.copy_(source), seconds, device))


def disk_rates(folder: Path, size: int) -> tuple[float, float, float]:
    """Bytes per second written (with fsync), read back after the page cache was told to forget, and digested.

    Args:
        folder: on the disk that is meant; a file of `size` bytes is written there and removed.
        size: bytes, a multiple of 8 MiB or less than it.

    Raises:
        ClarityError: the folder cannot be written to, or the disk is full.
    """
    path, block = folder / "disk_rate.tmp", os.urandom(min(size, _BLOCK))
    try:
        with output_errors(path), path.open("wb", buffering=0) as handle:
            begin = time.perf_counter()
            for _ in range(size // len(block)):
                handle.write(block)
            os.fsync(handle.fileno())
            written = time.perf_counter() - begin
            if hasattr(os, "posix_fadvise"):
                os.posix_fadvise(handle.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        begin = time.perf_counter()
        with path.open("rb", buffering=0) as handle:
            while handle.read(_BLOCK):
                pass
        read = time.perf_counter() - begin
        begin = time.perf_counter()
        file_digest(path)
        digested = time.perf_counter() - begin
    finally:
        path.unlink(missing_ok=True)
    return size / written, size / read, size / digested


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
