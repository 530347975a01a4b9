import numpy as np
import pytest
import torch
from torch.nn import functional

from clarity_cxr.localization.heatmaps import localization_heatmaps, masked_attention, scale_maps
from tests.reference.localization import bilinear_scaled


def random_maps(*shape, seed=0):
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed))


def test_equals_the_slow_reference():
    attention, heatmap = random_maps(2, 3, 5, 5), random_maps(2, 3, 5, 5, seed=1)
    found = localization_heatmaps(attention / 200, heatmap, 0.4, 23)
    assert found.shape == (2, 3, 23, 23)
    assert found.dtype == torch.float32
    for image in range(2):
        for finding in range(3):
            masked = (attention / 200 * (heatmap > 0.4))[image, finding].double().numpy()
            np.testing.assert_allclose(found[image, finding], bilinear_scaled(masked, 23), atol=1e-5)


def test_the_mask_is_strict_and_multiplies_the_attention():
    attention = torch.tensor([[[[0.2, 0.4], [0.6, 0.8]]]])
    heatmap = torch.tensor([[[[0.5, 0.6], [0.4, 0.9]]]])
    expected = torch.tensor([[[[0.0, 0.4], [0.0, 0.8]]]])
    torch.testing.assert_close(masked_attention(attention, heatmap, 0.5), expected)


def test_without_segment_cam_the_attention_stands_alone():
    attention = random_maps(1, 2, 4, 4)
    torch.testing.assert_close(localization_heatmaps(attention, None, 0.5, 16), scale_maps(attention, 16))


def test_each_map_spans_zero_to_one_on_its_own():
    maps = random_maps(2, 3, 4, 4) * torch.tensor([1.0, 1e-3, 50.0])[None, :, None, None] + 0.1
    found = scale_maps(maps, 12)
    torch.testing.assert_close(found.amin((-2, -1)), torch.zeros(2, 3))
    torch.testing.assert_close(found.amax((-2, -1)), torch.ones(2, 3))


@pytest.mark.parametrize("value", [0.0, 1 / 3, 0.1, 1.0])
@pytest.mark.parametrize(("grid", "size"), [(14, 224), (7, 50), (32, 512)])
def test_a_constant_map_is_zero(value, grid, size):
    assert scale_maps(torch.full((1, 1, grid, grid), value), size).abs().max() == 0


def test_an_empty_mask_gives_zero_next_to_a_full_one():
    attention = random_maps(1, 2, 4, 4) + 0.1
    heatmap = torch.stack([torch.zeros(4, 4), torch.ones(4, 4)])[None]
    found = localization_heatmaps(attention, heatmap, 0.5, 8)
    assert found[0, 0].abs().max() == 0
    assert found[0, 1].max() == 1


def test_the_rest_of_the_batch_does_not_matter():
    maps = random_maps(6, 2, 4, 4)
    assert torch.equal(scale_maps(maps, 20)[4:5], scale_maps(maps[4:5], 20))


@pytest.mark.parametrize(("grid", "size"), [(14, 224), (32, 512), (7, 50), (9, 5)])
def test_equals_torch_interpolation_within_zero_and_one(grid, size):
    maps = random_maps(2, 3, grid, grid) * 1e-2
    full = functional.interpolate(maps, size=(size, size), mode="bilinear", align_corners=False)
    low, high = full.amin((-2, -1), keepdim=True), full.amax((-2, -1), keepdim=True)
    found = scale_maps(maps, size)
    torch.testing.assert_close(found, (full - low) / (high - low), rtol=0, atol=2e-6)
    assert found.min() == 0
    assert found.max() == 1


def test_autocast_does_not_round_the_maps():
    maps = random_maps(2, 3, 14, 14)
    expected = scale_maps(maps, 224)
    with torch.autocast("cpu", torch.bfloat16):
        found = scale_maps(maps, 224)
    assert found.dtype == torch.float32
    assert torch.equal(found, expected)
