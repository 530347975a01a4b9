"""Journals of shards: what is noted survives a kill, and one process at a time has a shard or the door."""

import multiprocessing
from collections.abc import Callable
from pathlib import Path

import pytest

from clarity_cxr.errors import StoreError
from clarity_cxr.journals import Journals, exclusive
from clarity_cxr.shards import WHOLE, Shard


@pytest.fixture
def journals(tmp_path: Path) -> Journals:
    return Journals(tmp_path, "work", {"of": "this"})


def test_what_all_shards_noted_is_read_together_and_a_torn_line_is_not(journals: Journals) -> None:
    for number, count in ((1, 2), (2, 2), (3, 3)):
        with journals.claim(Shard(number, count)) as journal:
            journal.begin()
            journal.append({"chunk": number})
    torn = journals.paths()[1]
    torn.write_bytes(torn.read_bytes()[:-3])
    assert journals.headers() == [{"of": "this"}] * 3
    assert sorted(line["chunk"] for line in journals.lines()) == [1, 3]
    with journals.claim(Shard(2, 2)) as journal:
        journal.begin()
        journal.append({"chunk": 2})
    assert sorted(line["chunk"] for line in journals.lines()) == [1, 2, 3]
    journals.remove()
    assert journals.paths() == []


def test_a_shard_belongs_to_one_process(journals: Journals) -> None:
    assert not journals.in_use()
    with journals.claim(Shard(1, 2)), journals.claim(Shard(2, 2)):
        assert journals.in_use()
        with pytest.raises(StoreError, match="another process is at work"):
            journals.claim(Shard(1, 2))
    assert not journals.in_use()
    journals.claim(WHOLE).__exit__()


def count_up(folder: Path) -> None:
    number = folder / "number"
    for _ in range(50):
        with exclusive(folder / "door.lock"):
            number.write_text(str(int(number.read_text()) + 1))


def test_one_at_a_time_behind_the_door(tmp_path: Path) -> None:
    """Each reads and writes a number, so that any two at once would lose a count."""
    (tmp_path / "number").write_text("0")
    start: Callable[..., multiprocessing.process.BaseProcess] = multiprocessing.get_context("fork").Process
    processes = [start(target=count_up, args=(tmp_path,)) for _ in range(3)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
        assert process.exitcode == 0
    assert (tmp_path / "number").read_text() == "150"
    assert not (tmp_path / "door.lock").exists()
