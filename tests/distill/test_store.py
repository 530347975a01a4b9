import errno
import json
import pickle
from pathlib import Path

import numpy as np
import pytest

from clarity_cxr.data.augmentation import AugmentationConfig
from clarity_cxr.data.store import FilmStore
from clarity_cxr.distill.manifest import film_identity
from clarity_cxr.distill.store import LogitStore, spans
from clarity_cxr.errors import ClarityError, LogitsError
from tests.distill.conftest import EPOCHS


def test_one_dense_array_per_epoch(undisturbed: LogitStore, phantom_store: FilmStore) -> None:
    for epoch in range(EPOCHS):
        array = np.load(undisturbed.array_path(epoch))
        assert array.dtype == np.float16
        assert array.shape == undisturbed.shape == (len(phantom_store.rows("train")), 14)
        assert undisturbed.array_path(epoch).stat().st_size == 128 + array.nbytes
    assert sorted(path.name for path in undisturbed.path.iterdir() if not path.name.startswith(".")) == [
        *(f"epoch_000{epoch}.{suffix}" for epoch in range(EPOCHS) for suffix in ("json", "npy")),
        "manifest.json",
    ]


def test_a_run_of_the_same_settings_is_let_in(undisturbed: LogitStore, phantom_store: FilmStore) -> None:
    undisturbed.require(film_identity(phantom_store, AugmentationConfig(), 7), EPOCHS)
    assert np.array_equal(pickle.loads(pickle.dumps(undisturbed)).epoch(1), undisturbed.epoch(1))


def test_each_difference_is_named_with_both_values(undisturbed: LogitStore, phantom_store: FilmStore) -> None:
    here = film_identity(phantom_store, AugmentationConfig(), 7)
    cases = {
        "seed is 7 in the store, 8 here": film_identity(phantom_store, AugmentationConfig(), 8),
        "augmentation.brightness is 0.2 in the store, 0.1 here": film_identity(
            phantom_store, AugmentationConfig(brightness=0.1), 7
        ),
        "image_size is 64 in the store, 128 here": here | {"image_size": 128},
        "image_ids is ": here | {"image_ids": "other"},
        "films is ": here | {"films": "other"},
        "findings is \\['Atelectasis', .* in the store, \\['Mass'\\] here": here | {"findings": ["Mass"]},
    }
    for message, needed in cases.items():
        with pytest.raises(LogitsError, match=message):
            undisturbed.require(needed, EPOCHS)


def test_missing_and_partial_epochs_are_named(logits: LogitStore, phantom_store: FilmStore) -> None:
    needed = film_identity(phantom_store, AugmentationConfig(), 7)
    with pytest.raises(LogitsError, match="epochs 3-4 of the 5"):
        logits.require(needed, 5)
    logits.record_path(1).rename(logits.partial_path(1))
    with pytest.raises(LogitsError, match="epochs 1 of the 3"):
        logits.require(needed, EPOCHS)


def test_a_damaged_epoch_is_not_given_out(logits: LogitStore) -> None:
    path = logits.array_path(1)
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    logits.epoch(0)
    with pytest.raises(LogitsError, match=r"epoch_0001\.npy: damaged; .*--repair"):
        logits.epoch(1)


@pytest.mark.parametrize("field", ["seed", "augmentation.brightness"])
def test_an_edited_manifest_is_refused(logits: LogitStore, field: str) -> None:
    path = logits.path / "manifest.json"
    content = json.loads(path.read_text())
    content["identity"][field] = 1
    path.write_text(json.dumps(content))
    with pytest.raises(LogitsError, match="it was edited or is damaged"):
        LogitStore(logits.path)


def test_not_a_store(phantom_store: FilmStore) -> None:
    with pytest.raises(LogitsError, match="damaged"):
        LogitStore(phantom_store.path)
    with pytest.raises(LogitsError, match=r"no manifest\.json"):
        LogitStore(phantom_store.path / "nowhere")


def test_spans() -> None:
    assert spans([0, 1, 2, 5, 7, 8]) == "0-2, 5, 7-8"


def test_a_disk_that_fills_up_leaves_no_half_epoch(logits: LogitStore, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    before = sorted(logits.path.iterdir())
    with pytest.raises(ClarityError, match="the disk is full"):
        logits.write(7, np.zeros((3, 14), np.float16), {})
    assert sorted(logits.path.iterdir()) == before
