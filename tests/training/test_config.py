"""Impossible values of a training config are told before anything is written."""

from pathlib import Path

import pytest

from clarity_cxr.cli.main import main
from clarity_cxr.data.store import FilmStore
from clarity_cxr.errors import ConfigError
from clarity_cxr.training.config import LossConfig, OptimizationConfig, RunConfig


def test_impossible_values_of_a_section_are_told_together() -> None:
    with pytest.raises(ConfigError) as error:
        OptimizationConfig(epochs=0, batch_size=0, learning_rate=0.0, layer_decay=1.5, warmup_epochs=-1.0)
    assert str(error.value) == (
        "optimization: epochs is 0, expected 1 or more; batch_size is 0, expected 1 or more; "
        "learning_rate is 0.0, expected more than 0; layer_decay is 1.5, expected more than 0, at most 1; "
        "warmup_epochs is -1.0, expected 0 or more"
    )
    with pytest.raises(ConfigError, match=r"run: workers is -1, expected 0 or more; .*seed is -2, expected 0 to 429"):
        RunConfig(seed=-2, workers=-1, validation_every=0)
    with pytest.raises(ConfigError, match=r"loss: gamma_proximity is -0.1, expected 0 or more$"):
        LossConfig(gamma_proximity=-0.1)


def test_nothing_is_written_for_them(
    phantom_store: FilmStore, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [
        "train",
        "--model.name",
        "clarity_t8_64",
        "--store",
        str(phantom_store.path),
        "--out",
        str(tmp_path / "run"),
    ]
    assert main([*words, "--optimization.batch_size", "0"]) == 2
    assert "clarity train: optimization: batch_size is 0, expected 1 or more" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []
