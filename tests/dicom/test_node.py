"""The node: films in, results out, whatever fails in between."""

import logging
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from pydicom.uid import JPEGLSLossless, RLELossless

from clarity_cxr.dicom.node import Node, NodeModel
from clarity_cxr.dicom.peer import Peer
from clarity_cxr.dicom.spool import Spool
from clarity_cxr.errors import ClarityError
from tests.dicom.films import make_film, predict_with, smooth
from tests.dicom.network import RESULT_CLASSES, Archive, send

DIGEST = "ab" * 32
ROOT = Path(__file__).parents[2]
PATIENCE = 300.0


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.02)


def film(seed: int = 0, **attributes):
    return make_film(smooth(40, 32, 0, 255, seed, dtype=np.uint8), **attributes)


@contextmanager
def running(spool: Path, peer_port: int | None, capacity: int = 8, strict: bool = False) -> Iterator[Node]:
    model = NodeModel(predict_with("Mass", "Effusion"), lambda read: read.warnings, DIGEST, strict)
    peer = None if peer_port is None else Peer("ARCHIVE", "127.0.0.1", peer_port)
    held = Spool(spool, capacity, "test", sends=peer is not None)
    node = Node(model, held, "NODE", peer)
    node.listen("127.0.0.1", 0)
    worker = threading.Thread(target=node.run)
    worker.start()
    try:
        yield node
    finally:
        node.stop()
        worker.join(PATIENCE)
        held.close()
        assert not worker.is_alive()


def test_results_of_a_film_reach_the_archive_once_and_leave_the_spool(tmp_path):
    archive = Archive()
    with archive.listening() as port:
        sent = film()
        with running(tmp_path, port) as node:
            assert send(sent, node.port) == 0
            wait_for(lambda: len(node.spool) == 0)
            assert send(sent, node.port) == 0, "a film that comes again is taken, but not predicted again"
        assert set(archive.times.values()) == {1}
    classes = sorted(str(result.SOPClassUID) for result in archive.stored.values())
    assert classes == sorted(["1.2.840.10008.5.1.4.1.1.66.4", *map(str, RESULT_CLASSES)])
    for result in archive.stored.values():
        assert result.StudyInstanceUID == sent.StudyInstanceUID
    left = [path for path in tmp_path.rglob("*") if path.is_file() and path.name != "lock"]
    assert [path.parent.name for path in left] == ["done"]


def test_bad_film_is_set_aside_without_a_word_about_the_patient(tmp_path, caplog):
    caplog.set_level(logging.DEBUG, logger="clarity_cxr.node")
    archive = Archive()
    with archive.listening() as port, running(tmp_path, port) as node:
        assert send(film(PhotometricInterpretation="RGB", SamplesPerPixel=3), node.port) == 0
        assert send(film(1), node.port) == 0
        wait_for(lambda: len(archive.stored) == 4)
        wait_for(lambda: len(node.spool) == 0)
    (reason,) = (tmp_path / "failed").glob("*.txt")
    assert "Photometric Interpretation is RGB" in reason.read_text()
    assert reason.with_suffix(".dcm").is_file()
    said = caplog.text
    assert f"failed/{reason.name}" in said
    for secret in ("Doe", "Jane", "4711", "19500101", str(film().StudyInstanceUID)[:20]):
        assert secret not in said


def test_doubtful_film_is_set_aside_only_if_strict(tmp_path):
    for strict in (False, True):
        folder = tmp_path / str(strict)
        with running(folder, None, strict=strict) as node:
            assert send(film(ViewPosition="LL"), node.port) == 0
            wait_for(lambda: len(node.spool) == 0)
        assert any((folder / "failed").iterdir()) is strict
        assert any((folder / "results").iterdir()) is not strict, "without a peer results stay in the spool"


def test_dead_peer_costs_nothing_and_gets_everything_later(tmp_path):
    archive = Archive()
    with archive.listening() as port:
        pass
    with running(tmp_path, port, capacity=2) as node:
        assert send(film(1), node.port) == 0
        assert send(film(2), node.port) == 0
        assert send(film(3), node.port) == 0xA700, "the spool is full"
        wait_for(lambda: len(list((tmp_path / "results").iterdir())) == 2)
    with archive.listening(port), running(tmp_path, port) as node:
        wait_for(lambda: len(node.spool) == 0)
    assert len(archive.times) == 8
    assert set(archive.times.values()) == {1}


