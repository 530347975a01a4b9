"""The exported resize gives the very pixels that Pillow gives the model elsewhere."""

import numpy as np
import pytest
import torch

from clarity_cxr.data.images import resize_film
from clarity_cxr.inference.resampling import lanczos_resize, lanczos_weights

SIZES = [(64, 64), (65, 64), (97, 53), (30, 200), (1, 500), (300, 1), (256, 256), (517, 333)]


@pytest.mark.parametrize(("height", "width"), SIZES)
def test_same_pixels_as_the_film_reader(height, width):
    film = np.random.default_rng(height).integers(0, 256, (height, width), dtype=np.uint8)
    resized = lanczos_resize(torch.from_numpy(film)[None], 64)
    assert resized.dtype == torch.uint8
    np.testing.assert_array_equal(resized[0].numpy(), resize_film(film, 64))


def test_black_and_white_stay_and_films_of_a_batch_do_not_mix():
    films = torch.stack([torch.zeros(90, 70, dtype=torch.uint8), torch.full((90, 70), 255, dtype=torch.uint8)])
    black, white = lanczos_resize(films, 32)
    assert (black == 0).all()
    assert (white == 255).all()


def test_weights_are_shares():
    weights = lanczos_weights(500, 64, torch.device("cpu"))
    assert weights.shape == (64, 500)
    assert weights.sum(dim=1).numpy() == pytest.approx(np.ones(64), abs=1e-5)
