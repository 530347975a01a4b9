import dataclasses

import numpy as np
import pytest
import torch
from scipy import stats

from clarity_cxr.data.augmentation import (
    AugmentationConfig,
    augment,
    film_states,
    pixel_normals,
    poisson_noise,
    stream_uniforms,
)
from clarity_cxr.errors import ConfigError
from tests.reference import augmentation as reference

CONFIG = AugmentationConfig()
OFF = AugmentationConfig(rotation_degrees=0.0, crop_scale=(1.0, 1.0), brightness=0.0, poisson_peak=(0.0, 0.0))


@pytest.fixture
def films():
    return torch.randint(0, 256, (6, 40, 40), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def keys():
    return torch.tensor([0, 1, -1, 2**62 + 12345, -(2**63), 987654321])


@pytest.fixture
def priors():
    priors = torch.zeros(6, 4, 128, 128, dtype=torch.bool)
    for r in range(4):
        priors[:, r, 20 + 10 * r : 100, 25 : 110 - 9 * r] = True
    return priors


@pytest.mark.parametrize("size", [40, 33, 32])
@pytest.mark.parametrize("epoch", [0, 7])
def test_equals_slow_reference(films, keys, size, epoch):
    films = films[:, :size, :size]
    small_priors = (films.flatten(1)[:, : 3 * 256].reshape(6, 3, 16, 16) > 100).contiguous()
    config = AugmentationConfig(rotation_degrees=25.0, crop_scale=(0.6, 0.9), brightness=0.4)
    got, got_priors = augment(films, keys, epoch, 11, config, small_priors)
    assert got_priors is not None
    for b in range(6):
        expected, expected_priors = reference.augment(
            films[b].numpy() / 255, int(keys[b]), epoch, 11, config, small_priors[b].numpy()
        )
        np.testing.assert_allclose(got[b, 0], expected, atol=1e-5)
        np.testing.assert_array_equal(got_priors[b], expected_priors)


def test_a_film_is_the_same_in_any_batch(films, keys, priors):
    whole, whole_priors = augment(films, keys, 3, 5, CONFIG, priors)
    order = torch.tensor([4, 0, 5, 2, 1, 3])
    shuffled, shuffled_priors = augment(films[order], keys[order], 3, 5, CONFIG, priors[order])
    assert whole_priors is not None
    assert shuffled_priors is not None
    assert torch.equal(shuffled, whole[order])
    assert torch.equal(shuffled_priors, whole_priors[order])
    for b in range(6):
        alone, _ = augment(films[b : b + 1], keys[b : b + 1], 3, 5, CONFIG)
        assert torch.equal(alone, whole[b : b + 1])


def test_float_films_equal_uint8_films(films, keys):
    as_bytes, _ = augment(films, keys, 1, 2, CONFIG)
    as_floats, _ = augment(films[:, None] / 255, keys, 1, 2, CONFIG)
    torch.testing.assert_close(as_floats, as_bytes, atol=1e-5, rtol=0)


def test_seed_epoch_and_key_each_change_the_pixels(films, keys):
    film = films[:1].expand(6, 40, 40)
    outputs = [augment(film, keys, epoch, seed, CONFIG)[0] for epoch, seed in ((0, 0), (1, 0), (0, 1), (-1, -5))]
    pixels = torch.cat(outputs).flatten(1)
    differences = (pixels[:, None] - pixels[None]).abs().amax(dim=2)
    assert (differences + torch.eye(24) > 0.1).all()


def test_zero_magnitudes_are_the_identity(films, keys, priors):
    got, got_priors = augment(films, keys, 0, 0, OFF, priors)
    assert torch.equal(got[:, 0], films / 255)
    assert torch.equal(got_priors, priors)


def test_a_resampling_that_moves_nothing_is_the_identity(films, keys, priors):
    barely = dataclasses.replace(OFF, rotation_degrees=1e-9)
    got, got_priors = augment(films, keys, 0, 0, barely, priors)
    assert torch.equal(got[:, 0], films / 255)
    assert torch.equal(got_priors, priors)


def test_inputs_are_left_as_they_were(films, keys, priors):
    floats = films[:, None] / 255
    for config in (CONFIG, OFF, dataclasses.replace(OFF, poisson_peak=(255.0, 255.0))):
        before = floats.clone(), keys.clone(), priors.clone()
        augment(floats, keys, 0, 0, config, priors)
        assert all(torch.equal(a, b) for a, b in zip(before, (floats, keys, priors), strict=True))


def test_priors_follow_films(keys, priors):
    geometry = dataclasses.replace(CONFIG, brightness=0.0, poisson_peak=(0.0, 0.0))
    film, moved = augment(priors[:, :1].float(), keys, 2, 9, geometry, priors)
    assert moved is not None
    assert torch.equal(film >= 0.5, moved[:, :1])
    assert not torch.equal(moved, priors)
    # At another size the edges agree to a pixel of the coarser grid.
    wide = torch.nn.functional.interpolate(priors[:, :1].float(), size=224, mode="bilinear")
    film, _ = augment(wide, keys, 2, 9, geometry)
    back = torch.nn.functional.interpolate(film, size=128, mode="bilinear") >= 0.5
    assert (back ^ moved[:, :1]).float().mean() < 0.01


@pytest.mark.parametrize("prior_size", [16, 24, 64])
def test_priors_of_another_size_are_sampled_at_the_centres_of_its_grid(films, keys, priors, prior_size):
    _, got = augment(films, keys, 2, 9, CONFIG, priors, prior_size)
    assert got is not None
    draws = stream_uniforms(film_states(keys, 2, 9)).tolist()
    for b in range(2):
        for r in range(4):
            expected = reference.sample(priors[b, r].float().numpy(), draws[b], CONFIG, border=False, side=prior_size)
            np.testing.assert_array_equal(got[b, r], expected >= 0.5)


def test_rotation_and_crop_stay_within_their_ranges():
    keys = torch.arange(300)
    size = 65
    ramp = torch.arange(size).float() / (size - 1)
    across, down = ramp.expand(1, 1, size, size), ramp[:, None].expand(1, 1, size, size)
    geometry = dataclasses.replace(CONFIG, brightness=0.0, poisson_peak=(0.0, 0.0))
    x = augment(across.expand(300, 1, size, size), keys, 0, 0, geometry)[0][:, 0] * (size - 1)
    y = augment(down.expand(300, 1, size, size), keys, 0, 0, geometry)[0][:, 0] * (size - 1)
    # The step from one output pixel to the next, near the centre where no border is met.
    step_x, step_y = x[:, 32, 40] - x[:, 32, 24], y[:, 32, 40] - y[:, 32, 24]
    side = torch.hypot(step_x, step_y) / 16
    angle = torch.rad2deg(torch.atan2(step_y, step_x))
    assert 0.799 < side.min() < 0.81
    assert 0.99 < side.max() < 1.001
    assert -10.1 < angle.min() < -9.5
    assert 9.5 < angle.max() < 10.1
    # Without rotation no crop reaches over the film's edge (its outermost 0.1 pixel lies beyond all centres).
    unrotated = dataclasses.replace(geometry, rotation_degrees=0.0, crop_scale=(0.8, 0.8))
    x = augment(across.expand(300, 1, size, size), keys, 0, 0, unrotated)[0][:, 0, 0] * (size - 1)
    torch.testing.assert_close(x[:, -1] - x[:, 0], torch.full((300,), 0.8 * 64), atol=0.11, rtol=0)
    assert x[:, 0].min() < 0.5
    assert x[:, -1].max() > 63.5


def test_brightness_scales_and_clamps():
    only = dataclasses.replace(OFF, brightness=0.2)
    keys = torch.arange(20_000)
    film = torch.full((20_000, 1, 2, 2), 0.5)
    factor = augment(film, keys, 0, 0, only)[0][:, 0, 0, 0] / 0.5
    assert stats.kstest(factor.double().numpy(), stats.uniform(0.8, 0.4).cdf).pvalue > 1e-3
    assert augment(2 * film, keys, 0, 0, only)[0].max() == 1


def test_streams_are_uniform_and_independent():
    uniforms = stream_uniforms(film_states(torch.arange(20_000), 3, 7)).numpy()
    assert uniforms.min() > 0
    assert uniforms.max() < 1
    for stream in uniforms.T:
        assert stats.kstest(stream, "uniform").pvalue > 1e-3
    correlation = np.corrcoef(uniforms.T) - np.eye(6)
    assert np.abs(correlation).max() < 5 / np.sqrt(20_000)
    # Neighbouring keys are as unlike as any others.
    assert np.abs(np.corrcoef(uniforms[:-1].T, uniforms[1:].T)[:6, 6:]).max() < 5 / np.sqrt(20_000)


def test_pixel_variates_are_normal_and_independent():
    normals = pixel_normals(film_states(torch.arange(60), 0, 0), 10_001).double().numpy()
    assert normals.shape == (60, 10_001)
    assert stats.kstest(normals.ravel(), "norm").pvalue > 1e-3
    assert np.abs(normals).max() < 6
    for values in (normals, normals**2):
        between_films = np.corrcoef(values) - np.eye(60)
        assert np.abs(between_films).max() < 5.5 / np.sqrt(10_001)
        for lag in (1, 40, 224, 5001):
            # 5001 is the distance between the two variates of one Box-Muller pair.
            pairs = np.corrcoef(values[:, :-lag].ravel(), values[:, lag:].ravel())[0, 1]
            assert abs(pairs) < 5 / np.sqrt(60 * (10_001 - lag))


@pytest.mark.parametrize(
    ("mean", "mean_error", "variance_error", "cdf_error"),
    [(0.5, 0.06, 0.16, 0.03), (2.0, 0.02, 0.04, 0.01), (10.0, 1e-3, 1e-3, 2e-3), (200.0, 1e-3, 1e-3, 1e-3)],
)
def test_noise_is_close_to_poisson(mean, mean_error, variance_error, cdf_error):
    # Quantiles of the normal stand in for draws, so that nothing here is random.
    normals = torch.from_numpy(stats.norm.ppf((np.arange(200_000) + 0.5) / 200_000)).float()[None]
    peak = torch.tensor([[1000.0]])
    counts = poisson_noise(torch.full_like(normals, mean / 1000), normals, peak).double().numpy()[0] * 1000
    assert abs(counts.mean() - mean) < mean_error
    assert abs(counts.var() / mean - 1) < variance_error
    # Whole counts k of a Poisson variable stand for the interval up to k + 1/2.
    whole = np.arange(int(mean + 6 * np.sqrt(mean)))
    below = (counts[:, None] <= whole + 0.5).mean(axis=0) if mean < 50 else None
    if below is not None:
        assert np.abs(below - stats.poisson.cdf(whole, mean)).max() < cdf_error
    else:
        assert abs(stats.skew(counts) - mean**-0.5) < 1e-3


def test_noise_is_continuous_and_leaves_black_black():
    normals = pixel_normals(film_states(torch.arange(1), 0, 0), 50_000)
    peak = torch.tensor([[255.0]])
    value = torch.linspace(0, 1, 50_000)[None]
    step = (poisson_noise(value + 1e-7, normals, peak) - poisson_noise(value, normals, peak)).abs()
    assert step.max() < 1e-5
    assert poisson_noise(torch.zeros(1, 50_000), normals, peak).max() == 0


def test_fewer_counts_make_more_noise():
    film = torch.full((1, 1, 100, 100), 0.5)
    spread = [
        augment(film, torch.tensor([1]), 0, 0, dataclasses.replace(OFF, poisson_peak=(peak, peak)))[0].std().item()
        for peak in (255.0, 1020.0)
    ]
    assert spread == pytest.approx([(0.5 / 255) ** 0.5, (0.5 / 1020) ** 0.5], rel=0.03)


def test_digest_names_the_magnitudes():
    assert AugmentationConfig().digest() == CONFIG.digest()
    others = [dataclasses.replace(CONFIG, **{name: value}) for name, value in dataclasses.asdict(OFF).items()]
    assert len({config.digest() for config in (CONFIG, OFF, *others)}) == 6


def test_every_magnitude_out_of_range_is_named():
    with pytest.raises(ConfigError) as caught:
        AugmentationConfig(rotation_degrees=-1, crop_scale=(0.9, 0.8), brightness=1.0, poisson_peak=(0.0, 10.0))
    for name in ("rotation_degrees", "crop_scale", "brightness", "poisson_peak"):
        assert name in str(caught.value)


def test_films_of_another_kind_are_refused(films, keys):
    for wrong in (films[:, None], films.float(), films.int(), films[:, :20]):
        with pytest.raises(ValueError, match=r"\(B, S, S\) uint8"):
            augment(wrong, keys, 0, 0, CONFIG)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU on this machine")
def test_gpu_and_cpu_agree(keys, priors):
    films = torch.randint(0, 256, (6, 224, 224), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
    cpu, cpu_priors = augment(films, keys, 1, 2, CONFIG, priors)
    gpu, gpu_priors = augment(films.cuda(), keys.cuda(), 1, 2, CONFIG, priors.cuda())
    assert gpu_priors is not None
    torch.testing.assert_close(gpu.cpu(), cpu, atol=1e-5, rtol=0)
    assert torch.equal(gpu_priors.cpu(), cpu_priors)
