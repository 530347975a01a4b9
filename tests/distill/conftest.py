"""A tiny teacher and its logits on the phantom store."""

import shutil
from pathlib import Path

import pytest
import torch

from clarity_cxr.data.augmentation import AugmentationConfig
from clarity_cxr.data.store import FilmStore
from clarity_cxr.distill.dump import dump
from clarity_cxr.distill.source import LogitSource
from clarity_cxr.distill.store import LogitStore
from clarity_cxr.models.teacher import create_teacher, save_teacher

EPOCHS = 3
BATCH = 16


@pytest.fixture(scope="session")
def teacher_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """timm's smallest ConvNeXt at random, its head scaled up so that its logits differ from film to film."""
    torch.manual_seed(0)
    teacher = create_teacher("test_convnext", image_size=64)
    torch.nn.init.normal_(teacher.head[1].weight, std=2.0)
    path = tmp_path_factory.mktemp("teacher") / "teacher.safetensors"
    save_teacher(path, teacher, {"weights_licence": "licence of timm's weights: test"})
    return path


@pytest.fixture(scope="session")
def source(teacher_file: Path, phantom_store: FilmStore) -> LogitSource:
    torch.set_num_threads(1)
    return LogitSource(teacher_file, phantom_store.path, AugmentationConfig(), seed=7)


def origin_of(teacher: Path, films: FilmStore) -> dict[str, str]:
    return {"teacher": str(teacher), "store": str(films.path)}


@pytest.fixture(scope="session")
def undisturbed(
    source: LogitSource, teacher_file: Path, phantom_store: FilmStore, tmp_path_factory: pytest.TempPathFactory
) -> LogitStore:
    """All epochs, in one go."""
    out = tmp_path_factory.mktemp("logits") / "logits"
    return dump(source, out, EPOCHS, batch_size=BATCH, origin=origin_of(teacher_file, phantom_store))


@pytest.fixture
def logits(undisturbed: LogitStore, tmp_path: Path) -> LogitStore:
    """A copy to damage."""
    shutil.copytree(undisturbed.path, tmp_path / "logits")
    return LogitStore(tmp_path / "logits")
