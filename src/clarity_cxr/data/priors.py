"""Unpacking a store's bit-packed anatomical priors on the training device."""

import torch
from torch import Tensor


def unpack_priors(packed: Tensor) -> Tensor:
    """Unpack masks that were packed eight pixels to a byte, most significant bit leftmost.

    Args:
        packed: (B, 4, 128, 16) uint8 on any device; any leading shape is accepted.

    Returns:
        (B, 4, 128, 128) bool on the same device.
    """
    shifts = torch.arange(7, -1, -1, dtype=torch.uint8, device=packed.device)
    return (packed.unsqueeze(-1) >> shifts).bitwise_and_(1).bool().flatten(-2)
