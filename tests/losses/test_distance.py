import numpy as np
import pytest
import torch
from scipy.ndimage import distance_transform_edt

from clarity_cxr.losses import euclidean_distance_transform
from tests.reference import edt as reference


@pytest.mark.parametrize("density", [0.3, 0.01, 0.0005])
@pytest.mark.parametrize("shape", [(64, 64), (128, 128), (7, 90), (200, 3), (1, 20), (20, 1), (2, 2)])
def test_equals_scipy_exactly(shape, density):
    generator = np.random.default_rng(0)
    masks = generator.random((5, *shape)) < density
    masks[:, generator.integers(shape[0]), generator.integers(shape[1])] = True
    distance = euclidean_distance_transform(torch.from_numpy(masks))
    expected = np.stack([distance_transform_edt(~mask) for mask in masks])
    # Squared distances are integers: they agree exactly, their square roots to the last float32 digit.
    np.testing.assert_array_equal((distance.double() ** 2).round(), (expected**2).round())
    np.testing.assert_allclose(distance, expected, rtol=2e-7)


def test_equals_exhaustive_reference():
    masks = torch.rand(3, 12, 9, generator=torch.Generator().manual_seed(0)) < 0.05
    masks[2] = False
    expected = np.stack([reference.euclidean_distance_transform(mask) for mask in masks.numpy()])
    np.testing.assert_allclose(euclidean_distance_transform(masks), expected, rtol=1e-6)


def test_one_pixel_in_the_corner_reaches_the_opposite_one():
    for side in (64, 103, 104, 300):
        mask = torch.zeros(side, side, dtype=torch.bool)
        mask[0, 0] = True
        farthest = euclidean_distance_transform(mask)[-1, -1].item()
        assert farthest == pytest.approx(np.hypot(side - 1, side - 1), rel=1e-6)


def test_a_full_mask_is_zero_and_an_empty_one_infinite():
    masks = torch.stack((torch.ones(2, 5, 6), torch.zeros(2, 5, 6))).bool()
    distance = euclidean_distance_transform(masks)
    assert distance.shape == masks.shape
    assert (distance[0] == 0).all()
    assert (distance[1] == torch.inf).all()


def test_batch_dimensions_and_numeric_masks():
    masks = torch.rand(2, 3, 4, 10, 11, generator=torch.Generator().manual_seed(0)) < 0.1
    distance = euclidean_distance_transform(masks)
    torch.testing.assert_close(distance[1, 2, 3], euclidean_distance_transform(masks[1, 2, 3].float()))
    assert distance.dtype == torch.float32


def test_a_vector_is_refused():
    with pytest.raises(ValueError, match=r"\(\.\.\., H, W\)"):
        euclidean_distance_transform(torch.ones(4, dtype=torch.bool))
