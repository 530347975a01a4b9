import json
from pathlib import Path

import pytest

from clarity_cxr.errors import ConfigError
from clarity_cxr.planning.constants import Constants, read_constants, write_constants


def test_constants_are_read_as_written(constants: Constants, tmp_path: Path) -> None:
    write_constants(tmp_path / "constants.json", constants)
    assert read_constants(tmp_path / "constants.json") == constants


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"training_films": None}, "missing or unknown: training_films"),
        ({"trained_films": 3}, "missing or unknown: trained_films"),
        ({"decoded_films": 0.0}, "positive values of decoded_films"),
        ({"format_version": 99}, "not constants of format 1"),
    ],
)
def test_mistakes_are_named(change: dict[str, object], message: str, constants: Constants, tmp_path: Path) -> None:
    path = tmp_path / "constants.json"
    write_constants(path, constants)
    content = json.loads(path.read_text()) | change
    path.write_text(json.dumps({key: value for key, value in content.items() if value is not None}))
    with pytest.raises(ConfigError, match=message):
        read_constants(path)


def test_missing_and_damaged_files_say_how_to_measure(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"no such constants; measure them with `clarity bench --out .*absent\.json`"):
        read_constants(tmp_path / "absent.json")
    (tmp_path / "cut.json").write_text('{"date": ')
    with pytest.raises(ConfigError, match=r"cut\.json: cannot be read"):
        read_constants(tmp_path / "cut.json")
