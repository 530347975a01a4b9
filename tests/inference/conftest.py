"""A tiny model's checkpoint, and films it can be shown."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from clarity_cxr.models import create_model, save_checkpoint

THRESHOLDS = {"Mass": 0.7, "Effusion": 0.4}


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("checkpoint") / "tiny.safetensors"
    with torch.random.fork_rng():
        torch.manual_seed(0)
        save_checkpoint(path, create_model("clarity_t8_64"), thresholds=THRESHOLDS)
    return path


def make_film(seed: int, height: int = 96, width: int = 80) -> np.ndarray:
    """A smooth random film (height, width) uint8."""
    coarse = np.random.default_rng(seed).integers(20, 235, (6, 6)).astype(np.uint8)
    return np.asarray(Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC))


@pytest.fixture
def films(tmp_path: Path) -> Path:
    folder = tmp_path / "films"
    (folder / "deep").mkdir(parents=True)
    for number, name in enumerate(("one.png", "two.png", "three.jpg", "deep/one.png")):
        Image.fromarray(make_film(number)).save(folder / name)
    return folder
