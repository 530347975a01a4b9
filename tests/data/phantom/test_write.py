"""Phantom releases on disk."""

import csv
import errno
import hashlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from clarity_cxr.data.phantom import PhantomConfig, draw_films, write_release
from clarity_cxr.errors import ClarityError, ReleaseError
from clarity_cxr.findings import BOXED_FINDINGS, FINDINGS

CONFIG = PhantomConfig(films=90, size=64, seed=11, rarity=0.0)


def digests(root: Path) -> dict[str, str]:
    files = sorted(path for path in root.rglob("*") if path.is_file())
    return {str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


@pytest.fixture(scope="module")
def release(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("phantom") / "release"
    write_release(root, CONFIG)
    return root


def rows(path: Path) -> list[list[str]]:
    with path.open(encoding="utf-8", newline="") as handle:
        return list(csv.reader(handle))


def test_processes_and_batches_do_not_change_a_byte(release, tmp_path):
    write_release(tmp_path / "other", CONFIG, processes=2, batch=17)
    assert digests(tmp_path / "other") == digests(release)


def test_the_layout_is_that_of_the_real_release(release):
    names = {path.name for path in release.iterdir()}
    assert names == {
        "images_001", "priors", "Data_Entry_2017_v2020.csv", "BBox_List_2017.csv",
        "train_val_list.txt", "test_list.txt", "phantom_truth.csv", "phantom.json",
    }  # fmt: skip
    entries = rows(release / "Data_Entry_2017_v2020.csv")
    assert ",".join(entries[0]).endswith("OriginalImage[Width,Height],OriginalImagePixelSpacing[x,y]")
    assert {len(row) for row in entries} == {11}
    films = sorted(path.name for path in (release / "images_001" / "images").iterdir())
    assert films == sorted(row[0] for row in entries[1:])
    lists = (release / f"{part}_list.txt" for part in ("train_val", "test"))
    listed = [line for path in lists for line in path.read_text().splitlines()]
    assert sorted(listed) == films


def test_films_and_priors_are_what_was_drawn(release):
    batch = draw_films(CONFIG, np.arange(CONFIG.films))
    for row in (0, 44, 89):
        name = batch.table["image_id"][row]
        with Image.open(release / "images_001" / "images" / name) as film:
            assert film.mode == "L"
            np.testing.assert_array_equal(np.asarray(film), batch.films[row])
        with Image.open(release / "priors" / name) as priors:
            bits = np.asarray(priors)
        for k in range(4):
            np.testing.assert_array_equal(bits >> k & 1, batch.priors[row, k])


def test_labels_are_written_as_in_the_real_release(release):
    batch = draw_films(CONFIG, np.arange(CONFIG.films))
    for row, labels in zip(rows(release / "Data_Entry_2017_v2020.csv")[1:], batch.labels, strict=True):
        assert row[1] == ("|".join(np.array(FINDINGS)[labels]) or "No Finding")


def test_boxes_are_the_truth_of_the_test_films(release):
    header = (release / "BBox_List_2017.csv").read_text().splitlines()[0]
    assert header == "Image Index,Finding Label,Bbox [x,y,w,h],,,"
    boxes = rows(release / "BBox_List_2017.csv")[1:]
    test = set((release / "test_list.txt").read_text().splitlines())
    truth = rows(release / "phantom_truth.csv")[1:]
    wanted = [
        [image_id, "Infiltrate" if name == "Infiltration" else name, *box]
        for image_id, name, *box in truth
        if image_id in test and name in BOXED_FINDINGS
    ]
    assert boxes == wanted
    assert boxes
    for _, _, x, y, width, height in boxes:
        assert 0 <= float(x) < float(x) + float(width) <= 1024
        assert 0 <= float(y) < float(y) + float(height) <= 1024


def test_a_share_of_the_boxes_can_be_left_out(tmp_path):
    config = PhantomConfig(films=90, size=64, seed=11, rarity=0.0, boxed_share=0.0)
    write_release(tmp_path / "release", config)
    assert rows(tmp_path / "release" / "BBox_List_2017.csv")[1:] == []
    assert len(rows(tmp_path / "release" / "phantom_truth.csv")) > 90


def test_the_same_release_is_not_drawn_again(release):
    before = {path: path.stat().st_mtime_ns for path in release.rglob("*")}
    write_release(release, CONFIG)
    assert {path: path.stat().st_mtime_ns for path in release.rglob("*")} == before


def test_another_release_is_not_overwritten(release):
    with pytest.raises(ReleaseError, match="seed differ"):
        write_release(release, PhantomConfig(films=90, size=64, seed=12, rarity=0.0))


def test_a_folder_that_is_no_phantom_release_is_left_alone(tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(ReleaseError, match="no phantom release"):
        write_release(tmp_path, CONFIG)
    assert (tmp_path / "notes.txt").read_text() == "mine"


def test_a_folder_below_a_file_is_one_clear_error(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ClarityError, match="part of the path is a file"):
        write_release(tmp_path / "file" / "release", CONFIG)


def test_an_interrupted_release_is_begun_again(tmp_path, release):
    (tmp_path / "release.partial" / "priors").mkdir(parents=True)
    (tmp_path / "release.partial" / "stale.png").write_text("")
    write_release(tmp_path / "release", CONFIG)
    assert digests(tmp_path / "release") == digests(release)
    assert not (tmp_path / "release.partial").exists()


def test_a_disk_that_fills_up_on_the_way_leaves_nothing(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("clarity_cxr.data.phantom.write._write_csv", full)
    with pytest.raises(ClarityError, match="the disk is full"):
        write_release(tmp_path / "release", PhantomConfig(films=3, size=64))
    assert list(tmp_path.iterdir()) == []
