"""Writing whole files or nothing, and what is said where nothing can be written."""

import errno
from pathlib import Path

import pytest

from clarity_cxr.errors import ClarityError
from clarity_cxr.files import atomic_path, output_errors


@pytest.mark.parametrize(
    ("number", "reason"),
    [
        (errno.ENOSPC, "the disk is full"),
        (errno.EDQUOT, "the disk quota is used up"),
        (errno.EACCES, "permission denied"),
        (errno.EROFS, "the file system is read-only"),
        (errno.ENOTDIR, "a part of the path is a file"),
    ],
)
def test_an_output_that_cannot_be_written_is_named_with_the_reason(number: int, reason: str) -> None:
    with (
        pytest.raises(ClarityError, match=f"^runs/out: cannot be written: {reason}.*choose"),
        output_errors(Path("runs/out")),
    ):
        raise OSError(number, "said by the system")


def test_other_errors_of_the_system_are_not_explained_away() -> None:
    with pytest.raises(OSError, match="Input/output error"), output_errors(Path("out")):
        raise OSError(errno.EIO, "Input/output error")


def test_a_file_is_replaced_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "folder" / "file.txt"
    with atomic_path(path) as temporary:
        temporary.write_text("first")

    def fill_the_disk() -> None:
        with atomic_path(path) as temporary:
            temporary.write_text("seco")
            raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(ClarityError, match="the disk is full"):
        fill_the_disk()
    assert path.read_text() == "first"
    assert list(path.parent.iterdir()) == [path]
