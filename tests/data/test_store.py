"""Opening a store: what it holds, and refusing one that is not what was asked for."""

import hashlib
import json
import pickle
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from clarity_cxr.data.prepare import prepare
from clarity_cxr.data.release import read_release
from clarity_cxr.data.splits import assign_splits
from clarity_cxr.data.store import FilmStore, augmentation_keys, open_store
from clarity_cxr.errors import StoreError
from clarity_cxr.findings import FINDINGS
from tests.data.conftest import SmallRelease


@pytest.fixture
def store(small_release: SmallRelease, tmp_path: Path) -> FilmStore:
    return prepare(small_release.write(), tmp_path / "store", size=32, processes=1)


def test_tables_are_those_of_the_release(store: FilmStore, small_release: SmallRelease) -> None:
    release = read_release(small_release.root)
    expected = assign_splits(release.films, release.boxes)

    assert store.films.shape == (len(expected), 32, 32)
    assert not store.films.flags.writeable
    pd.testing.assert_frame_equal(store.index.drop(columns=["width", "height"]), expected.drop(columns="path"))
    assert store.index[["width", "height"]].to_numpy().tolist() == [[48, 48]] * len(expected)
    np.testing.assert_array_equal(store.labels, expected[list(FINDINGS)].to_numpy())
    for split in ("train", "val", "test"):
        assert store.rows(split).tolist() == np.flatnonzero(expected["split"] == split).tolist()
    halves = [store.localization_rows(half) for half in ("val", "test")]
    assert sorted(np.concatenate(halves)) == np.flatnonzero(expected["localization"] != "").tolist()


def test_boxes_are_fractions_with_the_row_of_their_film(store: FilmStore) -> None:
    boxes = store.boxes

    assert store.index["image_id"].to_numpy()[boxes["row"]].tolist() == boxes["image_id"].tolist()
    assert boxes[["x0", "y0", "x1", "y1"]].iloc[0].tolist() == pytest.approx([0.1, 0.2, 0.4, 0.7])


def test_keys_are_a_hash_of_the_stem() -> None:
    keys = augmentation_keys(pd.Series(["00000001_000.png", "00000001_000.jpg", "x.y.png"]))

    expected = int.from_bytes(hashlib.blake2b(b"00000001_000").digest()[:8], "little", signed=True)
    assert keys.dtype == np.int64
    assert keys.tolist()[:2] == [expected, expected]
    assert keys[2] == int.from_bytes(hashlib.blake2b(b"x.y").digest()[:8], "little", signed=True)


def test_a_store_pickles_as_its_path(store: FilmStore) -> None:
    content = pickle.dumps(store)

    assert len(content) < 1000
    assert pickle.loads(content).fingerprint == store.fingerprint


def test_the_manifest_holds_no_path_or_date(store: FilmStore) -> None:
    manifest = store.manifest

    assert manifest["source"] == "release"
    assert manifest["priors"] is None
    assert manifest["film_digest"] == hashlib.sha256((store.path / "films.npy").read_bytes()).hexdigest()
    assert str(store.path.parent) not in json.dumps(manifest)


def _change(store: FilmStore, **changes: object) -> Path:
    manifest = {**store.manifest, **changes}
    (store.path / "manifest.json").write_text(json.dumps(manifest))
    return store.path


def test_a_store_of_another_size(store: FilmStore) -> None:
    assert open_store(store.path, size=32).size == 32
    with pytest.raises(StoreError, match=r"store: films are 32 px, 224 px are needed; .*--size 224"):
        open_store(store.path, size=224)


def test_a_store_of_another_format_version(store: FilmStore) -> None:
    with pytest.raises(StoreError, match="format version 99, this program reads version 1"):
        open_store(_change(store, format_version=99))


@pytest.mark.parametrize("findings", [FINDINGS[:13], FINDINGS[::-1]])
def test_a_store_of_another_finding_set(store: FilmStore, findings: tuple[str, ...]) -> None:
    with pytest.raises(StoreError, match=r"holds the findings .*; expected Atelectasis"):
        open_store(_change(store, findings=findings))


def test_a_missing_store(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=r"not a prepared store .*clarity prepare"):
        open_store(tmp_path / "store")
    (tmp_path / "store.partial").mkdir()
    with pytest.raises(StoreError, match=r"store.partial is unfinished"):
        open_store(tmp_path / "store")


@pytest.mark.parametrize("content", ["", "[]", "{}", "null", '{"format_version": 1}'])
def test_a_damaged_manifest(store: FilmStore, content: str) -> None:
    (store.path / "manifest.json").write_text(content)

    with pytest.raises(StoreError, match=r"manifest.json: damaged"):
        open_store(store.path)


@pytest.mark.parametrize("name", ["films.npy", "index.parquet", "boxes.parquet"])
def test_a_damaged_or_missing_file(store: FilmStore, name: str) -> None:
    path = store.path / name
    content = path.read_bytes()
    path.unlink()  # the open store has the file mapped; cutting it in place would end this process
    path.write_bytes(content[:200])
    with pytest.raises(StoreError, match="damaged"):
        open_store(store.path)
    path.unlink()
    with pytest.raises(StoreError, match="damaged"):
        open_store(store.path)


def test_files_of_another_store(store: FilmStore) -> None:
    films = store.path / "films.npy"
    kept = films.rename(store.path / "kept.npy")
    np.save(films, np.zeros((2, 32, 32), dtype=np.uint8))
    with pytest.raises(StoreError, match=r"films.npy: expected uint8"):
        open_store(store.path)
    kept.replace(films)
    store.index.head(3).to_parquet(store.path / "index.parquet")
    with pytest.raises(StoreError, match=r"index.parquet: does not belong to this store"):
        open_store(store.path)


def test_an_unknown_split_is_a_programming_error(store: FilmStore) -> None:
    with pytest.raises(ValueError, match="'validation'"):
        store.rows("validation")
