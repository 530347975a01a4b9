from pathlib import Path

import pytest

from clarity_cxr.cli.anatomy import anatomy
from clarity_cxr.cli.anatomy_sheet import anatomy_sheet
from clarity_cxr.data.release import read_release
from clarity_cxr.data.store import open_store
from clarity_cxr.errors import ClarityError, ConfigError


def test_a_store_and_a_release_get_priors(store: Path, release: Path, capsys: pytest.CaptureFixture[str]):
    assert anatomy(store) == 0
    assert open_store(store).manifest["priors"]["provider"] == "builtin"
    assert anatomy(release) == 0
    assert len(list((release / "priors").glob("*.png"))) == 20
    out = capsys.readouterr().out
    assert "priors of 20 films by builtin" in out
    assert "priors of 20 films written" in out


def test_unreadable_films_make_the_exit_code_one(release: Path, capsys: pytest.CaptureFixture[str]):
    (release / read_release(release).films["path"].iloc[0]).write_bytes(b"")
    assert anatomy(release) == 1
    assert "empty" in capsys.readouterr().err


def test_mistakes_are_the_user_s_errors(store: Path, tmp_path: Path):
    with pytest.raises(ConfigError, match="--batch-size 0"):
        anatomy(store, batch_size=0)
    with pytest.raises(ClarityError, match="no such folder"):
        anatomy(tmp_path / "nowhere")


def test_a_sheet_is_drawn_and_all_films_judged(store: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    anatomy_sheet(store, out=tmp_path / "sheet.png", count=3)
    assert (tmp_path / "sheet.png").stat().st_size > 10_000
    assert "of 20 films:" in capsys.readouterr().out
