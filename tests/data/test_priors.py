"""Packed priors unpack to the masks that were packed."""

import numpy as np
import torch

from clarity_cxr.data.priors import unpack_priors


def test_unpacking_inverts_numpy_packbits() -> None:
    masks = np.random.default_rng(0).random((3, 4, 128, 128)) > 0.5
    packed = torch.from_numpy(np.packbits(masks, axis=-1, bitorder="big"))
    assert packed.shape == (3, 4, 128, 16)

    unpacked = unpack_priors(packed)

    assert unpacked.dtype == torch.bool
    np.testing.assert_array_equal(unpacked.numpy(), masks)
