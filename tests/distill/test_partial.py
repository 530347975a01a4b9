import fcntl
from pathlib import Path

import numpy as np
import pytest

from clarity_cxr.distill.partial import append, locked_partial, resume

LOGITS = np.arange(10 * 14).reshape(10, 14).astype(np.float16)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "epoch_0000.partial"
    with locked_partial(path) as handle:
        assert handle is not None
        for first in (0, 4, 8):
            append(handle, first, LOGITS[first : first + 4])
    return path


def resumed(path: Path) -> tuple[int, np.ndarray]:
    logits = np.full((10, 14), -1, np.float16)
    with locked_partial(path) as handle:
        assert handle is not None
        return resume(handle, logits), logits


def test_batches_come_back(path: Path) -> None:
    rows, logits = resumed(path)
    assert rows == 10
    assert np.array_equal(logits, LOGITS)


def test_every_possible_tear_leaves_whole_batches(path: Path) -> None:
    content = path.read_bytes()
    ends = [0, 12 + 112, 2 * (12 + 112), len(content)]
    for length in range(0, len(content), 7):
        path.write_bytes(content[:length])
        rows, _ = resumed(path)
        whole = sum(end <= length for end in ends[1:])
        assert rows == 4 * whole
        assert path.stat().st_size == ends[whole]


def test_bytes_that_never_reached_the_disk_are_not_taken(path: Path) -> None:
    """A machine that lost power may leave the length right and zeros in place of the last batches."""
    content = bytearray(path.read_bytes())
    content[12 + 112 :] = bytes(len(content) - 12 - 112)
    path.write_bytes(content)
    rows, logits = resumed(path)
    assert rows == 4
    assert np.array_equal(logits[:4], LOGITS[:4])


def test_one_process_at_a_time(path: Path) -> None:
    with path.open("rb") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        with locked_partial(path) as handle:
            assert handle is None
    assert resumed(path)[0] == 10


def test_a_file_removed_by_its_last_owner_is_not_taken(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def finish(*arguments: object) -> None:
        path.unlink(missing_ok=True)

    monkeypatch.setattr(fcntl, "flock", finish)
    with locked_partial(path) as handle:
        assert handle is None
