"""One small phantom store for every test that needs real-looking films."""

from pathlib import Path

import pytest

from clarity_cxr.data.phantom import PhantomConfig, write_release
from clarity_cxr.data.prepare import prepare
from clarity_cxr.data.store import FilmStore


@pytest.fixture(scope="session")
def phantom_release(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """120 films of 64 px, all findings equally common, with priors and boxes."""
    root = tmp_path_factory.mktemp("phantom") / "release"
    write_release(root, PhantomConfig(films=120, size=64, seed=5, rarity=0.0), processes=1)
    return root


@pytest.fixture(scope="session")
def phantom_store(phantom_release: Path) -> FilmStore:
    """The release prepared at 64 px."""
    return prepare(phantom_release, phantom_release.parent / "store", size=64, processes=1)
