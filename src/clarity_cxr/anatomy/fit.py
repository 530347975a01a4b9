"""The recipe of the built-in segmenter: one network, one optimiser, everything drawn from one seed."""

import copy
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from clarity_cxr.anatomy.augment import expose, obstruct, opacify, warp
from clarity_cxr.anatomy.network import AnatomyNet, standardize
from clarity_cxr.anatomy.poses import NOT_A_CHEST_FILM, posed_films
from clarity_cxr.progress import progress_bar


@dataclass(frozen=True)
class Recipe:
    """How the network is trained.

    Attributes:
        steps: optimiser steps.
        outlined_batch: outlined films in a step; they teach segmentation.
        posed_batch: turned, inverted and foreign pictures in a step; they teach the film head.
        learning_rate: peak of the one-cycle schedule (AdamW).
        weight_decay: of AdamW.
        averaging: decay of the weights' moving average, which is the result.
        seed: of initialisation, order and augmentation.
    """

    steps: int = 1000
    outlined_batch: int = 16
    posed_batch: int = 8
    learning_rate: float = 4e-3
    weight_decay: float = 1e-3
    averaging: float = 0.99
    seed: int = 0


def fit(films: np.ndarray, masks: np.ndarray, upright: np.ndarray, recipe: Recipe) -> AnatomyNet:
    """Train an `AnatomyNet`.

    Args:
        films: (n, h, h) uint8 outlined films.
        masks: (n, 3, h, h) uint8, 0 to 255, in the order of `ORGANS`.
        upright: (m, h, h) uint8 upright frontal films without outlines, for the film head; may be `films`.
        recipe: sizes and rates.

    Returns:
        The averaged network in eval mode.
    """
    generator = torch.Generator().manual_seed(recipe.seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(recipe.seed)
        network = AnatomyNet().to(memory_format=torch.channels_last)
    average = copy.deepcopy(network)
    optimizer = torch.optim.AdamW(network.parameters(), recipe.learning_rate, weight_decay=recipe.weight_decay)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, recipe.learning_rate, recipe.steps, pct_start=0.15)
    outlined = _rows(len(films), recipe.outlined_batch, generator)
    posed = _rows(len(upright), recipe.posed_batch, generator)
    network.train()
    with progress_bar("Training the segmenter", recipe.steps) as advance:
        for step in range(recipe.steps):
            rows, other = next(outlined), next(posed)
            loss = _loss(network, _unit(films[rows]), _unit(masks[rows]), _unit(upright[other]), generator)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
            optimizer.step()
            schedule.step()
            _average(average, network, min(recipe.averaging, (1 + step) / (10 + step)))
            advance(1)
    return average.eval()


def _loss(network: AnatomyNet, films: Tensor, masks: Tensor, upright: Tensor, generator: Generator) -> Tensor:
    """Dice and cross-entropy of the organs, plus cross-entropy of pose and inversion."""
    warped, targets = warp(films.unsqueeze(1), masks, generator)
    assert targets is not None
    seen = obstruct(expose(opacify(warped, targets[:, :2], generator), generator), generator)
    others, poses, inverted = posed_films(upright.unsqueeze(1), generator)
    inputs = standardize(torch.cat([seen, others])).contiguous(memory_format=torch.channels_last)
    with torch.autocast("cpu", torch.bfloat16):
        organs, pose, inversion = network(inputs)
    organs, pose, inversion = organs.float(), pose.float(), inversion.float()
    count = len(films)
    foreign = poses == NOT_A_CHEST_FILM
    logits = torch.cat([organs[:count], organs[count:][foreign]])
    targets = torch.cat([targets, torch.zeros_like(organs[count:][foreign])])
    segmentation = F.binary_cross_entropy_with_logits(logits, targets) + _dice_loss(organs[:count], targets[:count])
    poses = torch.cat([poses.new_zeros(count), poses])
    inverted = torch.cat([inverted.new_zeros(count), inverted])
    known = poses != NOT_A_CHEST_FILM
    pose_loss = F.cross_entropy(pose, poses, label_smoothing=0.02)
    inversion_loss = F.binary_cross_entropy_with_logits(inversion[known], inverted[known])
    return segmentation + 0.2 * (pose_loss + inversion_loss)


def _dice_loss(logits: Tensor, targets: Tensor) -> Tensor:
    probabilities = logits.sigmoid()
    shared = (probabilities * targets).sum(dim=(2, 3))
    total = (probabilities.square() + targets.square()).sum(dim=(2, 3))
    return 1 - ((2 * shared + 1) / (total + 1)).mean()


def _rows(count: int, batch: int, generator: Generator) -> Iterator[np.ndarray]:
    """Endless batches of rows; every row once before any comes again."""
    waiting = np.empty(0, dtype=np.int64)
    while True:
        while len(waiting) < batch:
            waiting = np.concatenate([waiting, torch.randperm(count, generator=generator).numpy()])
        yield waiting[:batch]
        waiting = waiting[batch:]


def _unit(pictures: np.ndarray) -> Tensor:
    return torch.from_numpy(pictures).float() / 255


@torch.no_grad()
def _average(average: AnatomyNet, network: AnatomyNet, decay: float) -> None:
    for mean, value in zip(average.state_dict().values(), network.state_dict().values(), strict=True):
        if mean.is_floating_point():
            mean.lerp_(value, 1 - decay)
        else:
            mean.copy_(value)
