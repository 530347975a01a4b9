import numpy as np
import pytest
import torch

from clarity_cxr.findings import PRIOR_OF_FINDING
from clarity_cxr.losses import (
    anatomy_losses,
    area_constraint_loss,
    mask_confinement_loss,
    mask_proximity_loss,
    region_similarity_weights,
    resample_heatmaps,
    resample_regions,
)
from tests.reference import losses as reference

INDEX = list(PRIOR_OF_FINDING)


@pytest.fixture
def heatmaps():
    return torch.rand(3, 5, 10, 12, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def regions():
    """Boxes of several sizes; in image 0 one finding has none, in image 2 none has."""
    regions = torch.zeros(3, 5, 10, 12, dtype=torch.bool)
    for c in range(5):
        regions[0, c, c : c + 3, 2 : 5 + c] = True
        regions[1, c, 1:8, 2 : 5 + c // 2] = True
    regions[0, 3] = False
    return regions


@pytest.fixture
def priors():
    """Four 128 px priors of three films; the second prior of the first film and all of the last are empty."""
    priors = torch.zeros(3, 4, 128, 128, dtype=torch.bool)
    for b in range(2):
        for r in range(4):
            priors[b, r, 20 + 9 * b : 90 - 11 * r, 30 + 7 * r : 101 - 10 * b] = True
    priors[0, 1] = False
    return priors


@pytest.mark.parametrize("form", ["text", "printed"])
def test_similarity_weights_equal_reference(regions, form):
    expected = reference.region_similarity_weights(regions.numpy(), form)
    np.testing.assert_allclose(region_similarity_weights(regions, form), expected, atol=1e-6)


def test_text_weights_have_minimum_one_and_stay_finite(regions):
    weights = region_similarity_weights(regions)
    torch.testing.assert_close(weights.amin(dim=1), torch.ones(3))
    assert (weights <= 2).all()
    # No region at all: nothing to tell the findings apart.
    assert weights[2].tolist() == [1] * 5
    # The finding without a region is unlike all others.
    assert weights[0].argmax() == 3


def test_weights_by_hand():
    regions = torch.tensor([[[[1, 1, 0]], [[1, 1, 0]], [[0, 0, 1]]]]).bool()
    # mu = (1/2, 1/2, 0): the text gives 1 + 1/2 - mu, the printed equation 2 - mu - 0.
    assert region_similarity_weights(regions)[0].tolist() == pytest.approx([1, 1, 1.5])
    assert region_similarity_weights(regions, "printed")[0].tolist() == pytest.approx([1.5, 1.5, 2])


def test_proximity_equals_reference(heatmaps, regions):
    expected = reference.mask_proximity_loss(heatmaps.double().numpy(), regions.numpy())
    assert mask_proximity_loss(heatmaps, regions).item() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("form", ["text", "printed"])
def test_confinement_equals_reference(heatmaps, regions, form):
    expected = reference.mask_confinement_loss(heatmaps.double().numpy(), regions.numpy(), form)
    assert mask_confinement_loss(heatmaps, regions, form).item() == pytest.approx(expected, rel=1e-5)


def test_area_is_the_mean_heat(heatmaps):
    assert area_constraint_loss(heatmaps) == heatmaps.mean()


def test_heat_inside_the_region_costs_nothing(regions):
    inside = regions.float()
    assert mask_proximity_loss(inside, regions).item() == 0
    assert mask_confinement_loss(inside, regions).item() == 0


def test_all_heat_outside_costs_the_mean_weight(regions):
    outside = 0.3 * (~regions).float()
    weights = region_similarity_weights(regions) * regions.flatten(2).any(dim=2)
    assert mask_confinement_loss(outside, regions).item() == pytest.approx(weights.mean().item(), rel=1e-5)


def test_a_finding_without_a_region_contributes_nothing(heatmaps, regions):
    heatmaps.requires_grad_()
    (mask_proximity_loss(heatmaps, regions) + mask_confinement_loss(heatmaps, regions)).backward()
    assert heatmaps.grad is not None
    assert heatmaps.grad.isfinite().all()
    present = regions.flatten(2).any(dim=2)
    assert (heatmaps.grad[~present] == 0).all()
    assert (heatmaps.grad[present].flatten(1).abs().amax(dim=1) > 0).all()


def test_only_the_text_form_of_confinement_has_a_gradient(heatmaps, regions):
    for form, moves in (("text", True), ("printed", False)):
        leaf = heatmaps.clone().requires_grad_()
        mask_confinement_loss(leaf, regions, form).backward()
        assert leaf.grad is not None
        assert bool(leaf.grad.any()) is moves


def test_an_all_zero_heatmap_is_finite(regions):
    heatmaps = torch.zeros(3, 5, 10, 12, requires_grad=True)
    loss = mask_confinement_loss(heatmaps, regions)
    loss.backward()
    assert loss.item() == 0
    assert heatmaps.grad is not None
    assert heatmaps.grad.isfinite().all()


def test_gradients(heatmaps, regions):
    leaf = heatmaps[:, :, :6, :6].double().requires_grad_()
    masks = regions[:, :, :6, :6]
    assert torch.autograd.gradcheck(lambda x: mask_proximity_loss(x, masks), leaf)
    assert torch.autograd.gradcheck(lambda x: mask_confinement_loss(x, masks), leaf)
    assert torch.autograd.gradcheck(area_constraint_loss, leaf)


def test_regions_by_index_equal_regions_per_finding(priors):
    regions = resample_regions(priors)
    heatmaps = torch.rand(3, 14, 64, 64, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(
        region_similarity_weights(regions, region_of_finding=INDEX), region_similarity_weights(regions[:, INDEX])
    )
    for loss in (mask_proximity_loss, mask_confinement_loss):
        torch.testing.assert_close(loss(heatmaps, regions, region_of_finding=INDEX), loss(heatmaps, regions[:, INDEX]))


@pytest.mark.parametrize("form", ["text", "printed"])
@pytest.mark.parametrize("grid", [14, 32, 64, 8])
def test_the_training_path_equals_the_public_losses_in_value_and_gradient(priors, grid, form):
    heatmaps = torch.rand(3, 14, grid, grid, generator=torch.Generator().manual_seed(0)).double()
    fast, slow = heatmaps.clone().requires_grad_(), heatmaps.clone().requires_grad_()
    losses = anatomy_losses(fast, priors, confinement_form=form, similarity_form=form)
    resampled, regions = resample_heatmaps(slow), resample_regions(priors)[:, INDEX]
    weights = region_similarity_weights(regions, form)
    expected = (
        mask_proximity_loss(resampled, regions, weights=weights),
        mask_confinement_loss(resampled, regions, form, weights=weights),
        area_constraint_loss(resampled),
    )
    torch.testing.assert_close(tuple(losses), expected)
    sum(losses).backward()
    sum(expected).backward()
    torch.testing.assert_close(fast.grad, slow.grad)


def test_without_priors_only_the_area_remains():
    losses = anatomy_losses(torch.full((2, 14, 14, 14), 0.25), None)
    assert [loss.item() for loss in losses] == [0, 0, 0.25]


def test_float32_under_autocast(heatmaps, regions, priors):
    small = torch.rand(3, 14, 14, 14, generator=torch.Generator().manual_seed(0)).bfloat16()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        losses = anatomy_losses(small, priors)
        single = mask_proximity_loss(heatmaps.bfloat16(), regions)
        weights = region_similarity_weights(regions)
    assert {single.dtype, weights.dtype, *(loss.dtype for loss in losses)} == {torch.float32}
    torch.testing.assert_close(tuple(losses), tuple(anatomy_losses(small.float(), priors)), rtol=0, atol=0)


def test_regions_are_binarised_at_one_half():
    regions = torch.zeros(1, 1, 4, 4, dtype=torch.bool)
    regions[0, 0, :2, :1] = True  # covers half of the first pixel of a 2 x 2 grid
    regions[0, 0, 2, 2] = True  # and a quarter of the last
    assert resample_regions(regions, 2)[0, 0].tolist() == [[True, False], [False, False]]
    assert resample_regions(regions, 4) is regions


def test_mistakes_are_refused(heatmaps, regions):
    with pytest.raises(ValueError, match=r"heatmaps \(3, 5, 10, 12\), got \(3, 5, 10, 10\)"):
        mask_proximity_loss(heatmaps[..., :10], regions)
    with pytest.raises(ValueError, match="'text' or 'printed'"):
        mask_confinement_loss(heatmaps, regions, "other")  # pyright: ignore[reportArgumentType]
    with pytest.raises(ValueError, match="weights"):
        mask_proximity_loss(heatmaps, regions, weights=torch.ones(3, 1))
    with pytest.raises(ValueError, match="heatmaps"):
        anatomy_losses(torch.rand(2, 3, 8, 8), torch.ones(2, 4, 16, 16, dtype=torch.bool))
