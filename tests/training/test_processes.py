"""Two processes on the CPU train and evaluate as one does."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from safetensors.torch import load_file

from clarity_cxr.cli.main import main
from clarity_cxr.data.store import FilmStore
from clarity_cxr.training.batches import EpochBatches

SECTIONS = {
    "model": {
        "name": "clarity_t8_64",
        "attention_blocks": 1,
        "token_blocks": 1,
        "mlp_dropout": 0.0,
        "attention_dropout": 0.0,
        "pool_dropout": 0.0,
        "drop_path": 0.0,
        "mask_gradient": "soft",  # a rounding error can flip a cell of a binary mask, and then a whole cell differs
    },
    "loss": {"priors": "required"},
    "optimization": {"epochs": 2, "batch_size": 16, "learning_rate": 2e-4, "warmup_epochs": 1},
    "run": {"precision": "32-true", "accelerator": "cpu", "seed": 3},
}


def together(*words: str) -> None:
    """Run one `clarity` command in two processes, as `torchrun` does."""
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    subprocess.run(
        [*launcher, "-m", "clarity_cxr.cli.main", *words], check=True, env=os.environ | {"OMP_NUM_THREADS": "1"}
    )


def test_processes_share_the_batches_of_one(phantom_store: FilmStore) -> None:
    one = EpochBatches(phantom_store, 12, seed=1)
    shares = [EpochBatches(phantom_store, 12, seed=1, rank=rank, processes=3) for rank in range(3)]
    assert len(one) == len(shares[0])
    for (_, whole), *parts in zip(one, *shares, strict=True):
        assert np.array_equal(np.concatenate([rows for _, rows in parts]), whole)


def test_a_batch_that_cannot_be_shared_is_refused(
    phantom_store: FilmStore, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = tmp_path / "run.yaml"
    config.write_text(yaml.safe_dump(SECTIONS))
    options = ["--optimization.batch_size", "15", "--run.devices", "2"]
    code = main(
        ["train", "--config", str(config), "--store", str(phantom_store.path), "--out", str(tmp_path / "o"), *options]
    )
    assert code == 2
    assert "batch_size is 15, which 2 processes cannot share" in capsys.readouterr().err


def test_two_processes_train_and_evaluate_as_one(phantom_store: FilmStore, tmp_path: Path) -> None:
    """Losses, class weights and BatchNorm are those of the global batch; every film is scored once."""
    config = tmp_path / "run.yaml"
    config.write_text(yaml.safe_dump(SECTIONS))
    one, two = tmp_path / "one", tmp_path / "two"
    words = ["train", "--config", str(config), "--store", str(phantom_store.path), "--out"]
    assert main([*words, str(one)]) == 0
    together(*words, str(two), "--run.devices", "2")
    pd.testing.assert_frame_equal(
        pd.read_csv(two / "metrics.csv"), pd.read_csv(one / "metrics.csv"), rtol=1e-5, atol=1e-5
    )
    expected, actual = load_file(one / "best.safetensors"), load_file(two / "best.safetensors")
    for name, value in expected.items():
        if not name.endswith("qkv.bias"):  # softmax cancels the keys' biases: AdamW follows the sign of rounding errors
            np.testing.assert_allclose(actual[name].numpy(), value.numpy(), atol=2e-4, err_msg=name)
    assert sorted(path.name for path in two.iterdir()) == sorted(path.name for path in one.iterdir())

    words = ["evaluate", "--checkpoint", str(one / "best.safetensors"), "--store", str(phantom_store.path)]
    words += ["--replicates", "20", "--out"]
    assert main([*words, str(one / "evaluation")]) == 0
    together(*words, str(two / "evaluation"))
    stored = [np.load(folder / "evaluation" / "evaluation_predictions.npz") for folder in (one, two)]
    for name in stored[0].files:
        if stored[0][name].dtype.kind == "f":
            np.testing.assert_allclose(stored[1][name], stored[0][name], atol=1e-6, err_msg=name)
        else:
            assert np.array_equal(stored[1][name], stored[0][name]), name
    results = [json.loads((folder / "evaluation" / "evaluation.json").read_text()) for folder in (one, two)]
    assert results[1]["macro_auc"] == pytest.approx(results[0]["macro_auc"], abs=1e-6)
    assert results[1]["msli"] == pytest.approx(results[0]["msli"], abs=1e-6)
