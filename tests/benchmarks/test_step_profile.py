"""The step in pieces is the step of the recipe: the same gradients, and a row for every piece."""

import importlib
from pathlib import Path

import pytest
import torch

from clarity_cxr.data.store import FilmStore

ROOT = Path(__file__).parents[2]


def test_pieces_make_the_undivided_step(phantom_store: FilmStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    module = importlib.import_module("step_profile")
    monkeypatch.setattr(module, "matmul_rate", lambda *arguments: 1e9)
    monkeypatch.setattr(module, "copy_rate", lambda *arguments: 1e9)
    step = module.CutStep("clarity_t8_64", phantom_store, 4, torch.device("cpu"), "float32")
    assert module.gradient_difference(step) < 1e-5  # the order of sums differs
    rows = {row["what"]: row for row in module.profile(step, rounds=1)}
    pieces = {name for name in rows if name not in ("sum of the pieces", "undivided step", "dropout, by difference")}
    assert len([name for name in pieces if name.startswith("loss: ")]) == 4
    assert rows["undivided step"]["share %"] == 100
    summed = sum(row["ms"] for name, row in rows.items() if name in pieces and not name.startswith("of which"))
    assert rows["sum of the pieces"]["ms"] == pytest.approx(summed, abs=0.1)
    forward, backward = rows["forward: backbone"], rows["backward: backbone"]
    assert backward["G multiply-adds"] == pytest.approx(2 * forward["G multiply-adds"], rel=0.15)
    assert rows["optimizer"]["MB"] == pytest.approx(
        28 * sum(p.numel() for p in step.model.parameters()) / 1e6, abs=0.01
    )
