"""Films and results between a node's receiving, predicting and sending, kept on the disk so that a kill loses nothing.

A film is one file or one folder at a time, and moves by renaming:

    received/KEY.dcm  ->  results/KEY/*.dcm  ->  done/KEY (empty)
                      \\-> failed/KEY.dcm and KEY.txt, the reason

KEY is a hash of the film's identifier and of what predicts it, so that no name says who the patient is.
"""

import fcntl
import hashlib
import shutil
import threading
from collections.abc import Callable
from pathlib import Path
from typing import TextIO

from clarity_cxr.errors import ClarityError
from clarity_cxr.files import atomic_path, output_errors

IN_DOUBT = ".sending"
"""Added to the name of a result while it is sent: found after a kill, it may have arrived or not."""


class Spool:
    """The folders of one node.

    Args:
        root: where they are; made if missing.
        capacity: films that are held at most, from their arrival until their results are sent.
        predicted_by: what predicts the films; a film that comes again is predicted again only by something else.
        sends: whether results are sent on; else they stay in `results`, and the film is done there.

    Raises:
        ClarityError: another node uses the spool, or it cannot be written.
    """

    def __init__(self, root: Path, capacity: int, predicted_by: str, sends: bool) -> None:
        if capacity < 1:
            raise ClarityError(f"capacity {capacity}: expected 1 or more films")
        self._received, self._working, self._results, self._failed, self._done = (
            root / name for name in ("received", "working", "results", "failed", "done")
        )
        with output_errors(root):
            root.mkdir(parents=True, exist_ok=True)
            self._lock_file = _locked(root)
            shutil.rmtree(self._working, ignore_errors=True)
            for folder in (self._received, self._working, self._results, self._failed, self._done):
                folder.mkdir(exist_ok=True)
        self._capacity, self._predicted_by, self._sends = capacity, predicted_by, sends
        self._lock = threading.Lock()
        for film in self.films():
            if self._is_predicted(film.stem):
                film.unlink()
        self._held = {film.stem for film in self.films()} | {folder.name for folder in self.outgoing()}

    def __len__(self) -> int:
        """Films held."""
        return len(self._held)

    def receive(self, uid: str, data: bytes) -> str | None:
        """Hold a film; on return it is on the disk. One that is held or done already is not held again.

        Args:
            uid: the film's SOP Instance UID.
            data: the film's file.

        Returns:
            Its key, or None when the spool is full.
        """
        key = hashlib.sha256(f"{uid} {self._predicted_by}".encode()).hexdigest()[:24]
        with self._lock:
            if key in self._held or self._is_predicted(key):
                return key
            if len(self._held) >= self._capacity:
                return None
            self._held.add(key)
        try:
            with atomic_path(self._received / f"{key}.dcm") as temporary:
                temporary.write_bytes(data)
        except BaseException:
            self._held.discard(key)
            raise
        return key

    def films(self) -> list[Path]:
        """Films that wait for their prediction, the first received first."""
        films = [path for path in self._received.glob("*.dcm") if not path.name.startswith(".")]
        return sorted(films, key=lambda path: path.stat().st_mtime_ns)

    def predicted(self, film: Path, write_results: Callable[[Path], object]) -> None:
        """Let `write_results` write a film's results, given a path without suffix, and let them take its place."""
        folder = self._working / film.stem
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        write_results(folder / film.stem)
        folder.rename(self._results / film.stem)
        film.unlink()
        if not self._sends:
            self._held.discard(film.stem)

    def set_aside(self, film: Path, reason: str) -> None:
        """Move a film that cannot be predicted out of the way, with the reason beside it."""
        with atomic_path(self._failed / f"{film.stem}.txt") as temporary:
            temporary.write_text(reason + "\n", encoding="utf-8")
        film.rename(self._failed / film.name)
        self._held.discard(film.stem)

    def outgoing(self) -> list[Path]:
        """Folders of results that are to be sent, the first predicted first; none for a spool that does not send."""
        folders = list(self._results.iterdir()) if self._sends else []
        return sorted(folders, key=lambda path: path.stat().st_mtime_ns)

    def refused(self, result: Path) -> None:
        """Move a result aside that the receiver will never take."""
        result.rename(self._failed / result.name.removesuffix(IN_DOUBT))

    def sent(self, folder: Path) -> None:
        """Note that nothing is left to be sent in a film's folder of results."""
        (self._done / folder.name).touch()
        folder.rmdir()
        self._held.discard(folder.name)

    def close(self) -> None:
        """Let another node use the spool."""
        self._lock_file.close()

    def _is_predicted(self, key: str) -> bool:
        return (self._results / key).exists() or (self._done / key).exists()


def _locked(root: Path) -> TextIO:
    """The spool's lock, held until the process ends, however it ends."""
    handle = (root / "lock").open("w")
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        handle.close()
        raise ClarityError(f"{root}: another node uses this spool; give each node its own --spool") from None
    return handle
