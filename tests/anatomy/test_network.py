from importlib import resources

import pytest
import torch

from clarity_cxr.anatomy.builtin import WEIGHTS_NAME
from clarity_cxr.anatomy.network import ORGANS, POSES, SIZE, AnatomyNet, standardize


def test_the_network_is_small_and_so_is_its_file():
    assert sum(parameter.numel() for parameter in AnatomyNet().parameters()) <= 1_000_000
    assert (resources.files("clarity_cxr.anatomy") / WEIGHTS_NAME).stat().st_size <= 2_000_000  # type: ignore[attr-defined]


def test_outputs_have_the_input_grid():
    organs, poses, inverted = AnatomyNet().eval()(torch.zeros(2, 2, SIZE, SIZE))
    assert organs.shape == (2, len(ORGANS), SIZE, SIZE)
    assert poses.shape == (2, len(POSES))
    assert inverted.shape == (2,)


@pytest.mark.parametrize(("gain", "offset"), [(0.25, 0.0), (0.5, 100.0)])
def test_exposure_and_contrast_do_not_matter(gain: float, offset: float):
    films = torch.rand(2, 96, 150, generator=torch.Generator().manual_seed(0)) * 255
    # Four decimals: the local channel divides by a small deviation in float32.
    torch.testing.assert_close(standardize(films * gain + offset), standardize(films), atol=2e-3, rtol=0)


def test_a_blank_film_gives_finite_inputs():
    assert standardize(torch.full((1, 64, 64), 7, dtype=torch.uint8)).isfinite().all()


def test_two_channels_are_told_apart_from_their_reference():
    films = torch.rand(1, SIZE, SIZE, generator=torch.Generator().manual_seed(1))
    whole, local = standardize(films)[0]
    expected = (films[0] - films.mean()) / films.std(correction=0)
    torch.testing.assert_close(whole, expected, atol=1e-5, rtol=1e-5)
    window = expected[40 - 15 : 40 + 16, 70 - 15 : 70 + 16]
    value = (expected[40, 70] - window.mean()) / (window.std(correction=0) + 0.1)
    torch.testing.assert_close(local[40, 70], value, atol=1e-4, rtol=1e-4)
