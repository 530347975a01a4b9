import shutil
from pathlib import Path

import pytest

from clarity_cxr.data.phantom import PhantomConfig, write_release
from clarity_cxr.data.prepare import prepare


@pytest.fixture(scope="session")
def bare_release(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A release of 20 phantom films of 64 pixels without priors."""
    root = tmp_path_factory.mktemp("anatomy") / "release"
    write_release(root, PhantomConfig(films=20, size=64), processes=1)
    shutil.rmtree(root / "priors")
    return root


@pytest.fixture(scope="session")
def prepared(bare_release: Path) -> Path:
    out = bare_release.with_name("store")
    prepare(bare_release, out, size=64, processes=1)
    return out


@pytest.fixture
def store(prepared: Path, tmp_path: Path) -> Path:
    """A fresh copy of a store of 20 films without priors."""
    return Path(shutil.copytree(prepared, tmp_path / "store"))


@pytest.fixture
def release(bare_release: Path, tmp_path: Path) -> Path:
    """A fresh copy of a release of 20 films without priors."""
    return Path(shutil.copytree(bare_release, tmp_path / "release"))
