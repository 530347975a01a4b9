"""An archive on loopback, and a sender of films."""

import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from pydicom import Dataset
from pynetdicom import AE, evt
from pynetdicom.sop_class import (
    ComprehensiveSRStorage,
    SecondaryCaptureImageStorage,
    SegmentationStorage,
    StudyRootQueryRetrieveInformationModelFind,
)

RESULT_CLASSES = (ComprehensiveSRStorage, SecondaryCaptureImageStorage, SegmentationStorage)


class Archive:
    """Takes results and counts how often each one comes.

    `on_store` is called with the number of results stored so far before each answer; it may say another status.
    """

    def __init__(self, classes: tuple[str, ...] = RESULT_CLASSES, finds: bool = True) -> None:
        self.stored: dict[str, Dataset] = {}
        self.times: Counter[str] = Counter()
        self.on_store: Callable[[int], int] = lambda count: 0x0000
        self.title = "ARCHIVE"
        self._entity = AE(ae_title=self.title)
        for storage in classes:
            self._entity.add_supported_context(storage)
        if finds:
            self._entity.add_supported_context(StudyRootQueryRetrieveInformationModelFind)
        self._lock = threading.Lock()

    @contextmanager
    def listening(self, port: int = 0) -> Iterator[int]:
        """Yields the port."""
        handlers = [(evt.EVT_C_STORE, self._store), (evt.EVT_C_FIND, self._find)]
        server = self._entity.start_server(("127.0.0.1", port), block=False, evt_handlers=handlers)
        try:
            yield server.socket.getsockname()[1]
        finally:
            server.shutdown()

    def _store(self, event: Any) -> int:
        result = event.dataset
        result.file_meta = event.file_meta
        with self._lock:
            uid = str(result.SOPInstanceUID)
            self.times[uid] += 1
            self.stored[uid] = result
            count = sum(self.times.values())
        return self.on_store(count)

    def _find(self, event: Any) -> Iterator[tuple[int, Dataset | None]]:
        if str(event.identifier.SOPInstanceUID) in self.stored:
            yield 0xFF00, event.identifier


def send(film: Dataset, port: int) -> int | None:
    """C-STORE a film to a node on loopback; the status, None if there was none."""
    entity = AE(ae_title="MODALITY")
    entity.add_requested_context(film.SOPClassUID, film.file_meta.TransferSyntaxUID)
    association = entity.associate("127.0.0.1", port)
    if not association.is_established:
        return None
    try:
        return association.send_c_store(film).get("Status")
    finally:
        association.release()
