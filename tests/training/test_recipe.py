import math

import numpy as np
import pytest
import torch

from clarity_cxr.data.augmentation import AugmentationConfig
from clarity_cxr.data.store import FilmStore
from clarity_cxr.errors import TrainingError
from clarity_cxr.models import create_model
from clarity_cxr.training.batches import TrainingFilms
from clarity_cxr.training.config import LossConfig, OptimizationConfig, RunConfig
from clarity_cxr.training.recipe import ClarityRecipe, cosine_with_warmup, parameter_groups

SMALL = {"width": 32, "heads": 2, "depth": 2, "attention_blocks": 1, "token_blocks": 1}


def make_recipe(store: FilmStore) -> ClarityRecipe:
    torch.manual_seed(0)
    model = create_model("clarity_t8_64", **SMALL).train()
    return ClarityRecipe(model, store, AugmentationConfig(), LossConfig(), OptimizationConfig(), 10, RunConfig(seed=3))


def test_no_decay_on_norms_biases_tokens_and_positions() -> None:
    model = create_model("clarity_t8_64", **SMALL)
    groups = parameter_groups(model, OptimizationConfig(weight_decay=0.05))
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    by_decay = {
        decay: {names[id(p)] for group in groups if group["weight_decay"] == decay for p in group["params"]}
        for decay in (0.05, 0.0)
    }
    assert by_decay[0.05] | by_decay[0.0] == set(names.values())
    assert not by_decay[0.05] & by_decay[0.0]
    assert {"backbone.class_tokens", "backbone.positions", "backbone.norm.weight"} <= by_decay[0.0]
    assert "pooling.weights" in by_decay[0.05]
    assert not any("norm" in name or name.endswith("bias") for name in by_decay[0.05])


def test_learning_rates_fall_from_the_heads_down_by_layer() -> None:
    model = create_model("clarity_t8_64", **SMALL)
    depth = model.config.depth
    groups = parameter_groups(model, OptimizationConfig(learning_rate=1e-3, layer_decay=0.5))
    rates = {id(p): group["lr"] for group in groups for p in group["params"]}
    named = {name: rates[id(parameter)] for name, parameter in model.named_parameters()}
    assert named["pooling.weights"] == named["backbone.class_tokens"] == named["backbone.norm.weight"] == 1e-3
    assert named[f"backbone.blocks.{depth - 1}.mlp.fc1.weight"] == pytest.approx(0.5e-3)
    assert named["backbone.blocks.0.attn.qkv.bias"] == pytest.approx(1e-3 * 0.5**depth)
    assert named["backbone.positions"] == named["backbone.patch_embed.proj.weight"]
    assert named["backbone.positions"] == pytest.approx(1e-3 * 0.5 ** (depth + 1))
    same = parameter_groups(model, OptimizationConfig(learning_rate=1e-4))
    assert {group["lr"] for group in same} == {1e-4}


def test_schedule_warms_up_and_follows_half_a_cosine() -> None:
    factors = [cosine_with_warmup(step, warmup=4, total=24, floor=0.1) for step in range(25)]
    assert factors[:5] == pytest.approx([0.2, 0.4, 0.6, 0.8, 1.0])
    assert factors[14] == pytest.approx(0.1 + 0.9 * 0.5 * (1 + math.cos(math.pi * 0.5)))
    assert factors[24] == pytest.approx(0.1)


def test_step_does_not_depend_on_the_order_of_films(phantom_store: FilmStore) -> None:
    """Augmentation belongs to the film; only summation order differs."""
    rows = phantom_store.rows("train")[:8]
    films = TrainingFilms(phantom_store)
    losses = [
        make_recipe(phantom_store).training_step(films[2, order], 0)["loss"].item()
        for order in (rows, rows[::-1].copy())
    ]
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)


def test_loss_that_is_not_finite_names_the_films(phantom_store: FilmStore) -> None:
    recipe = make_recipe(phantom_store)
    with torch.no_grad():
        recipe.model.pooling.weights[3] = math.inf
    rows = phantom_store.rows("train")[:4]
    with pytest.raises(TrainingError, match="not finite at step 0") as error:
        recipe.training_step(TrainingFilms(phantom_store)[0, rows], 0)
    for image_id in phantom_store.index["image_id"].to_numpy()[rows]:
        assert image_id in str(error.value)
    assert "L_CLS_C = nan" in str(error.value)


def test_dropout_is_keyed_by_seed_and_step(phantom_store: FilmStore) -> None:
    recipe = make_recipe(phantom_store)
    draws = []
    for _ in range(2):
        recipe.on_train_batch_start({}, 0)
        draws.append(torch.rand(4).tolist())
    assert draws[0] == draws[1]
    recipe.seed = 4
    recipe.on_train_batch_start({}, 0)
    assert torch.rand(4).tolist() != draws[0]


def test_learns_to_tell_two_films_apart(phantom_store: FilmStore) -> None:
    """The whole step, optimizer included, brings the loss of one small batch down."""
    recipe = make_recipe(phantom_store)
    optimizer = torch.optim.AdamW(parameter_groups(recipe.model, OptimizationConfig(learning_rate=3e-3)))
    batch = TrainingFilms(phantom_store)[0, phantom_store.rows("train")[:8]]
    losses = []
    for _ in range(25):
        loss = recipe.training_step(batch, 0)["loss"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert np.mean(losses[-3:]) < 0.7 * losses[0]
