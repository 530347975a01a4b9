import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from clarity_cxr.anatomy.mask_folder import MaskFolder
from clarity_cxr.anatomy.regions import ORGANS, REGIONS, complete_regions
from clarity_cxr.anatomy.segmenters import load_provider
from clarity_cxr.anatomy.store_priors import write_store_priors
from clarity_cxr.data.store import open_store
from clarity_cxr.errors import ClarityError, ConfigError, ReleaseError
from tests.anatomy.shapes import drawn_organs

NO_FILMS = np.zeros((2, 1, 1), dtype=np.uint8)


def write_masks(folder: Path, names: list[str], size: int = 256) -> np.ndarray:
    organs = drawn_organs(size)
    for region, mask in zip(ORGANS, organs, strict=True):
        (folder / region).mkdir(parents=True)
        for name in names:
            Image.fromarray(mask.astype(np.uint8) * 255).save(folder / region / f"{name}.png")
    return organs


def test_masks_are_shrunk_and_the_missing_regions_derived(tmp_path: Path):
    organs = write_masks(tmp_path, ["a", "b"])
    regions = MaskFolder(tmp_path).regions(NO_FILMS, ["a.png", "b"])
    shrunk = organs.reshape(3, 128, 2, 128, 2).mean(axis=(2, 4)) >= 0.5
    assert np.array_equal(regions[0], complete_regions(shrunk))
    assert np.array_equal(regions[0], regions[1])


def test_one_bit_and_zero_one_masks_mean_the_same(tmp_path: Path):
    organs = write_masks(tmp_path, ["a"])
    expected = MaskFolder(tmp_path).regions(NO_FILMS[:1], ["a"])
    Image.fromarray(organs[0]).save(tmp_path / "left_lung" / "a.png")
    Image.fromarray(organs[1].astype(np.uint8)).save(tmp_path / "right_lung" / "a.png")
    assert np.array_equal(MaskFolder(tmp_path).regions(NO_FILMS[:1], ["a"]), expected)


def test_own_mediastinum_masks_are_used(tmp_path: Path):
    write_masks(tmp_path, ["a"])
    (tmp_path / "mediastinum").mkdir()
    Image.new("L", (64, 64), 255).save(tmp_path / "mediastinum" / "a.png")
    regions = MaskFolder(tmp_path).regions(NO_FILMS[:1], ["a"])[0]
    assert regions[REGIONS.index("mediastinum")].all()


def test_a_missing_folder_or_mask_is_named(tmp_path: Path):
    write_masks(tmp_path, ["a"])
    with pytest.raises(ClarityError, match=r"left_lung/b\.png"):
        MaskFolder(tmp_path).regions(NO_FILMS[:1], ["b.png"])
    shutil.rmtree(tmp_path / "heart")
    with pytest.raises(ReleaseError, match="no folder heart"):
        MaskFolder(tmp_path)


def test_a_store_takes_its_priors_from_a_folder(store: Path, tmp_path: Path):
    stems = [name.rsplit(".", 1)[0] for name in open_store(store).index["image_id"]]
    write_masks(tmp_path / "masks", stems, size=128)
    provider = load_provider("masks", masks=tmp_path / "masks")
    result = write_store_priors(store, provider)
    assert result.manifest["priors"]["provider"] == "masks"
    lungs = np.unpackbits(result.priors[7, 0], axis=-1).astype(bool)
    organs = drawn_organs(128)
    assert np.array_equal(lungs, organs[0] | organs[1])


def test_contradicting_options_are_refused(tmp_path: Path):
    with pytest.raises(ConfigError, match="go together"):
        load_provider("masks")
    with pytest.raises(ConfigError, match="go together"):
        load_provider("builtin", masks=tmp_path)
    with pytest.raises(ConfigError, match="--weights has no meaning"):
        load_provider("masks", weights=tmp_path / "w", masks=tmp_path)
