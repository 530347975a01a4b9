"""Writing that leaves either the whole file or nothing."""

import errno
import hashlib
import json
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from clarity_cxr.errors import ClarityError


@contextmanager
def output_errors(path: Path) -> Iterator[None]:
    """Turn a full, read-only or forbidden output into one `ClarityError` that names `path`."""
    try:
        yield
    except OSError as error:
        reasons = {
            errno.ENOSPC: "the disk is full; free some space or choose another folder",
            errno.EDQUOT: "the disk quota is used up; free some space or choose another folder",
            errno.EACCES: "permission denied; choose a folder that you may write to",
            errno.EPERM: "permission denied; choose a folder that you may write to",
            errno.EROFS: "the file system is read-only; choose another folder",
            errno.ENOTDIR: "a part of the path is a file, not a folder; choose another folder",
            errno.EEXIST: "a file of that name is in the way; choose another folder",
        }
        if error.errno not in reasons:
            raise
        raise ClarityError(f"{path}: cannot be written: {reasons[error.errno]}") from error


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; on success rename it there, on failure remove it.

    Raises:
        ClarityError: the folder cannot be written to or the disk is full.
    """
    with output_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=f".tmp{path.suffix}", dir=path.parent)
        os.close(descriptor)
        temporary = Path(name)
        try:
            yield temporary
            with temporary.open("rb") as handle:
                os.fsync(handle.fileno())
            temporary.chmod(0o666 & ~_umask())
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def write_json(path: Path, content: Any) -> None:
    """Write `content` as indented JSON, whole or not at all."""
    with atomic_path(path) as temporary:
        temporary.write_text(json.dumps(content, indent=2, allow_nan=False) + "\n", encoding="utf-8")


def file_digest(path: Path) -> str:
    """SHA-256 of a file, read in blocks, as hexadecimal."""
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()