def test_busy_peer_is_asked_again_and_one_that_takes_no_segmentations_is_not(tmp_path):
    archive = Archive(classes=tuple(name for name in RESULT_CLASSES if "66.4" not in name), finds=False)
    archive.on_store = lambda count: 0xA700 if count == 1 else 0x0000
    with archive.listening() as port, running(tmp_path, port) as node:
        assert send(film(), node.port) == 0
        wait_for(lambda: len(node.spool) == 0)
    assert sorted(archive.times.values()) == [1, 2], "the one that was refused for want of room came again"
    assert sorted(path.suffixes[0] for path in (tmp_path / "failed").iterdir()) == [".heat", ".seg"]


def test_stopping_finishes_what_is_held(tmp_path):
    archive = Archive()
    with archive.listening() as port:
        with running(tmp_path, port) as node:
            own_port = node.port
            for seed, syntax in enumerate((None, RLELossless, JPEGLSLossless)):
                sent = film(seed)
                if syntax:
                    sent.compress(syntax, generate_instance_uid=False)
                assert send(sent, own_port) == 0
        assert len(archive.times) == 12
        assert send(film(9), own_port) is None


def start_process(spool: Path, peer_port: int) -> tuple[subprocess.Popen[str], int]:
    command = [sys.executable, "-m", "tests.dicom.node_process", str(spool), str(peer_port)]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    return process, int(process.stdout.readline())


@pytest.mark.parametrize("finds", [True, False], ids=["peer that can be asked", "peer that cannot"])
def test_kill_loses_nothing_and_sends_nothing_twice(tmp_path, finds):
    archive = Archive(finds=finds)
    with archive.listening() as peer_port:
        process, port = start_process(tmp_path, peer_port)

        def kill_before_the_answer(count: int) -> int:
            if count == 3:
                os.kill(process.pid, signal.SIGKILL)
                process.wait()
            return 0x0000

        archive.on_store = kill_before_the_answer
        statuses = [send(film(seed), port) for seed in range(4)]
        accepted = statuses.count(0)
        assert accepted >= 1
        process.wait(PATIENCE)
        process, port = start_process(tmp_path, peer_port)
        wait_for(lambda: len(archive.times) == 4 * accepted)
        process.send_signal(signal.SIGTERM)
        assert process.wait(PATIENCE) == 0
    repeated = [uid for uid, times in archive.times.items() if times > 1]
    assert len(archive.times) == 4 * accepted
    assert len(repeated) == (0 if finds else 1), "only an archive that cannot be asked is sent the one in doubt again"
    assert not list((tmp_path / "received").iterdir())
    assert not list((tmp_path / "results").iterdir())


def test_one_spool_serves_one_node(tmp_path):
    first = Spool(tmp_path, 1, "test", sends=True)
    with pytest.raises(ClarityError, match="another node uses this spool"):
        Spool(tmp_path, 1, "test", sends=True)
    first.close()
    Spool(tmp_path, 1, "test", sends=True).close()
    with pytest.raises(ClarityError, match="capacity 0"):
        Spool(tmp_path, 0, "test", sends=True)


def test_film_whose_results_are_there_is_not_predicted_again(tmp_path):
    spool = Spool(tmp_path, 4, "test", sends=True)
    key = spool.receive("1.2.3", b"film")
    (film_path,) = spool.films()
    copy = film_path.read_bytes()
    spool.predicted(film_path, lambda stem: stem.with_suffix(".sr.dcm").write_bytes(b"report"))
    film_path.write_bytes(copy)
    spool.close()
    again = Spool(tmp_path, 4, "test", sends=True)
    assert again.films() == []
    assert [folder.name for folder in again.outgoing()] == [key]
    assert again.receive("1.2.3", b"film") == key
    assert again.films() == []
    assert len(again) == 1
    again.close()


@pytest.mark.parametrize("address", ["ARCHIVE", "ARCHIVE@host", "@host:1", "ARCHIVE@host:0", "ARCHIVE@host:70000"])
def test_address_of_a_peer_is_checked(address):
    with pytest.raises(ClarityError, match="TITLE@HOST:PORT"):
        Peer.parse(address)
    assert Peer.parse("MY PACS@10.0.0.1:104") == Peer("MY PACS", "10.0.0.1", 104)


def test_port_in_use_is_one_clear_error(tmp_path):
    with running(tmp_path / "a", None) as node:
        other = Spool(tmp_path / "b", 1, "test", sends=False)
        second = Node(node.model, other, "NODE", None)
        with pytest.raises(ClarityError, match=f"{node.port}: cannot be listened on"):
            second.listen("127.0.0.1", node.port)
        other.close()
