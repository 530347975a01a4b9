"""Grey films to what a network takes."""

from torch import Tensor


def network_input(films: Tensor, mean: Tensor, std: Tensor) -> Tensor:
    """Grey films as normalised three-channel images.

    Args:
        films: uint8 (B, S, S), or float (B, 1, S, S) in [0, 1].
        mean: (1, 3, 1, 1).
        std: (1, 3, 1, 1).

    Returns:
        (B, 3, S, S) float32.
    """
    if films.dtype.is_floating_point:
        return (films - mean) / std
    return (films.unsqueeze(1).float() / 255 - mean) / std
