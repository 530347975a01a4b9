from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from clarity_cxr.anatomy import REGIONS, load_segmenter
from clarity_cxr.anatomy.builtin import load_builtin, save_builtin
from clarity_cxr.anatomy.network import AnatomyNet, standardize
from clarity_cxr.data.images import read_film, resize_film
from clarity_cxr.data.phantom import PhantomConfig, draw_films
from clarity_cxr.errors import CheckpointError, ConfigError
from tests.anatomy.shapes import JSRT


def dice(found: np.ndarray, truth: np.ndarray) -> float:
    return 2 * (found & truth).sum() / (found.sum() + truth.sum())


@pytest.fixture(scope="module")
def phantoms():
    return draw_films(PhantomConfig(films=40, size=128), np.arange(12))


def test_phantom_films_get_their_lungs_and_hearts(phantoms):
    regions = load_builtin().regions(phantoms.films)
    lungs = [dice(found[0] | found[1], prior[0]) for found, prior in zip(regions, phantoms.priors, strict=True)]
    hearts = [dice(found[2], prior[1]) for found, prior in zip(regions, phantoms.priors, strict=True)]
    # The network never saw a phantom, whose findings include white lungs: well above chance, not perfect.
    assert np.median(lungs) > 0.85
    assert np.median(hearts) > 0.7


def test_the_left_lung_is_on_the_right_of_the_picture(phantoms):
    for film in phantoms.films[:4]:
        regions = load_segmenter("builtin")(film)
        assert np.nonzero(regions["left_lung"])[1].mean() > np.nonzero(regions["right_lung"])[1].mean()


@pytest.mark.skipif(not JSRT.is_dir(), reason="needs ../shared/data/jsrt_anatomy")
@pytest.mark.parametrize("name", ["JPCLN002", "JPCLN090", "JPCNN040"])
def test_real_films_get_their_outlines(name: str):
    film = read_film(JSRT / "images" / f"{name}.jpg")
    regions = load_segmenter("builtin")(film)
    truth = {organ: read_film(JSRT / organ / f"{name}.png") > 127 for organ in ("left_lung", "right_lung", "heart")}
    for organ, outlined in truth.items():
        assert dice(regions[organ], outlined) > 0.9
    lungs = regions["left_lung"] | regions["right_lung"]
    assert not (regions["mediastinum"] & lungs).any()
    assert 0.02 < regions["facies_diaphragmatica"].mean() < 0.15


def test_masks_have_the_film_s_own_size(phantoms):
    film = np.asarray(Image.fromarray(phantoms.films[0]).resize((300, 211)))
    regions = load_segmenter("builtin")(film)
    assert tuple(regions) == REGIONS
    assert all(mask.shape == (211, 300) and mask.dtype == bool for mask in regions.values())


def test_one_film_and_a_batch_agree(phantoms):
    segmenter = load_builtin()
    batch = segmenter.regions(phantoms.films)
    alone = np.concatenate([segmenter.regions(phantoms.films[k : k + 1]) for k in range(len(phantoms.films))])
    # Summation order may differ between batch sizes, and a pixel within rounding of the threshold flip.
    assert (batch != alone).mean() < 1e-4
    at_its_size = np.stack([segmenter(phantoms.films[0])[region] for region in REGIONS])
    assert (at_its_size != batch[0]).mean() < 0.01


def test_size_of_the_film_hardly_matters(phantoms):
    segmenter = load_builtin()
    larger = np.stack([resize_film(film, 400) for film in phantoms.films])
    small, large = segmenter.regions(phantoms.films), segmenter.regions(larger)
    assert np.median([dice(a[:2].any(axis=0), b[:2].any(axis=0)) for a, b in zip(small, large, strict=True)]) > 0.98


def test_a_film_without_a_chest_gives_masks_all_the_same():
    for film in (np.zeros((64, 64), np.uint8), np.random.default_rng(0).integers(0, 256, (90, 70), dtype=np.uint8)):
        regions = load_segmenter("builtin")(film)
        assert not regions["heart"].any()
        assert not regions["left_lung"].any()


def test_saved_weights_load_again(tmp_path: Path, phantoms):
    torch.manual_seed(0)
    network = AnatomyNet((8, 8, 16, 16, 16)).eval()
    path = tmp_path / "w.safetensors"
    save_builtin(path, network, {"note": "test"})
    loaded = load_segmenter("builtin", path)
    inputs = standardize(torch.from_numpy(phantoms.films[:2]))
    with torch.no_grad():
        expected = network(inputs)[0].sigmoid()
    found = loaded.organ_probabilities(phantoms.films[:2])  # type: ignore[attr-defined]
    np.testing.assert_allclose(found, expected.numpy(), atol=5e-3)  # weights are stored in float16


def test_foreign_weights_are_refused(tmp_path: Path):
    foreign, junk = tmp_path / "foreign.safetensors", tmp_path / "junk.safetensors"
    save_file({"a": torch.zeros(2)}, foreign)
    junk.write_bytes(b"junk")
    cut = tmp_path / "cut.safetensors"
    save_builtin(cut, AnatomyNet((8, 8, 8, 8, 8)), {})
    cut.write_bytes(cut.read_bytes()[:-100])
    for path, message in (
        (foreign, "weights of something else"),
        (junk, "not readable"),
        (cut, "not readable"),
        (tmp_path / "none.safetensors", "no such file"),
    ):
        with pytest.raises(CheckpointError, match=message):
            load_segmenter("builtin", path)


def test_an_unknown_segmenter_is_refused():
    with pytest.raises(ConfigError, match="builtin"):
        load_segmenter("unet")  # type: ignore[arg-type]
