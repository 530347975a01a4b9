import re
from pathlib import Path

import pytest

from clarity_cxr.cli.config_file import plain_types
from clarity_cxr.cli.main import COMMANDS, build_parser, find_command, main


def test_overview_lists_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    text = capsys.readouterr().out
    assert all(f"  {name}" in text and summary in text for name, summary in COMMANDS.items())


@pytest.mark.parametrize("name", COMMANDS)
def test_help_explains_every_option(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="0"):
        main([*name.split(), "--help"])
    text = capsys.readouterr().out
    assert f"usage: clarity {name}" in text
    assert not {"<class", "Literal", "Optional", "Union"} & set(re.split(r"[ \[]", text))
    parser, positionals = build_parser(name, find_command(name))
    undocumented = [a.dest for a in parser._actions if not a.help and not a.dest.startswith("_")]
    assert undocumented == []
    assert all(positional in text for positional in positionals)


def test_unknown_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["trian"]) == 2
    assert "unknown command 'trian'; commands are phantom, check" in capsys.readouterr().err


def test_all_mistakes_of_a_config_are_told_at_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "bad.yaml"
    path.write_text(
        "modle: {}\n"
        "model:\n  name: clarity_t8_64\n  polling: attention\n  depth: 3\n  attention_blocks: many\n"
        "loss: 3\n"
        "optimization:\n  epochs: 1.5\n  learning_rate: fast\n"
        "run:\n  precision: fp8\n"
    )
    out = tmp_path / "out"
    assert main(["train", "--config", str(path), "--store", "nowhere", "--out", str(out)]) == 2
    text = capsys.readouterr().err
    for mistake in (
        "unknown key modle; did you mean model?",
        "unknown key model.polling; did you mean model.pooling?",
        "unknown key model.depth",
        "model.attention_blocks is 'many'",
        "loss is a section: expected keys and values, got 3",
        "optimization.epochs is 1.5, expected int",
        "optimization.learning_rate is 'fast', expected float",
        "run.precision is 'fp8'",
    ):
        assert mistake in text
    assert not out.exists()


@pytest.mark.parametrize(
    ("content", "problem"), [(None, "no such file"), ("a: [", "not valid YAML"), ("- 1", "expected keys and values")]
)
def test_config_that_is_none(
    content: str | None, problem: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "config.yaml"
    if content is not None:
        path.write_text(content)
    assert main(["train", "--config", str(path), "--store", "s", "--out", "o"]) == 2
    error = capsys.readouterr().err
    assert problem in error
    assert "config.yaml" in error


CONFIGS = Path(__file__).parents[2] / "configs"


@pytest.mark.parametrize(
    "path", sorted({*CONFIGS.glob("**/*.yaml")} - {*CONFIGS.glob("plans/*")}), ids=lambda path: path.stem
)
def test_shipped_configs_are_right(path: Path) -> None:
    from clarity_cxr.cli.config_file import config_mistakes
    from clarity_cxr.cli.train import train

    assert config_mistakes(path, train) == []


def test_options_read_as_they_are_typed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Hyphens stand for underscores, and a bare flag for true."""
    out = tmp_path / "release"
    assert main(["phantom", "--out", str(out), "--films", "3", "--size", "64", "--boxed-share", "0.5"]) == 0
    capsys.readouterr()
    assert main(["check", str(out), "--fast", "--processes=1"]) in (0, 1)
    assert "headers only" in capsys.readouterr().out


def test_a_users_mistake_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["prepare", str(tmp_path / "nowhere"), "--out", str(tmp_path / "store")]) == 2
    error = capsys.readouterr().err
    assert error.startswith("clarity prepare: ")
    assert "nowhere" in error
    assert "Traceback" not in error


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["prepare", "--out", "store"], "clarity prepare: the following arguments are required: release"),
        (["plan", "--filmz", "3"], "unrecognized arguments: --filmz 3"),
        (["plan", "--films", "many"], "many"),
    ],
)
def test_a_mistyped_option_is_one_error_without_the_usage(
    words: list[str], expected: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(words) == 2
    error = capsys.readouterr().err
    assert expected in error
    assert f"`clarity {words[0]} --help` lists the options" in error
    assert "usage:" not in error


def test_types_in_plain_words() -> None:
    text = "<class 'pathlib.Path'>, Optional[Literal['half', 'youden']], Union[int, NoneType], tuple[float, float]"
    assert plain_types(text) == "Path, half | youden | null, int | null, tuple[float, float]"
