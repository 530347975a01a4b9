"""A DICOM node: films come in by C-STORE, are predicted, and their results go out by C-STORE."""

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from clarity_cxr.dicom.peer import Outcome, Peer
from clarity_cxr.dicom.reading import MAX_FILE_BYTES, DicomFilm, read_film
from clarity_cxr.dicom.spool import Spool
from clarity_cxr.dicom.writing import write_results
from clarity_cxr.errors import ClarityError, FilmError
from clarity_cxr.inference.prediction import FilmPrediction

LOGGER = logging.getLogger("clarity_cxr.node")
"""Says what happens to which key of the spool; never what a film or its header holds."""

_SUCCESS, _NO_ROOM = 0x0000, 0xA700
_ASSOCIATIONS = 4
_LONGEST_PAUSE = 60.0
_LAST_TRANSFERS = 10.0
"""Seconds that a stopping node leaves to transfers which have begun."""


@dataclass(frozen=True)
class NodeModel:
    """What the node predicts with.

    Attributes:
        predict: a film's grey pixels (H, W) uint8 -> its prediction.
        doubts: a film -> why it may not be a frontal chest film.
        checkpoint_sha256: digest of the model's file.
        strict: whether films with doubts are set aside.
    """

    predict: Callable[[Any], FilmPrediction]
    doubts: Callable[[DicomFilm], list[str]]
    checkpoint_sha256: str
    strict: bool = False


