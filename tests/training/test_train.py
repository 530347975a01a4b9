"""The training command: resume after SIGKILL, refusal of another config, what a run leaves."""

import math
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pytest
import torch
import yaml
from safetensors.torch import load_file

from clarity_cxr.cli.main import main
from clarity_cxr.data.store import FilmStore
from clarity_cxr.models import read_metadata
from clarity_cxr.training.config import LossConfig
from clarity_cxr.training.objective import combined_loss

SECTIONS = {
    "model": {"name": "clarity_t8_64", "attention_blocks": 1, "token_blocks": 1, "mlp_dropout": 0.1, "drop_path": 0.1},
    "optimization": {"epochs": 3, "batch_size": 10, "learning_rate": 1e-3, "warmup_epochs": 1},
    "run": {"precision": "32-true", "checkpoint_steps": 3, "accelerator": "cpu", "seed": 7},
}


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "run.yaml"
    path.write_text(yaml.safe_dump(SECTIONS))
    return path


def command(config: Path, store: FilmStore, out: Path, *options: str) -> list[str]:
    return ["train", "--config", str(config), "--store", str(store.path), "--out", str(out), *options]


def start(words: list[str]) -> subprocess.Popen[bytes]:
    """A run of one thread, as the one that it is compared with: the number of threads changes the last bits."""
    program = [sys.executable, "-m", "clarity_cxr.cli.main"]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    return subprocess.Popen([*program, *words], env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def step_of(checkpoint: Path) -> int:
    return torch.load(checkpoint, map_location="cpu", weights_only=True)["global_step"]


def kill_once_past(process: subprocess.Popen[bytes], checkpoint: Path, step: int) -> None:
    deadline = time.monotonic() + 240
    while not (checkpoint.is_file() and step_of(checkpoint) >= step):
        assert process.poll() is None, "the run ended before it could be killed"
        assert time.monotonic() < deadline
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()


def assert_same_end(resumed: Path, undisturbed: Path) -> None:
    for name in ("best.safetensors",):
        expected, actual = load_file(undisturbed / name), load_file(resumed / name)
        assert all(torch.equal(expected[key], actual[key]) for key in expected)
    expected, actual = (
        torch.load(folder / "last.ckpt", map_location="cpu", weights_only=True) for folder in (undisturbed, resumed)
    )
    assert expected["global_step"] == actual["global_step"]
    assert all(torch.equal(value, actual["state_dict"][key]) for key, value in expected["state_dict"].items())
    pd.testing.assert_frame_equal(
        pd.read_csv(undisturbed / "metrics.csv"), pd.read_csv(resumed / "metrics.csv"), check_exact=True
    )


def test_killed_runs_end_with_the_same_bits(config: Path, phantom_store: FilmStore, tmp_path: Path) -> None:
    """Killed inside an epoch and again in a later one, the run ends as one that nobody touched."""
    torch.set_num_threads(1)
    undisturbed, disturbed = tmp_path / "undisturbed", tmp_path / "disturbed"
    assert main(command(config, phantom_store, undisturbed)) == 0
    steps = step_of(undisturbed / "last.ckpt")
    per_epoch = steps // 3
    for step in (3, per_epoch + 3):
        kill_once_past(start(command(config, phantom_store, disturbed)), disturbed / "last.ckpt", step)
    assert main(command(config, phantom_store, disturbed)) == 0
    assert_same_end(disturbed, undisturbed)
    assert not [path for path in disturbed.iterdir() if path.name.startswith(".") and path.suffix == ".safetensors"]


def test_a_loss_that_is_not_finite_leaves_the_last_resume_point(
    config: Path,
    phantom_store: FilmStore,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture,
) -> None:
    """The run ends with the films' names, and goes on from the last good step when the cause is gone."""
    out = tmp_path / "run"
    words = command(config, phantom_store, out, "--optimization.epochs", "1")
    calls = iter(range(100))

    def fails_at_the_fifth_step(components: dict[str, torch.Tensor], loss: LossConfig) -> torch.Tensor:
        value = combined_loss(components, loss)
        return value * math.nan if next(calls) == 4 else value

    monkeypatch.setattr("clarity_cxr.training.recipe.combined_loss", fails_at_the_fifth_step)
    assert main(words) == 2
    error = capfd.readouterr().err
    assert "the loss is not finite at step 4 (epoch 0)" in error
    assert sum(image_id in error for image_id in phantom_store.index["image_id"]) == 10
    assert step_of(out / "last.ckpt") == 3
    monkeypatch.undo()
    assert main(words) == 0
    assert pd.read_csv(out / "metrics.csv")["train/L_total"].notna().all()


def test_a_run_leaves_metrics_best_weights_and_its_config(
    config: Path, phantom_store: FilmStore, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "run"
    assert main(command(config, phantom_store, out, "--optimization.epochs", "2")) == 0
    metrics = pd.read_csv(out / "metrics.csv")
    assert metrics["epoch"].tolist() == [0, 1]
    for name in ("total", "CLS_C", "CLS_P", "CLS_f", "BAS", "AC", "PRX", "CNF", "OCT"):
        assert metrics[f"train/L_{name}"].between(0, 1e4).all(), name
    assert metrics["val/macro_auc"].between(0, 1).all()
    metadata = read_metadata(out / "best.safetensors")
    assert metadata.provenance["data"] == phantom_store.fingerprint
    assert metadata.provenance["optimization"]["epochs"] == 2
    assert metadata.thresholds is None or set(metadata.thresholds.values()) <= {i / 100 for i in range(1, 100)}
    assert (out / "tensorboard").is_dir()
    capsys.readouterr()

    assert main(command(config, phantom_store, out, "--optimization.epochs", "3")) == 2
    assert "optimization.epochs was 2, now 3" in capsys.readouterr().err


def test_without_priors_the_run_says_what_is_off_or_refuses_if_the_config_requires_them(
    config: Path, phantom_release: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    import shutil

    from clarity_cxr.data.prepare import prepare

    bare = tmp_path / "bare"
    shutil.copytree(phantom_release, bare, ignore=shutil.ignore_patterns("priors"))
    store = prepare(bare, tmp_path / "store", size=64, processes=1)
    out = tmp_path / "run"
    assert main(command(config, store, out, "--loss.priors", "required")) == 2
    assert f"make them with `clarity anatomy {store.path}`" in capsys.readouterr().err
    assert not out.exists()

    assert main(command(config, store, out, "--optimization.epochs", "1")) == 0
    assert "L_PRX and L_CNF are off" in capsys.readouterr().out
    assert not {"train/L_PRX", "train/L_CNF"} & set(pd.read_csv(out / "metrics.csv").columns)


def test_store_of_another_size(
    config: Path, phantom_store: FilmStore, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ("--model.name", "clarity_s16_224", "--model.attention_blocks", "8", "--model.token_blocks", "8")
    assert main(command(config, phantom_store, tmp_path / "run", *options)) == 2
    message = capsys.readouterr().err
    assert "64" in message
    assert "224" in message
    assert not (tmp_path / "run").exists()


def test_priors_made_from_other_films_are_refused(
    config: Path, phantom_store: FilmStore, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    import json
    import shutil

    copy = tmp_path / "store"
    shutil.copytree(phantom_store.path, copy)
    manifest = json.loads((copy / "manifest.json").read_text())
    manifest["priors"]["film_digest"] = "0" * 64
    (copy / "manifest.json").write_text(json.dumps(manifest))
    words = ["train", "--config", str(config), "--store", str(copy), "--out", str(tmp_path / "run")]
    assert main(words) == 2
    assert "its priors were made from other films" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()
