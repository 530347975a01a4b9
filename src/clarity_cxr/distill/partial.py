"""An epoch in the making: batches appended to one file, each with its checksum, under the lock of one process.

A process killed at any moment leaves whole batches and at most one torn one at the end; the next process cuts that off.
"""

import fcntl
import os
import struct
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from clarity_cxr.files import output_errors

_HEADER = struct.Struct("<III")
"""First row, number of rows, CRC-32 of both and of the logits that follow."""


@contextmanager
def locked_partial(path: Path) -> Iterator[BinaryIO | None]:
    """Open an epoch's partial file for this process alone; yields None while another process has it.

    Raises:
        ClarityError: the file cannot be written, or the disk is full.
    """
    with output_errors(path), path.open("a+b", buffering=0) as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield None
            return
        # Its last owner may have finished and removed it between our opening and our locking.
        yield handle if _is_at(handle, path) else None


def append(handle: BinaryIO, first: int, logits: NDArray[np.float16]) -> None:
    """Append a batch.

    Args:
        handle: of `locked_partial`.
        first: row of its first film.
        logits: (B, 14) float16.
    """
    payload = logits.tobytes()
    record = _HEADER.pack(first, len(logits), _checksum(first, len(logits), payload)) + payload
    while record:
        record = record[handle.write(record) :]


def resume(handle: BinaryIO, logits: NDArray[np.float16]) -> int:
    """Read the batches that are there into `logits` and cut off what is torn.

    Args:
        handle: of `locked_partial`.
        logits: (n, 14) float16, filled from its first row on.

    Returns:
        The number of rows that are there.
    """
    handle.seek(0)
    content = handle.read()
    position = rows = 0
    while position + _HEADER.size <= len(content):
        first, count, checksum = _HEADER.unpack_from(content, position)
        end = position + _HEADER.size + count * logits[0].nbytes
        payload = content[position + _HEADER.size : end]
        fits = first == rows and 0 < count <= len(logits) - rows and end <= len(content)
        if not fits or _checksum(first, count, payload) != checksum:
            break
        logits[rows : rows + count] = np.frombuffer(payload, np.float16).reshape(count, -1)
        position, rows = end, rows + count
    os.ftruncate(handle.fileno(), position)
    return rows


def _is_at(handle: BinaryIO, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(handle.fileno()), path.stat())
    except FileNotFoundError:
        return False


def _checksum(first: int, count: int, payload: bytes) -> int:
    return zlib.crc32(payload, zlib.crc32(struct.pack("<II", first, count)))
