"""Preparing a store: right pixels, interruption at any moment, and nothing half-written on any error."""

import errno
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from clarity_cxr.cli.prepare import prepare as prepare_command
from clarity_cxr.data import prepare as preparation
from clarity_cxr.data import workers
from clarity_cxr.data.images import read_film, resize_film
from clarity_cxr.data.prepare import prepare
from clarity_cxr.errors import ClarityError, FilmError, ReleaseError, StoreError
from clarity_cxr.journals import Journals
from clarity_cxr.shards import WHOLE
from tests.data.conftest import REAL_RELEASE, SmallRelease

SIZE = 24

SLOW_RUN = """
import sys, time
from pathlib import Path
from clarity_cxr.data import prepare as preparation
from clarity_cxr.journals import Journal
append = Journal.append
preparation.CHUNK_FILMS = 4
Journal.append = lambda *args: (time.sleep(0.1), append(*args))
preparation.prepare(Path(sys.argv[1]), Path(sys.argv[2]), size=24, processes=int(sys.argv[3]))
"""


def _contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


@pytest.fixture
def root(small_release: SmallRelease) -> Path:
    return small_release.write()


@pytest.fixture
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(preparation, "CHUNK_FILMS", 4)


@pytest.fixture
def written_chunks(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Numbers of the chunks that are decoded from here on, in this process."""
    numbers: list[int] = []

    def write_chunk(chunk: workers.StoreChunk) -> workers.ChunkResult:
        numbers.append(chunk.number)
        return workers.write_chunk(chunk)

    monkeypatch.setattr(preparation, "write_chunk", write_chunk)
    return numbers


def test_every_film_is_decoded_and_resized_into_its_row(root: Path, tmp_path: Path) -> None:
    store = prepare(root, tmp_path / "store", size=SIZE, processes=1)

    for row, image_id in enumerate(store.index["image_id"]):
        film = read_film(next(root.glob(f"images*/**/{image_id}")))
        np.testing.assert_array_equal(store.films[row], resize_film(film, SIZE))
    assert not (tmp_path / "store.partial").exists()
    assert set(_contents(store.path)) == {"manifest.json", "films.npy", "index.parquet", "boxes.parquet"}


def test_two_processes_write_the_same_bytes_as_one(root: Path, tmp_path: Path, small_chunks: None) -> None:
    one = prepare(root, tmp_path / "one", size=SIZE, processes=1)
    two = prepare(root, tmp_path / "two", size=SIZE, processes=2)

    assert _contents(one.path) == _contents(two.path)
    assert one.fingerprint == two.fingerprint


def test_films_of_every_kind_and_shape(small_release: SmallRelease, tmp_path: Path) -> None:
    root = small_release.write()
    deep, colour, wide = small_release.ids[:3]
    Image.fromarray(np.full((9, 9), 65535, np.uint16)).save(small_release.film_path(deep))
    Image.new("RGBA", (9, 9), (9, 9, 9, 0)).save(small_release.film_path(colour))
    Image.new("L", (90, 30), 77).save(small_release.film_path(wide))

    store = prepare(root, tmp_path / "store", size=SIZE, processes=1)

    assert [(film.min(), film.max()) for film in store.films[:3]] == [(255, 255), (9, 9), (77, 77)]
    assert store.index[["width", "height"]].to_numpy()[:3].tolist() == [[9, 9], [9, 9], [90, 30]]


def test_priors_are_packed_and_absent_ones_are_empty(small_release: SmallRelease, tmp_path: Path) -> None:
    root = small_release.write()
    (root / "priors").mkdir()
    bits = np.random.default_rng(0).integers(0, 16, (128, 128), dtype=np.uint8)
    Image.fromarray(bits).save(root / "priors" / small_release.ids[1])

    store = prepare(root, tmp_path / "store", size=SIZE, processes=1)

    assert store.priors is not None
    assert store.priors.shape == (len(store), 4, 128, 16)
    assert not store.priors[0].any()
    masks = np.unpackbits(store.priors[1], axis=-1, bitorder="big")
    np.testing.assert_array_equal(sum(masks[bit].astype(int) << bit for bit in range(4)), bits)
    assert (store.manifest["priors"]["provider"], store.manifest["priors"]["films"]) == ("release", 1)


@pytest.mark.parametrize("processes", [1, 2])
def test_killed_and_run_again_it_continues_to_the_same_bytes(
    root: Path, tmp_path: Path, small_chunks: None, written_chunks: list[int], processes: int
) -> None:
    expected = _contents(prepare(root, tmp_path / "undisturbed", size=SIZE, processes=1).path)
    out, journal = tmp_path / "store", tmp_path / "store.partial/journal.1-of-1"
    chunks = len(written_chunks)
    written_chunks.clear()
    command = [sys.executable, "-c", SLOW_RUN, str(root), str(out), str(processes)]
    with subprocess.Popen(command, stderr=subprocess.DEVNULL) as process:
        while process.poll() is None and not (journal.exists() and journal.read_bytes().count(b"\n") >= 4):
            time.sleep(0.01)
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
        workers_left = children.read_text().split() if children.exists() else []
        process.send_signal(signal.SIGKILL)
    finished = journal.read_bytes().count(b"\n") - 1
    assert 3 <= finished < chunks
    assert not out.exists()

    prepare(root, out, size=SIZE, processes=1)

    assert len(written_chunks) == chunks - finished
    assert _contents(out) == expected
    deadline = time.monotonic() + 20
    while any(map(_is_running, workers_left)) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not any(map(_is_running, workers_left))


def _is_running(process: str) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_a_journal_line_cut_off_by_the_kill_is_done_again(
    root: Path, tmp_path: Path, small_chunks: None, written_chunks: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = _contents(prepare(root, tmp_path / "undisturbed", size=SIZE, processes=1).path)
    out, partial = tmp_path / "store", tmp_path / "store.partial"
    with monkeypatch.context() as patch:
        patch.setattr(preparation, "_write_tables", _interrupt)
        with pytest.raises(KeyboardInterrupt):
            prepare(root, out, size=SIZE, processes=1)
    journal = partial / "journal.1-of-1"
    journal.write_bytes(journal.read_bytes()[:-5])
    (partial / ".index.parquet.x.tmp.parquet").touch()
    written_chunks.clear()

    prepare(root, out, size=SIZE, processes=1)

    assert len(written_chunks) == 1
    assert _contents(out) == expected


def _interrupt(*_: object) -> None:
    raise KeyboardInterrupt


def test_an_unfinished_store_of_another_size_is_left_alone(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(preparation, "_write_tables", _interrupt)
        with pytest.raises(KeyboardInterrupt):
            prepare(root, tmp_path / "store", size=SIZE, processes=1)
    before = _contents(tmp_path / "store.partial")

    with pytest.raises(StoreError, match=r"store.partial: an unfinished store of other films, tables or size"):
        prepare(root, tmp_path / "store", size=SIZE * 2, processes=1)

    assert _contents(tmp_path / "store.partial") == before


def test_two_runs_into_one_store_at_once(root: Path, tmp_path: Path) -> None:
    (tmp_path / "store.partial").mkdir()
    held = Journals(tmp_path / "store.partial", "journal", {}).claim(WHOLE)
    with held, pytest.raises(StoreError, match="another process is at work on this"):
        prepare(root, tmp_path / "store", size=SIZE, processes=1)
    assert len(prepare(root, tmp_path / "store", size=SIZE, processes=1)) > 0


def test_a_finished_store_is_returned_or_refused_but_never_overwritten(
    small_release: SmallRelease, tmp_path: Path, written_chunks: list[int]
) -> None:
    root, out = small_release.write(), tmp_path / "store"
    out.mkdir()  # an empty folder is no obstacle
    first = prepare(root, out, size=SIZE, processes=1)
    before = _contents(out)
    written_chunks.clear()

    assert prepare(root, out, size=SIZE, processes=1).fingerprint == first.fingerprint
    assert written_chunks == []
    with pytest.raises(StoreError, match="holds a store of other films, tables or size"):
        prepare(root, out, size=SIZE + 1, processes=1)
    small_release.rows[0] = small_release.rows[0].replace("Effusion", "Mass")
    small_release.write_tables()
    with pytest.raises(StoreError, match="holds a store of other films, tables or size"):
        prepare(root, out, size=SIZE, processes=1)
    assert _contents(out) == before


@pytest.mark.parametrize("name", ["store", "store.partial"])
def test_a_folder_of_something_else_is_not_touched(root: Path, tmp_path: Path, name: str) -> None:
    (tmp_path / name).mkdir()
    (tmp_path / name / "thesis.txt").write_text("mine")

    with pytest.raises(StoreError, match=f"{name}: (not a prepared store|in the way)"):
        prepare(root, tmp_path / "store", size=SIZE, processes=1)

    assert _contents(tmp_path / name) == {"thesis.txt": b"mine"}


def test_rows_without_a_film_are_refused_or_left_out(small_release: SmallRelease, tmp_path: Path) -> None:
    root = small_release.write()
    boxed = small_release.boxes[0].split(",")[0]
    for image_id in (small_release.ids[3], boxed):
        small_release.film_path(image_id).unlink()

    with pytest.raises(ReleaseError, match=rf"2 of \d+ rows have no film: {small_release.ids[3]}, {boxed};"):
        prepare(root, tmp_path / "store", size=SIZE, processes=1)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["release"]

    store = prepare(root, tmp_path / "store", size=SIZE, processes=1, skip_missing=True)
    assert len(store) == len(small_release.rows) - 2
    assert boxed not in set(store.boxes["image_id"])
    assert store.index["image_id"].to_numpy()[store.boxes["row"]].tolist() == store.boxes["image_id"].tolist()


def test_films_without_a_row_are_refused_or_left_out(small_release: SmallRelease, tmp_path: Path) -> None:
    orphan = small_release.rows.pop(0).split(",")[0]
    root = small_release.write()

    with pytest.raises(ReleaseError, match=rf"1 films have no row in the CSV: images_001/images/{orphan}"):
        prepare(root, tmp_path / "store", size=SIZE, processes=1)
    assert len(prepare(root, tmp_path / "store", size=SIZE, processes=1, skip_missing=True)) == len(small_release.rows)


def test_a_release_without_any_film(small_release: SmallRelease, tmp_path: Path) -> None:
    small_release.films.clear()

    with pytest.raises(ReleaseError, match="none of the CSV's films"):
        prepare(small_release.write(), tmp_path / "store", size=SIZE, skip_missing=True)


def test_unreadable_films_are_all_named_and_mending_them_continues(
    small_release: SmallRelease, tmp_path: Path, small_chunks: None, written_chunks: list[int]
) -> None:
    root = small_release.write()
    expected = _contents(prepare(root, tmp_path / "undisturbed", size=SIZE, processes=1).path)
    broken = [small_release.film_path(image_id) for image_id in (small_release.ids[2], small_release.ids[21])]
    kept = [path.read_bytes() for path in broken]
    broken[0].write_bytes(b"")
    broken[1].write_bytes(kept[1][: len(kept[1]) // 2])

    message = rf"2 films are unreadable: (?s:.*){broken[0].name}: the file is empty"
    with pytest.raises(FilmError, match=message) as caught:
        prepare(root, tmp_path / "store", size=SIZE, processes=1)
    assert broken[1].name in str(caught.value)
    assert not (tmp_path / "store").exists()

    for path, content in zip(broken, kept, strict=True):
        path.write_bytes(content)
    written_chunks.clear()
    prepare(root, tmp_path / "store", size=SIZE, processes=1)
    assert len(written_chunks) == 2
    assert _contents(tmp_path / "store") == expected


def test_a_release_of_nothing_but_broken_films_stops_early_and_leaves_nothing(
    small_release: SmallRelease, tmp_path: Path, small_chunks: None, written_chunks: list[int]
) -> None:
    root = small_release.write()
    for image_id in small_release.ids:
        small_release.film_path(image_id).write_bytes(b"x")

    with pytest.raises(FilmError, match="20 films are unreadable"):
        prepare(root, tmp_path / "store", size=SIZE, processes=1)

    assert len(written_chunks) == 5
    assert sorted(path.name for path in tmp_path.iterdir()) == ["release"]


def _no_space(*_: object) -> int:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_a_disk_too_small_is_known_before_any_work(
    root: Path, tmp_path: Path, written_chunks: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "posix_fallocate", _no_space)

    with pytest.raises(ClarityError, match="the disk is full"):
        prepare(root, tmp_path / "store", size=SIZE, processes=1)

    assert written_chunks == []
    assert sorted(path.name for path in tmp_path.iterdir()) == ["release"]


def test_a_disk_that_fills_up_on_the_way(
    root: Path, tmp_path: Path, small_chunks: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = _contents(prepare(root, tmp_path / "undisturbed", size=SIZE, processes=1).path)
    pwrite, calls = os.pwrite, []
    with monkeypatch.context() as patch:
        patch.setattr(os, "pwrite", lambda *args: calls.append(0) or (pwrite if len(calls) < 5 else _no_space)(*args))
        with pytest.raises(ClarityError, match=r"films.npy: cannot be written: the disk is full"):
            prepare(root, tmp_path / "store", size=SIZE, processes=1)
    assert not (tmp_path / "store").exists()

    assert _contents(prepare(root, tmp_path / "store", size=SIZE, processes=1).path) == expected


def test_an_output_below_a_file(root: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()

    with pytest.raises(ClarityError, match="a part of the path is a file"):
        prepare(root, tmp_path / "file/store", size=SIZE, processes=1)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_an_unwritable_output(root: Path, tmp_path: Path) -> None:
    (tmp_path / "locked").mkdir(mode=0o555)

    with pytest.raises(ClarityError, match="permission denied"):
        prepare(root, tmp_path / "locked/store", size=SIZE, processes=1)


@pytest.mark.parametrize("options", [{"size": 0}, {"processes": 0}])
def test_options_below_one(root: Path, tmp_path: Path, options: dict[str, int]) -> None:
    with pytest.raises(StoreError, match="must be at least 1"):
        prepare(root, tmp_path / "store", **options)


def test_a_worker_killed_from_outside(tmp_path: Path) -> None:
    with pytest.raises(ClarityError, match="fewer --processes"):
        list(workers.map_unordered(os._exit, [1, 1], processes=2))


def test_workers_are_fed_a_bounded_number_of_tasks(tmp_path: Path) -> None:
    taken, ahead = 0, []

    def tasks():
        nonlocal taken
        for task in range(40):
            taken += 1
            yield task

    for done, (task, result) in enumerate(workers.map_unordered(abs, tasks(), processes=2)):
        assert result == task
        ahead.append(taken - done)
    assert len(ahead) == 40
    assert max(ahead) <= 4


def test_the_command_prints_what_the_store_holds(
    root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    prepare_command(root, out=tmp_path / "store", size=SIZE, processes=1)

    printed = capsys.readouterr().out
    assert "60 films at 24 px" in printed
    assert "without priors" in printed


@pytest.mark.skipif(not REAL_RELEASE.is_dir(), reason="the NIH subset is not beside the project")
def test_sixty_real_films(tmp_path: Path, make_release: Callable[[Path], SmallRelease]) -> None:
    lines = (REAL_RELEASE / "Data_Entry_2017_v2020.csv").read_text().splitlines()
    small = make_release(tmp_path / "release")
    boxed = {line.split(",")[0] for line in (REAL_RELEASE / "BBox_List_2017.csv").read_text().splitlines()[1:]}
    small.rows = [line for line in lines[1:] if line.split(",")[0] in boxed][:20] + lines[1:41]
    small.films.clear()
    root = small.write()
    for name in ("BBox_List_2017.csv", "train_val_list.txt", "test_list.txt"):
        (root / name).write_bytes((REAL_RELEASE / name).read_bytes())
    for image_id in small.ids:
        source = (REAL_RELEASE / "images" / image_id).with_suffix(".jpg").resolve()
        (root / small.folders[0] / source.name).symlink_to(source)

    store = prepare(root, tmp_path / "store", processes=2)

    assert store.films.shape == (60, 224, 224)
    assert store.index[["width", "height"]].eq(512).all(axis=None)
    assert store.films.std(axis=(1, 2)).min() > 20  # real films have contrast
    assert len(store.localization_rows("val")) == len(store.localization_rows("test")) == 10
    film = read_film(root / small.folders[0] / small.ids[7].replace("png", "jpg"))
    np.testing.assert_array_equal(store.films[7], resize_film(film, 224))
