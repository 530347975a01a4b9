import numpy as np
import pytest
import torch

from clarity_cxr.anatomy.regions import (
    clean_organs,
    complete_regions,
    facies_diaphragmatica,
    largest_component,
    mediastinum,
    pack_priors,
)
from clarity_cxr.data.priors import unpack_priors
from tests.anatomy.shapes import drawn_organs, ellipse


def test_largest_component_keeps_the_larger_blob_and_fills_its_hole():
    large = ellipse(64, (0.3, 0.5), (0.2, 0.3))
    with_hole = large & ~ellipse(64, (0.3, 0.5), (0.05, 0.05))
    small = ellipse(64, (0.8, 0.8), (0.1, 0.1))
    assert np.array_equal(largest_component(with_hole | small), large)


def test_specks_and_empty_masks_give_nothing():
    speck = np.zeros((128, 128), dtype=bool)
    speck[3:8, 3:8] = True
    assert not largest_component(speck).any()
    assert not largest_component(np.zeros((16, 16), dtype=bool)).any()


def test_a_pixel_of_both_lungs_goes_to_the_likelier():
    probabilities = np.zeros((3, 32, 32))
    probabilities[0, :, 10:] = 0.7
    probabilities[1, :, :20] = 0.9
    left, right, heart = clean_organs(probabilities)
    assert right[:, :20].all()
    assert not right[:, 20:].any()
    assert left[:, 20:].all()
    assert not left[:, :20].any()
    assert not heart.any()


def test_mediastinum_lies_between_the_lungs_and_ends_at_the_heart():
    left, right, heart = drawn_organs()
    middle = mediastinum(left, right, heart)
    assert not (middle & (left | right)).any()
    assert (middle & heart).sum() == heart.sum()
    rows = np.flatnonzero(middle.any(axis=1))
    lung_rows = np.flatnonzero((left | right).any(axis=1))
    assert rows[0] == lung_rows[0]
    assert rows[-1] == np.flatnonzero(heart.any(axis=1))[-1]
    row = 50  # above the heart, within both lungs: exactly the gap between them
    gap = np.arange(np.flatnonzero(right[row])[-1] + 1, np.flatnonzero(left[row])[0])
    assert np.array_equal(np.flatnonzero(middle[row]), gap)


def test_mediastinum_does_not_follow_the_bases_outwards():
    left, right, heart = drawn_organs()
    middle = mediastinum(left, right, heart)
    columns = np.flatnonzero(middle[np.flatnonzero(heart.any(axis=1))].any(axis=0))
    reach = np.flatnonzero(heart.any(axis=0))
    margin = np.ceil(0.02 * 128)
    assert columns[0] >= reach[0] - margin
    assert columns[-1] <= reach[-1] + margin


@pytest.mark.parametrize("missing", [0, 1])
def test_mediastinum_with_one_white_lung_stays_near_where_it_was(missing: int):
    organs = drawn_organs()
    whole = mediastinum(*organs)
    organs[missing] = False
    one_sided = mediastinum(*organs)
    overlap = (whole & one_sided).sum() / (whole | one_sided).sum()
    assert overlap > 0.6


def test_without_lungs_the_heart_remains_and_there_is_no_diaphragm():
    _, _, heart = drawn_organs()
    nothing = np.zeros_like(heart)
    assert np.array_equal(mediastinum(nothing, nothing, heart), heart)
    assert not facies_diaphragmatica(nothing, nothing, heart).any()
    assert not complete_regions(np.zeros((3, 64, 64), dtype=bool)).any()


def test_the_diaphragm_is_a_band_along_the_bases():
    left, right, heart = drawn_organs()
    band = facies_diaphragmatica(left, right, heart)
    base = np.flatnonzero((left | right).any(axis=1))[-1]
    tall = left.any(axis=1).sum()
    middle_of_right_lung = round(0.3 * 128)
    under = np.flatnonzero(band[:, middle_of_right_lung])
    assert under[0] == base - int(np.ceil(0.03 * tall)) + 1
    assert under[-1] == base + int(0.07 * tall)
    under_the_heart = np.flatnonzero(band[:, round(0.54 * 128)])
    assert under_the_heart[-1] == np.flatnonzero(heart.any(axis=1))[-1] + int(0.07 * tall)
    columns = np.flatnonzero(band.any(axis=0))
    assert np.array_equal(columns, np.arange(columns[0], columns[-1] + 1)), "it goes on under the heart"


def test_geometry_scales_with_the_film():
    small, large = complete_regions(drawn_organs(128)), complete_regions(drawn_organs(512))
    for coarse, fine in zip(small, large, strict=True):
        shrunk = fine.reshape(128, 4, 128, 4).mean(axis=(1, 3)) >= 0.5
        assert 2 * (coarse & shrunk).sum() / (coarse.sum() + shrunk.sum()) > 0.93


@pytest.mark.parametrize("seed", range(20))
def test_any_masks_give_masks(seed: int):
    rng = np.random.default_rng(seed)
    shape = (rng.integers(8, 90), rng.integers(8, 90))
    regions = complete_regions(rng.random((3, *shape)) < rng.choice([0.01, 0.2, 0.9]))
    assert regions.shape == (5, *shape)
    assert regions.dtype == bool


def test_packed_priors_unpack_to_the_four_unions():
    regions = np.random.default_rng(0).random((3, 5, 128, 128)) < 0.3
    left, right, heart, middle, diaphragm = regions.swapaxes(0, 1)
    packed = pack_priors(regions)
    assert packed.shape == (3, 4, 128, 16)
    assert packed.dtype == np.uint8
    expected = np.stack([left | right, heart, left | right | middle, diaphragm | middle], axis=1)
    assert np.array_equal(unpack_priors(torch.from_numpy(packed)).numpy(), expected)
    with pytest.raises(ValueError, match="expected"):
        pack_priors(regions[:, :4])
