import errno
import multiprocessing
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from clarity_cxr.cli.distill import dump as dump_command
from clarity_cxr.data.augmentation import AugmentationConfig, augment
from clarity_cxr.data.store import FilmStore
from clarity_cxr.distill import dump as dump_module
from clarity_cxr.distill.dump import dump
from clarity_cxr.distill.partial import append, locked_partial
from clarity_cxr.distill.source import LogitSource
from clarity_cxr.distill.store import LogitStore
from clarity_cxr.distill.verify import steps_apart
from clarity_cxr.errors import ClarityError, ConfigError, LogitsError
from clarity_cxr.models.teacher import load_teacher
from tests.distill.conftest import BATCH, EPOCHS

ORIGIN = {"teacher": "t", "store": "s"}


def fill(source: LogitSource, out: Path, only: range | None = None, batch_size: int = BATCH) -> LogitStore:
    return dump(source, out, EPOCHS, only=only, batch_size=batch_size, origin=ORIGIN)


def files(store: LogitStore) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in store.path.glob("epoch_*.npy")}


def names(store: LogitStore) -> list[str]:
    return sorted(path.name for path in store.path.iterdir())


def test_rows_are_the_teacher_on_the_students_pixels(
    undisturbed: LogitStore, teacher_file: Path, phantom_store: FilmStore
) -> None:
    """Film by film, with the library's augmentation and the teacher alone."""
    teacher = load_teacher(teacher_file)
    for epoch, position in ((0, 0), (2, 5)):
        row = phantom_store.rows("train")[position]
        film, key = torch.from_numpy(phantom_store.films[[row]]), torch.from_numpy(phantom_store.keys[[row]])
        pixels, _ = augment(film, key, epoch, 7, AugmentationConfig())
        with torch.inference_mode():
            expected = teacher(teacher.preprocess(pixels)).half().numpy()[0]
        assert steps_apart(undisturbed.epoch(epoch)[position], expected).max() <= 1
    assert undisturbed.epoch(0).astype(np.float32).std() > 0.1
    assert not np.array_equal(undisturbed.epoch(0), undisturbed.epoch(1))


def test_any_order_and_parts_give_the_same_bytes(source: LogitSource, undisturbed: LogitStore, tmp_path: Path) -> None:
    store = fill(source, tmp_path / "logits", only=range(2, 3))
    assert store.missing() == [0, 1]
    fill(source, tmp_path / "logits", only=range(1))
    fill(source, tmp_path / "logits")
    assert files(store) == files(undisturbed)
    assert store.digest() == undisturbed.digest()


def test_another_batch_size_is_within_one_step(source: LogitSource, undisturbed: LogitStore, tmp_path: Path) -> None:
    store = fill(source, tmp_path / "logits", only=range(1), batch_size=7)
    assert steps_apart(store.epoch(0)[:], undisturbed.epoch(0)[:]).max() <= 1


def test_a_finished_store_is_left_as_it_is(source: LogitSource, logits: LogitStore) -> None:
    before = {path.name: path.stat().st_mtime_ns for path in logits.path.glob("epoch_*")}
    fill(source, logits.path)
    assert before == {path.name: path.stat().st_mtime_ns for path in logits.path.glob("epoch_*")}


def test_more_epochs_can_be_planned_later(source: LogitSource, logits: LogitStore) -> None:
    store = dump(source, logits.path, EPOCHS + 1, batch_size=BATCH, origin=ORIGIN)
    assert store.manifest.epochs == EPOCHS + 1
    assert store.missing() == []


def start(function: Callable[..., object], *arguments: object) -> multiprocessing.process.BaseProcess:
    """A child that has everything imported already, so that it can be killed at work and not at start."""
    process = multiprocessing.get_context("fork").Process(target=function, args=arguments)
    process.start()
    return process


def hold(path: Path) -> None:
    with locked_partial(path):
        time.sleep(600)


def is_held(path: Path) -> bool:
    with locked_partial(path) as handle:
        return handle is None


