"""The search itself, on scores that a stand-in for training computes from the weights."""

from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

import optuna
import pandas as pd
import pytest
import yaml

from clarity_cxr.cli.config_file import config_mistakes
from clarity_cxr.cli.main import main
from clarity_cxr.cli.train import train
from clarity_cxr.data.store import FilmStore
from clarity_cxr.studies.tune import WEIGHTS


class Training:
    """Stands in for the processes of a trial: UDP falls with the distance of the weights from 2."""

    def __init__(self) -> None:
        self.trained: list[dict[str, float]] = []
        self.interrupt_at: int | None = None
        self.fail_at: int | None = None

    def __call__(self, words: list[str], **options: Any) -> CompletedProcess[str]:
        if words[2] == "clarity_cxr.cli.main":
            weights = {name: float(words[words.index(f"--loss.{name}") + 1]) for name in WEIGHTS}
            self.trained.append(weights)
            if len(self.trained) == self.interrupt_at:
                raise KeyboardInterrupt
            return CompletedProcess(words, int(len(self.trained) == self.fail_at))
        udp = 1 - sum((value - 2) ** 2 for value in self.trained[-1].values()) / 100
        pd.DataFrame([{"macro_auc": 0.8, "udp": udp}]).to_csv(Path(words[3]) / "scores.csv", index=False)
        return CompletedProcess(words, 0)


@pytest.fixture
def training(monkeypatch: pytest.MonkeyPatch) -> Training:
    stand_in = Training()
    monkeypatch.setattr("clarity_cxr.studies.runs.subprocess.run", stand_in)
    return stand_in


@pytest.fixture
def words(tmp_path: Path, phantom_store: FilmStore) -> list[str]:
    config = tmp_path / "base.yaml"
    config.write_text(yaml.safe_dump({"model": {"name": "clarity_t8_64"}, "loss": {"token_loss": "cct"}}))
    return ["tune", str(config), "--store", str(phantom_store.path)]


def test_an_interrupted_search_ends_as_an_undisturbed_one(words: list[str], training: Training, tmp_path: Path) -> None:
    whole = [*words, "--trials", "12", "--out", str(tmp_path / "a" / "search")]
    assert main(whole) == 0
    undisturbed = list(training.trained)
    assert len({weights["beta_area"] for weights in undisturbed}) == 12
    assert all(0 <= value <= 5 for weights in undisturbed for value in weights.values())

    training.trained.clear()
    training.interrupt_at = 4
    parts = [*words, "--out", str(tmp_path / "b" / "search")]
    assert main([*parts, "--trials", "6"]) == 130
    training.interrupt_at = None
    assert main([*parts, "--trials", "6"]) == 0
    assert main([*parts, "--trials", "12"]) == 0
    assert training.trained[:3] + training.trained[4:] == undisturbed
    assert training.trained[3] == training.trained[4]

    best = max(undisturbed, key=lambda weights: -sum((value - 2) ** 2 for value in weights.values()))
    for folder in ("a", "b"):
        path = tmp_path / folder / "search" / "best.yaml"
        assert config_mistakes(path, train) == []
        loss = yaml.safe_load(path.read_text())["loss"]
        assert {name: loss[name] for name in WEIGHTS} == best
        assert loss["token_loss"] == "cct"
        for picture in ("history", "importance", "parallel", "slice"):
            assert (path.parent / f"{picture}.png").read_bytes().startswith(b"\x89PNG")


def test_a_failed_trial_counts_and_the_study_is_in_the_storage_that_was_given(
    words: list[str], training: Training, tmp_path: Path
) -> None:
    training.fail_at = 1
    url = f"sqlite:///{tmp_path / 'shared.db'}"
    assert main([*words, "--out", str(tmp_path / "search"), "--trials", "2", "--storage", url]) == 0
    study = optuna.load_study(study_name="search", storage=url)
    assert [trial.state.name for trial in study.trials] == ["FAIL", "COMPLETE"]
    assert not (tmp_path / "search/study.db").exists()
    assert not (tmp_path / "search/history.png").exists()


def test_refusals(words: list[str], training: Training, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    training.fail_at = 1
    out = ["--out", str(tmp_path / "search"), "--trials", "1"]
    assert main([*words, *out]) == 2
    assert "no trial has ended well" in capsys.readouterr().err
    assert main([*words, *out, "--seed", "1"]) == 2
    assert "a search with another seed is here" in capsys.readouterr().err
    assert main([*words, *out, "--storage", "nothing"]) == 2
    assert "storage nothing: Optuna cannot use it" in capsys.readouterr().err
