"""Unpacking a store's bit-packed anatomical priors on the training device."""

import functools

import torch
from torch import Tensor


def unpack_priors(packed: Tensor) -> Tensor:
    """Unpack masks that were packed eight pixels to a byte, most significant bit leftmost.

    Args:
        packed: (B, 4, 128, 16) uint8 on any device; any leading shape is accepted.

    Returns:
        (B, 4, 128, 128) bool on the same device.
    """
    words = _pixels_of_bytes(packed.device).index_select(0, packed.flatten().int())
    return words.view(torch.bool).view(*packed.shape[:-1], 8 * packed.shape[-1])


@functools.cache
def _pixels_of_bytes(device: torch.device) -> Tensor:
    """(256,) int64: the eight bools of each byte, as one word."""
    shifts = torch.arange(7, -1, -1, device=device)
    bits = (torch.arange(256, device=device)[:, None] >> shifts).bitwise_and_(1).bool()
    return bits.view(torch.int64).flatten()
