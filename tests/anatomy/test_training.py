"""The recipe: what augmentation may and may not change, folds, Dice, and a few steps of training."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from clarity_cxr.anatomy.augment import expose, obstruct, opacify, warp
from clarity_cxr.anatomy.builtin import load_builtin
from clarity_cxr.anatomy.fit import Recipe, fit
from clarity_cxr.anatomy.folds import dice, worst_mean
from clarity_cxr.anatomy.network import POSES, SIZE
from clarity_cxr.anatomy.poses import posed_films
from clarity_cxr.anatomy.training_films import TRAINING_SIZE, deal_folds, read_outlined_films, read_upright_films
from clarity_cxr.cli.anatomy_train import anatomy_train
from clarity_cxr.errors import ConfigError, ReleaseError
from tests.anatomy.shapes import drawn_organs


@pytest.fixture(scope="module")
def outlined(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six drawn films of 96 pixels with their masks."""
    root = tmp_path_factory.mktemp("outlined")
    organs = drawn_organs(96)
    film = 120 - 90 * (organs[0] | organs[1]) + 60 * organs[2]
    for folder, picture in (("images", film), *zip(("left_lung", "right_lung", "heart"), organs * 255, strict=True)):
        (root / folder).mkdir()
        for number in range(6):
            shifted = np.roll(picture.astype(np.uint8), number, axis=1)
            Image.fromarray(shifted).save(root / folder / f"f{number}.png")
    return root


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_masks_move_with_the_film():
    lungs = torch.from_numpy(drawn_organs(TRAINING_SIZE)[:2].any(axis=0)).float()
    films = lungs.expand(8, 1, -1, -1).contiguous()
    warped, masks = warp(films, films, generator())
    assert masks is not None
    assert warped.shape == masks.shape == (8, 1, SIZE, SIZE)
    inside = masks > 0.99
    assert (warped[inside] > 0.98).all()
    assert ((warped[0] - warped[1]).abs() > 0.5).any(), "every film moves in its own way"


@pytest.mark.parametrize(
    "change", [expose, obstruct, lambda films, draws: opacify(films, films.expand(-1, 2, -1, -1), draws)]
)
def test_changes_stay_in_range_and_repeat_with_the_seed(change):
    films = torch.rand(6, 1, SIZE, SIZE, generator=generator(1))
    once, again = change(films, generator(2)), change(films, generator(2))
    assert torch.equal(once, again)
    assert once.min() >= 0
    assert once.max() <= 1
    assert not torch.equal(once, films)


def test_poses_are_all_drawn_and_turned_as_named():
    bright_top = torch.zeros(64, 1, TRAINING_SIZE, TRAINING_SIZE)
    bright_top[:, :, : TRAINING_SIZE // 2] = 1
    films, poses, inverted = posed_films(bright_top, generator())
    assert set(poses.tolist()) == set(range(len(POSES)))
    edges = {0: (0, slice(None)), 1: (slice(None), 0), 2: (-1, slice(None)), 3: (slice(None), -1)}
    right = total = 0
    for film, pose, negative in zip(films[:, 0], poses.tolist(), inverted.tolist(), strict=True):
        if pose in edges:
            film = 1 - film if negative else film
            means = {k: film[where].mean() for k, where in edges.items()}
            right += means[pose] >= means[(pose + 2) % 4]
            total += 1
    assert right / total > 0.85, "black margins hide the bright edge of a few"


def test_folds_do_not_depend_on_the_order_of_names():
    names = tuple(f"film{k}" for k in range(23))
    folds = deal_folds(names, 5)
    assert sorted(np.bincount(folds)) == [4, 4, 5, 5, 5]
    assert np.array_equal(deal_folds(names[::-1], 5)[::-1], folds)


def test_dice_and_the_worst_twentieth():
    a, b = np.zeros((4, 4), bool), np.zeros((4, 4), bool)
    assert dice(a, b) == 1.0
    a[0], b[0, :2] = True, True
    assert dice(a, b) == pytest.approx(2 * 2 / 6)
    assert worst_mean(np.arange(100.0)) == 2.0
    assert worst_mean(np.array([3.0, 1.0])) == 1.0


def test_two_trainings_of_one_seed_are_equal(outlined: Path):
    data = read_outlined_films(outlined)
    assert data.films.shape == (6, TRAINING_SIZE, TRAINING_SIZE)
    recipe = Recipe(steps=2, outlined_batch=2, posed_batch=2)
    networks = [fit(data.films, data.masks, data.films, recipe) for _ in range(2)]
    for first, second in zip(*(network.state_dict().values() for network in networks), strict=True):
        assert torch.equal(first, second)


def test_the_command_writes_weights_that_load_and_scores_every_film(outlined: Path, tmp_path: Path, capsys):
    anatomy_train(data=outlined, out=tmp_path, steps=2)
    assert (
        load_builtin(tmp_path / "builtin_segmenter.safetensors").regions(np.zeros((1, 64, 64), np.uint8)).shape[1] == 5
    )
    anatomy_train(data=outlined, out=tmp_path, steps=2, evaluate=True, folds=2)
    assert {"fold_0.safetensors", "fold_1.safetensors", "scores.json", "worst_cases.png"} <= {
        path.name for path in tmp_path.iterdir()
    }
    assert "atlas" in capsys.readouterr().out


def test_mistakes_in_the_folder_are_named(outlined: Path, tmp_path: Path, release: Path):
    with pytest.raises(ReleaseError, match="no PNG or JPEG films"):
        read_outlined_films(tmp_path)
    (tmp_path / "images").mkdir()
    Image.new("L", (8, 8)).save(tmp_path / "images" / "a.png")
    with pytest.raises(ReleaseError, match=r"left_lung/a\.png: no such mask"):
        read_outlined_films(tmp_path)
    with pytest.raises(ConfigError, match="at least 2 folds"):
        anatomy_train(data=outlined, out=tmp_path, folds=1)
    assert read_upright_films(release).shape[1:] == (TRAINING_SIZE, TRAINING_SIZE)