class Node:
    """Receives, predicts and sends until it is stopped.

    Args:
        model: what predicts.
        spool: what is held.
        title: the node's application entity title.
        reply_to: where results go; None leaves them in the spool.
    """

    def __init__(self, model: NodeModel, spool: Spool, title: str, reply_to: Peer | None) -> None:
        self.model, self.spool, self.title, self.reply_to = model, spool, title, reply_to
        self._stopping = threading.Event()
        self._wake_predictor, self._wake_sender = threading.Event(), threading.Event()
        self._predicted_all = threading.Event()
        self._server: Any = None

    @property
    def port(self) -> int:
        """Where the node listens."""
        return self._server.socket.getsockname()[1]

    def listen(self, host: str, port: int) -> None:
        """Start to receive.

        Raises:
            ClarityError: the port cannot be listened on, or the DICOM extra is not installed.
        """
        try:
            import highdicom.sc
            import highdicom.seg
            import highdicom.sr  # noqa: F401  # now, so that the first film does not wait for it
            from pynetdicom import evt
            from pynetdicom.ae import ApplicationEntity
        except ImportError:
            raise ClarityError('a DICOM node needs further packages: pip install "clarity-cxr[dicom]"') from None
        entity = ApplicationEntity(ae_title=self.title)
        entity.maximum_associations = _ASSOCIATIONS
        for storage in _film_classes():
            entity.add_supported_context(storage, _transfer_syntaxes())
        entity.add_supported_context("1.2.840.10008.1.1")
        handlers: Any = [(evt.EVT_C_STORE, self._receive)]
        try:
            self._server = entity.start_server((host, port), block=False, evt_handlers=handlers)
        except OSError as error:
            raise ClarityError(
                f"{host}:{port}: cannot be listened on ({error.strerror}); choose another port"
            ) from None
        LOGGER.info("listening as %s on %s:%d, %d films in the spool", self.title, host, self.port, len(self.spool))

    def run(self) -> None:
        """Predict and send until `stop`, then finish what is held and return."""
        workers = [threading.Thread(target=work) for work in (self._predict_all, self._send_all)]
        for worker in workers:
            worker.start()
        self._stopping.wait()
        self._server.shutdown()
        self._finish_transfers()
        self._wake_predictor.set()
        for worker in workers:
            worker.join()
        LOGGER.info("stopped, %d films in the spool", len(self.spool))

    def stop(self) -> None:
        """Take no further films, finish those held, then let `run` return."""
        self._stopping.set()

    def _receive(self, event: Any) -> int:
        if self._stopping.is_set() or event.request.DataSet.getbuffer().nbytes > MAX_FILE_BYTES:
            return _NO_ROOM
        try:
            key = self.spool.receive(str(event.request.AffectedSOPInstanceUID), event.encoded_dataset())
        except ClarityError as error:
            LOGGER.error("a film was refused: %s", error)
            return _NO_ROOM
        if key is None:
            LOGGER.warning("a film was refused: the spool is full")
            return _NO_ROOM
        LOGGER.info("%s: received", key)
        self._wake_predictor.set()
        return _SUCCESS

    def _finish_transfers(self) -> None:
        deadline = time.monotonic() + _LAST_TRANSFERS
        while self._server.active_associations and time.monotonic() < deadline:
            time.sleep(0.05)
        for association in self._server.active_associations:
            association.abort()

    def _predict_all(self) -> None:
        while True:
            self._wake_predictor.clear()
            finished = [self._predict(film) for film in self.spool.films()]
            self._wake_sender.set()
            if self._stopping.is_set() and not self._server.active_associations:
                if not all(finished) or not self.spool.films():
                    break
                continue
            self._wake_predictor.wait(timeout=1)
        self._predicted_all.set()
        self._wake_sender.set()

    def _predict(self, path: Path) -> bool:
        """Predict a film or set it aside; False if it stays where it is, because the disk takes neither."""
        try:
            try:
                doubts = self._write_results(path)
            except FilmError as error:
                self._set_aside(path, str(error))
            except (ClarityError, OSError):
                raise
            except Exception as error:  # one film must not end the node
                self._set_aside(path, f"{type(error).__name__}: {error}")
            else:
                LOGGER.info("%s: predicted%s", path.stem, f", {len(doubts)} doubts about the film" if doubts else "")
        except (ClarityError, OSError) as error:
            LOGGER.error("%s: not predicted yet (%s)", path.stem, error)
            return False
        return True

    def _write_results(self, path: Path) -> list[str]:
        film = read_film(path)
        doubts = self.model.doubts(film)
        if doubts and self.model.strict:
            raise FilmError(f"may not be a frontal chest film: {', '.join(doubts)}")
        prediction = self.model.predict(film.pixels)
        digest = self.model.checkpoint_sha256
        self.spool.predicted(path, lambda stem: write_results(film, prediction, digest, stem))
        return doubts

    def _set_aside(self, path: Path, reason: str) -> None:
        """Keep the reason beside the film and out of the log: it may hold what the header says."""
        self.spool.set_aside(path, reason)
        LOGGER.warning("%s: cannot be predicted, set aside with the reason in failed/%s.txt", path.stem, path.stem)

    def _send_all(self) -> None:
        """Send whatever there is; a peer that is away is tried again after 1, 2, 4, ... 60 seconds."""
        pause = 1.0
        while True:
            self._wake_sender.clear()
            last_time = self._predicted_all.is_set()
            arrived = [self._send(folder) for folder in self.spool.outgoing()]
            if last_time:
                return
            pause = 1.0 if all(arrived) else min(2 * pause, _LONGEST_PAUSE)
            if all(arrived):
                self._wake_sender.wait(timeout=1)
            else:
                self._predicted_all.wait(timeout=pause)

    def _send(self, folder: Path) -> bool:
        """Send a film's results; True if nothing of them is left."""
        assert self.reply_to is not None
        try:
            for result, outcome in self.reply_to.send(sorted(folder.iterdir()), self.title):
                if outcome is Outcome.TAKEN:
                    result.unlink()
                elif outcome is Outcome.REFUSED:
                    LOGGER.error("%s: the peer takes no %s, kept in failed/", folder.name, result.suffixes[0])
                    self.spool.refused(result)
            if any(folder.iterdir()):
                LOGGER.warning("%s: not all sent, the peer is away or busy", folder.name)
                return False
            self.spool.sent(folder)
        except Exception as error:  # one film must not end the node
            LOGGER.error("%s: not sent (%s)", folder.name, type(error).__name__)
            return False
        LOGGER.info("%s: sent", folder.name)
        return True


def _film_classes() -> list[str]:
    """Storage classes that are received: CR, DX for presentation and for processing, Secondary Capture."""
    return [f"1.2.840.10008.5.1.4.1.1.{kind}" for kind in ("1", "1.1", "1.1.1", "7")]


def _transfer_syntaxes() -> list[Any]:
    from pynetdicom import ALL_TRANSFER_SYNTAXES

    return list(ALL_TRANSFER_SYNTAXES)
