"""A store prepared by the shards of a job array has the bytes of one that one process made."""

import multiprocessing
import os
import signal
import time
from pathlib import Path

import pytest

from clarity_cxr.cli.prepare import prepare as prepare_command
from clarity_cxr.data import prepare as preparation
from clarity_cxr.data.prepare import prepare, prepare_shard
from clarity_cxr.errors import FilmError, StoreError
from clarity_cxr.journals import Journal
from clarity_cxr.shards import Shard
from tests.data.conftest import SmallRelease

SIZE = 24


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(preparation, "CHUNK_FILMS", 4)


@pytest.fixture
def root(small_release: SmallRelease) -> Path:
    return small_release.write()


@pytest.fixture
def expected(root: Path, tmp_path: Path) -> dict[str, bytes]:
    return contents(prepare(root, tmp_path / "undisturbed", size=SIZE, processes=1).path)


def shard_of(root: Path, out: Path, number: int, count: int, slow: bool = False) -> object:
    if slow:  # in a process of its own
        append = Journal.append
        Journal.append = lambda *args: (time.sleep(0.05), append(*args))[1]
    return prepare_shard(root, out, Shard(number, count), SIZE, processes=1)


def test_in_any_order_the_last_finishes(root: Path, tmp_path: Path, expected: dict[str, bytes]) -> None:
    out = tmp_path / "store"
    assert shard_of(root, out, 3, 4) is None
    assert shard_of(root, out, 1, 4) is None
    assert shard_of(root, out, 4, 4) is None
    assert shard_of(root, out, 4, 4) is None, "again, with nothing left for it"
    assert not out.exists()
    assert shard_of(root, out, 2, 4) is not None
    assert contents(out) == expected
    assert shard_of(root, out, 3, 4) is not None, "it is finished"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["release", "store", "undisturbed"]


def test_more_shards_than_chunks(root: Path, tmp_path: Path, expected: dict[str, bytes]) -> None:
    stores = [shard_of(root, tmp_path / "store", number, 20) for number in range(1, 21)]
    assert stores[-1] is not None
    assert contents(tmp_path / "store") == expected


def test_killed_at_once_and_continued_by_other_shards(root: Path, tmp_path: Path, expected: dict[str, bytes]) -> None:
    """Three at the same time, one killed at work; two others, of another count, end it."""
    out = tmp_path / "store"
    start = multiprocessing.get_context("fork").Process
    processes = [start(target=shard_of, args=(root, out, number, 3, True)) for number in (1, 2, 3)]
    for process in processes:
        process.start()
    journal = out.with_name("store.partial") / "journal.2-of-3"
    while not (journal.exists() and journal.read_bytes().count(b"\n") >= 2):
        assert processes[1].is_alive()
        time.sleep(0.01)
    os.kill(processes[1].pid or 0, signal.SIGKILL)
    for process in processes:
        process.join(60)
    assert [process.exitcode for process in processes] == [0, -signal.SIGKILL, 0]
    assert not out.exists()
    assert shard_of(root, out, 1, 2) is None or out.exists()
    assert shard_of(root, out, 2, 2) is not None
    assert contents(out) == expected


def test_two_at_the_same_time_end_with_one_store(root: Path, tmp_path: Path, expected: dict[str, bytes]) -> None:
    out = tmp_path / "store"
    start = multiprocessing.get_context("fork").Process
    processes = [start(target=shard_of, args=(root, out, number, 2)) for number in (1, 2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
        assert process.exitcode == 0
    assert contents(out) == expected


def test_a_shard_with_an_unreadable_film_is_done_again(small_release: SmallRelease, tmp_path: Path) -> None:
    root, out = small_release.write(), tmp_path / "store"
    expected = contents(prepare(root, tmp_path / "undisturbed", size=SIZE, processes=1).path)
    path = small_release.film_path(small_release.ids[0])
    kept = path.read_bytes()
    path.write_bytes(b"")
    with pytest.raises(FilmError, match="1 films are unreadable"):
        shard_of(root, out, 1, 2)
    assert shard_of(root, out, 2, 2) is None
    path.write_bytes(kept)
    assert shard_of(root, out, 1, 2) is not None
    assert contents(out) == expected


def test_one_process_for_all_does_not_finish_under_a_shard_at_work(root: Path, tmp_path: Path) -> None:
    out = tmp_path / "store"
    shard_of(root, out, 1, 2)
    journals = preparation.Journals(out.with_name("store.partial"), "journal", {})
    with journals.claim(Shard(2, 2)), pytest.raises(StoreError, match="other processes are preparing shards of it"):
        prepare(root, out, size=SIZE, processes=1)
    assert len(prepare(root, out, size=SIZE, processes=1)) == 60


def test_the_command_says_that_others_are_not_done(
    root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for shard, said in (("2/2", "shard 2/2 is done, others are not yet"), ("1/2", "60 films at 24 px")):
        assert prepare_command(root, out=tmp_path / "store", size=SIZE, processes=1, shard=shard, film_check=False) == 0
        assert said in capsys.readouterr().out
