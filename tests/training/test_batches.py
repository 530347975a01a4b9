import copy

import numpy as np
import torch

from clarity_cxr.data.store import FilmStore
from clarity_cxr.training.batches import EpochBatches, TrainingFilms, epoch_order, training_loader


def test_order_is_a_permutation_that_changes_with_seed_and_epoch(phantom_store: FilmStore) -> None:
    keys = phantom_store.keys
    orders = [tuple(epoch_order(keys, seed, epoch)) for seed in (0, 1) for epoch in (0, 1)]
    assert all(sorted(order) == list(range(len(keys))) for order in orders)
    assert len(set(orders)) == 4


def test_order_follows_the_films_not_their_place() -> None:
    keys = np.random.default_rng(0).integers(-(2**63), 2**63, size=50)
    shuffled = np.random.default_rng(1).permutation(50)
    assert np.array_equal(keys[epoch_order(keys, 3, 2)], keys[shuffled][epoch_order(keys[shuffled], 3, 2)])


def test_every_place_is_equally_likely() -> None:
    """Mean rank of each of 10 films over 4,000 epochs: 4.5, standard error 0.045; five of them are allowed."""
    keys = np.arange(10)
    ranks = np.mean([np.argsort(epoch_order(keys, 0, epoch)) for epoch in range(4000)], axis=0)
    assert np.abs(ranks - 4.5).max() < 5 * 0.0455


def test_resumed_batches_are_the_rest_of_the_epoch(phantom_store: FilmStore) -> None:
    whole = EpochBatches(phantom_store, 16, seed=0)
    steps = len(whole)
    resumed = EpochBatches(phantom_store, 16, seed=0, first_step=steps + 2)
    whole.set_epoch(1)
    resumed.set_epoch(1)
    expected = [rows.tolist() for _, rows in whole][2:]
    assert [rows.tolist() for _, rows in resumed] == expected
    whole.set_epoch(2)
    resumed.set_epoch(2)
    assert [rows.tolist() for _, rows in resumed] == [rows.tolist() for _, rows in whole]
    assert len(resumed) == steps


def test_batches_hold_training_films_only_once(phantom_store: FilmStore) -> None:
    batches = EpochBatches(phantom_store, 16, seed=0)
    rows = np.concatenate([rows for _, rows in batches])
    assert len(set(rows.tolist())) == len(rows) == len(batches) * 16
    assert set(phantom_store.index["split"].to_numpy()[rows]) == {"train"}


def test_a_batch_larger_than_the_store_is_one_batch_of_all(phantom_store: FilmStore) -> None:
    batches = EpochBatches(phantom_store, 10_000, seed=0)
    assert len(batches) == 1
    assert len(next(iter(batches))[1]) == len(phantom_store.rows("train"))


def test_loader_reads_rows_labels_and_priors_together(phantom_store: FilmStore) -> None:
    batches = EpochBatches(phantom_store, 8, seed=0)
    batch = next(iter(training_loader(TrainingFilms(phantom_store), batches, workers=0, pin_memory=False)))
    rows = batch["rows"].numpy()
    assert batch["epoch"] == 0
    assert np.array_equal(batch["films"].numpy(), phantom_store.films[rows])
    assert np.array_equal(batch["labels"].numpy(), phantom_store.labels[rows].astype(np.float32))
    assert np.array_equal(batch["keys"].numpy(), phantom_store.keys[rows])
    assert np.array_equal(batch["priors"].numpy(), phantom_store.priors[rows])


def test_workers_read_the_same_batches(phantom_store: FilmStore) -> None:
    batches = EpochBatches(phantom_store, 8, seed=0)
    here = list(training_loader(TrainingFilms(phantom_store), batches, workers=0, pin_memory=False))
    there = list(training_loader(TrainingFilms(phantom_store), batches, workers=2, pin_memory=False))
    assert all(torch.equal(a["films"], b["films"]) for a, b in zip(here, there, strict=True))


def test_a_store_without_priors_gives_none(phantom_store: FilmStore) -> None:
    bare = copy.copy(phantom_store)
    bare.priors = None
    assert "priors" not in TrainingFilms(bare)[0, np.array([0, 1])]
