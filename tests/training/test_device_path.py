"""What a GPU run relies on, shown on the CPU: no waiting for the device in a step, compiled steps, resident films."""

import shutil
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from clarity_cxr.data.augmentation import AugmentationConfig
from clarity_cxr.data.store import FilmStore
from clarity_cxr.models import create_model
from clarity_cxr.training.batches import DeviceFilms, EpochBatches, TrainingFilms, resident_bytes
from clarity_cxr.training.config import LossConfig, OptimizationConfig, RunConfig
from clarity_cxr.training.recipe import ClarityRecipe

WAITING = {"_local_scalar_dense", "nonzero", "masked_select", "lift_fresh", "is_nonzero", "unique"}
"""Operators that bring a value to the host, or host data to the device."""


class Waits(TorchDispatchMode):
    """Remembers every operator for which a GPU would make the host wait."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.overloadpacket.__name__
        by_mask = name == "index" and any(index is not None and index.dtype == torch.bool for index in args[1])
        if name in WAITING or by_mask:
            self.seen.append(name)
        return func(*args, **(kwargs or {}))


def make_recipe(store: FilmStore, run: RunConfig, dropout: float = 0.0, **more: Any) -> ClarityRecipe:
    torch.manual_seed(0)
    size = {"width": 32, "heads": 2, "depth": 2, "attention_blocks": 1, "token_blocks": 1}
    rates = dict.fromkeys(("mlp_dropout", "attention_dropout", "pool_dropout"), dropout)
    model = create_model("clarity_t8_64", **size, **rates, drop_path=0.0).train()
    return ClarityRecipe(model, store, AugmentationConfig(), LossConfig(), OptimizationConfig(), 10, run, **more)


def gradients(recipe: ClarityRecipe, batch: dict[str, Any]) -> dict[str, torch.Tensor]:
    recipe.on_train_batch_start(batch, 0)
    recipe.training_step(batch, 0)["loss"].backward()
    return {name: p.grad for name, p in recipe.model.named_parameters() if p.grad is not None}


def test_a_step_never_waits_for_the_device(phantom_store: FilmStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """Forward and backward; the look at the losses, which a GPU run takes every 20 steps, does wait."""
    recipe = make_recipe(phantom_store, RunConfig())
    batch = TrainingFilms(phantom_store)[0, phantom_store.rows("train")[:8]]
    recipe.training_step(batch, 0)
    with Waits() as looked:
        recipe.training_step(batch, 0)
    assert looked.seen
    monkeypatch.setattr(recipe, "require_finite", lambda: None)
    with Waits() as waits:
        recipe.training_step(batch, 0)["loss"].backward()
    assert waits.seen == []


def test_a_compiled_step_is_the_step(phantom_store: FilmStore) -> None:
    if shutil.which("g++") is None and shutil.which("clang++") is None:
        pytest.skip("torch.compile needs a C++ compiler on the CPU")
    batch = TrainingFilms(phantom_store)[0, phantom_store.rows("train")[:8]]
    expected = gradients(make_recipe(phantom_store, RunConfig()), batch)
    actual = gradients(make_recipe(phantom_store, RunConfig(compile=True)), batch)
    assert actual.keys() == expected.keys()
    for name, value in expected.items():
        torch.testing.assert_close(actual[name], value, rtol=1e-3, atol=1e-5, msg=name)


def test_activation_checkpointing_changes_no_gradient(phantom_store: FilmStore) -> None:
    """With dropout, whose draws are repeated when blocks are computed again."""
    batch = TrainingFilms(phantom_store)[0, phantom_store.rows("train")[:8]]
    expected = gradients(make_recipe(phantom_store, RunConfig(), dropout=0.2), batch)
    actual = gradients(make_recipe(phantom_store, RunConfig(activation_checkpointing=True), dropout=0.2), batch)
    for name, value in expected.items():
        torch.testing.assert_close(actual[name], value, msg=name)


def test_resident_films_fill_the_same_batches(phantom_store: FilmStore) -> None:
    streamed, resident = TrainingFilms(phantom_store), TrainingFilms(phantom_store, resident=True)
    films = DeviceFilms(resident, torch.device("cpu"))
    assert sum(films.parts[name].nbytes for name in ("films", "priors")) == resident_bytes(resident)
    for index in EpochBatches(phantom_store, 16, seed=2):
        expected = streamed[index]
        actual = films.fill(resident[index])
        assert all(torch.equal(torch.as_tensor(actual[key]), torch.as_tensor(expected[key])) for key in expected)


def test_a_run_on_resident_films_takes_the_same_steps(phantom_store: FilmStore) -> None:
    index = (1, phantom_store.rows("train")[:8])
    films = DeviceFilms(TrainingFilms(phantom_store), torch.device("cpu"))
    streamed = make_recipe(phantom_store, RunConfig()).training_step(TrainingFilms(phantom_store)[index], 0)
    batch = TrainingFilms(phantom_store, resident=True)[index]
    resident = make_recipe(phantom_store, RunConfig(), resident=films).training_step(batch, 0)
    assert torch.equal(resident["loss"], streamed["loss"])