def wait_for(process: multiprocessing.process.BaseProcess, condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 120
    while not condition():
        assert process.is_alive(), "it ended too early"
        assert time.monotonic() < deadline
        time.sleep(0.001)


def kill_when(process: multiprocessing.process.BaseProcess, condition: Callable[[], bool]) -> None:
    wait_for(process, condition)
    process.kill()
    process.join()


def test_killed_dumps_end_as_an_undisturbed_one(source: LogitSource, undisturbed: LogitStore, tmp_path: Path) -> None:
    """Killed inside the first epoch, then at once after its record, then inside the last."""
    out = tmp_path / "logits"
    sight = LogitStore(undisturbed.path)
    sight.path = out

    def within(epoch: int) -> bool:
        path = sight.partial_path(epoch)
        return path.exists() and path.stat().st_size > 0

    for condition in (lambda: within(0), lambda: sight.record_path(0).exists(), lambda: within(2)):
        kill_when(start(fill, source, out), condition)
    store = fill(source, out)
    assert store.digest() == undisturbed.digest()
    assert files(store) == files(undisturbed)
    assert names(store) == names(undisturbed)


def test_what_a_kill_while_finishing_leaves_is_cleared(
    source: LogitSource, undisturbed: LogitStore, logits: LogitStore
) -> None:
    """The array is there, its record is not, and half a record lies beside it."""
    logits.partial_path(1).touch()
    logits.record_path(1).unlink()
    (logits.path / ".epoch_0001.json.abc.tmp.json").write_text("{")
    (logits.path / ".epoch_0001.npy.abc.tmp.npy").write_bytes(b"half")
    fill(source, logits.path)
    assert names(logits) == names(undisturbed)
    assert logits.digest() == undisturbed.digest()


def test_two_dumps_at_once_share_the_work(source: LogitSource, undisturbed: LogitStore, tmp_path: Path) -> None:
    out = tmp_path / "logits"
    others = [start(fill, source, out) for _ in range(2)]
    for process in others:
        process.join(120)
        assert process.exitcode == 0
    assert LogitStore(out).digest() == undisturbed.digest()
    assert names(LogitStore(out)) == names(undisturbed)


def test_the_second_waits_for_what_the_first_has_in_hand(
    source: LogitSource, undisturbed: LogitStore, logits: LogitStore, capfd: pytest.CaptureFixture[str]
) -> None:
    """And takes it over when the first ends without finishing."""
    logits.record_path(2).unlink()
    first = start(hold, logits.partial_path(2))
    wait_for(first, lambda: is_held(logits.partial_path(2)))
    second = start(fill, source, logits.path)
    second.join(1)
    assert second.is_alive()
    assert not logits.record_path(2).exists()
    first.kill()
    second.join(60)
    assert second.exitcode == 0
    assert logits.digest() == undisturbed.digest()
    assert "waiting for epochs 2, which another process is making" in capfd.readouterr().err


def test_another_seed_into_the_same_folder_is_refused(
    teacher_file: Path, phantom_store: FilmStore, logits: LogitStore
) -> None:
    other = LogitSource(teacher_file, phantom_store.path, AugmentationConfig(), seed=8)
    with pytest.raises(LogitsError, match="holds other logits: seed is 7 in the store, 8 here"):
        fill(other, logits.path)


def test_a_full_disk_is_one_error_and_the_dump_can_go_on(
    source: LogitSource, undisturbed: LogitStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = 0

    def append_until_full(handle: object, first: int, logits: np.ndarray) -> None:
        nonlocal calls
        calls += 1
        if calls == 4:
            handle.write(b"torn")  # type: ignore[attr-defined]
            raise OSError(errno.ENOSPC, "No space left on device")
        append(handle, first, logits)  # type: ignore[arg-type]

    monkeypatch.setattr(dump_module, "append", append_until_full)
    with pytest.raises(ClarityError, match="the disk is full"):
        fill(source, tmp_path / "logits")
    monkeypatch.undo()
    assert fill(source, tmp_path / "logits").digest() == undisturbed.digest()


def test_a_logit_that_is_not_finite_names_its_film(
    source: LogitSource, phantom_store: FilmStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(source.teacher.head[1].bias, "data", torch.full((14,), 1e6))
    first = phantom_store.index["image_id"].iloc[phantom_store.rows("train")[0]]
    with pytest.raises(LogitsError, match=f"not finite in epoch 0 for {first}"):
        fill(source, tmp_path / "logits")


@pytest.mark.parametrize(("epochs", "only", "batch_size"), [(0, None, 1), (3, range(2, 4), 1), (3, None, 0)])
def test_ranges(source: LogitSource, tmp_path: Path, epochs: int, only: range | None, batch_size: int) -> None:
    with pytest.raises(ConfigError, match="expected at least one epoch"):
        dump(source, tmp_path / "logits", epochs, only=only, batch_size=batch_size, origin=ORIGIN)
    assert not (tmp_path / "logits").exists()


def test_shards_make_epochs_of_their_own(
    teacher_file: Path, phantom_store: FilmStore, undisturbed: LogitStore, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    out = tmp_path / "logits"
    options = {"teacher": teacher_file, "store": phantom_store.path, "epochs": EPOCHS, "out": out, "seed": 7}
    for shard in ("4/4", "2/4", "1/4"):
        dump_command(**options, batch_size=BATCH, shard=shard)
    assert "shard 1/4 of 3 epochs has none" in capsys.readouterr().out
    assert LogitStore(out).missing() == [1]
    dump_command(**options, batch_size=BATCH, only="1:3", shard="1/2")
    assert files(LogitStore(out)) == files(undisturbed)
