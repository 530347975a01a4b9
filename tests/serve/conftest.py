"""A service around a tiny model, and films to send it."""

from collections.abc import Iterator
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from starlette.testclient import TestClient

from clarity_cxr.data.phantom import PhantomConfig, write_release
from clarity_cxr.models import create_model, save_checkpoint
from clarity_cxr.serve.answers import ServedModel
from clarity_cxr.serve.app import create_app
from clarity_cxr.serve.limits import Limits
from clarity_cxr.serve.run import served_model


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> ServedModel:
    """Decides every finding positive, so that there are boxes."""
    path = tmp_path_factory.mktemp("served") / "tiny.safetensors"
    with torch.random.fork_rng():
        torch.manual_seed(0)
        save_checkpoint(path, create_model("clarity_t8_64"), thresholds={"Mass": 0.7})
    return served_model(path, "cpu", decision_threshold=0.0, operating_point=None)


@pytest.fixture(scope="session")
def client(model: ServedModel) -> Iterator[TestClient]:
    with TestClient(create_app(model, Limits(megabytes=1, seconds=60.0))) as client:
        yield client


@pytest.fixture(scope="session")
def phantom_film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A phantom of 512 px."""
    root = tmp_path_factory.mktemp("films") / "release"
    write_release(root, PhantomConfig(films=20, size=512, seed=7, rarity=0.0), processes=1)
    return next(iter(sorted(root.glob("images*/**/*.png"))))


def png(film: np.ndarray) -> bytes:
    """A film as the bytes of a PNG."""
    buffer = BytesIO()
    Image.fromarray(film).save(buffer, format="PNG")
    return buffer.getvalue()
