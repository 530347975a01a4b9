"""One job done by the shards of a job array in one folder: each notes its work in a journal, the last one finishes.

A journal `NAME.I-of-N` begins with a line that says what decides the result; each further line names work that is
safely on the disk. Every journal counts, whatever its N, so an interrupted job can go on with another number of shards.
A process killed at any moment leaves whole lines and at most a torn one. Locks are `flock`'s and end with a process.
"""

import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, Self

from clarity_cxr.errors import StoreError
from clarity_cxr.shards import Shard

Line = dict[str, Any]


@contextmanager
def exclusive(path: Path) -> Iterator[None]:
    """Let one process at a time in, the others wait; the lock's file is there only as long as somebody is in."""
    while True:
        with _open_lock(path) as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not _is_at(lock, path):  # its last owner has removed it between our opening and our locking
                continue
            try:
                yield
            finally:
                path.unlink(missing_ok=True)
            return


class Journals:
    """The journals of one job.

    Args:
        folder: where they lie.
        name: their names' first part.
        header: what decides the result.
    """

    def __init__(self, folder: Path, name: str, header: Line) -> None:
        self.folder = folder
        self.header = header
        self._name = name

    def paths(self) -> list[Path]:
        """All journals that there are."""
        return sorted(self.folder.glob(f"{self._name}.*-of-*"))

    def headers(self) -> list[Line]:
        """What decides the result of each job that was begun here."""
        return [json.loads(lines[0]) for lines in map(_whole_lines, self.paths()) if lines]

    def lines(self) -> Iterator[Line]:
        """All work that any shard has noted."""
        for path in self.paths():
            yield from map(json.loads, _whole_lines(path)[1:])

    def claim(self, shard: Shard) -> "Journal":
        """Open a shard's journal for this process alone.

        Raises:
            StoreError: another process has it.
        """
        handle = (self.folder / f"{self._name}.{shard}").open("a+b")
        if not _lock_at_once(handle):
            handle.close()
            raise StoreError(f"{self.folder}: another process is at work on this; wait for it to end")
        return Journal(handle, self.header)

    def in_use(self) -> bool:
        """Whether any process has a journal claimed."""
        for path in self.paths():
            with path.open("ab") as handle:
                if not _lock_at_once(handle):
                    return True
        return False

    def remove(self) -> None:
        """Remove them all."""
        for path in self.paths():
            path.unlink()


class Journal:
    """A shard's journal, from `Journals.claim`; leaving its context gives it back."""

    def __init__(self, handle: BinaryIO, header: Line) -> None:
        self._handle = handle
        self._header = header

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._handle.close()

    def begin(self) -> None:
        """Cut off a torn line, and write the header if there is none."""
        self._handle.seek(0)
        length = self._handle.read().rfind(b"\n") + 1
        self._handle.truncate(length)
        if not length:
            self.append(self._header)

    def append(self, line: Line) -> None:
        """Note work; on return the line is on the disk."""
        self._handle.write(json.dumps(line).encode() + b"\n")
        self._handle.flush()
        os.fsync(self._handle.fileno())


def _whole_lines(path: Path) -> list[bytes]:
    content = path.read_bytes()
    return content[: content.rfind(b"\n") + 1].splitlines()


def _open_lock(path: Path) -> BinaryIO:
    try:
        return path.open("ab")
    except FileNotFoundError:
        path.parent.mkdir(parents=True, exist_ok=True)
        return path.open("ab")


def _lock_at_once(handle: BinaryIO) -> bool:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _is_at(handle: BinaryIO, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(handle.fileno()), path.stat())
    except FileNotFoundError:
        return False
