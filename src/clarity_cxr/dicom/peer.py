"""The archive that a node's results are sent to."""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Any

from clarity_cxr.dicom.spool import IN_DOUBT
from clarity_cxr.errors import ClarityError

if TYPE_CHECKING:
    from pynetdicom.association import Association

_ADDRESS = re.compile(r"(?P<title>[^@\\]{1,16})@(?P<host>[^@]+):(?P<port>\d{1,5})")
_FOUND = 0xFF00


class Outcome(Enum):
    """What became of a result: taken, refused for good, or to be sent again later."""

    TAKEN = "taken"
    REFUSED = "refused"
    LATER = "later"


@dataclass(frozen=True)
class Peer:
    """An application entity: its title, host and port."""

    title: str
    host: str
    port: int

    @classmethod
    def parse(cls, address: str) -> "Peer":
        """From `TITLE@HOST:PORT`.

        Raises:
            ClarityError: it is not of that form.
        """
        match = _ADDRESS.fullmatch(address)
        if match is None or not 0 < int(match["port"]) < 65536:
            raise ClarityError(f"--reply-to {address}: expected TITLE@HOST:PORT, e.g. ARCHIVE@127.0.0.1:4242")
        return cls(match["title"], match["host"], int(match["port"]))

    def send(self, results: Iterable[Path], own_title: str) -> Iterator[tuple[Path, Outcome]]:
        """Send files over one association; each is renamed to end in `IN_DOUBT` before it leaves.

        One that ended so already, after a kill or a broken connection, is asked for first and sent only if the peer
        does not say that it has it.

        Yields:
            Each file by its present name and what became of it, as soon as that is known; not those that were not
            reached.
        """
        from pynetdicom.ae import ApplicationEntity
        from pynetdicom.sop_class import (
            ComprehensiveSRStorage,  # pyright: ignore[reportAttributeAccessIssue]
            SecondaryCaptureImageStorage,  # pyright: ignore[reportAttributeAccessIssue]
            SegmentationStorage,  # pyright: ignore[reportAttributeAccessIssue]
            StudyRootQueryRetrieveInformationModelFind,  # pyright: ignore[reportAttributeAccessIssue]
        )

        entity = ApplicationEntity(ae_title=own_title)
        for storage in (ComprehensiveSRStorage, SecondaryCaptureImageStorage, SegmentationStorage):
            entity.add_requested_context(storage, "1.2.840.10008.1.2.1")
        entity.add_requested_context(StudyRootQueryRetrieveInformationModelFind)
        entity.connection_timeout = entity.acse_timeout = entity.network_timeout = entity.dimse_timeout = 30
        association = entity.associate(self.host, self.port, ae_title=self.title)
        try:
            for result in results:
                if not association.is_established:
                    break
                yield _send_one(association, result)
        finally:
            if association.is_established:
                association.release()


def _send_one(association: "Association", result: Path) -> tuple[Path, Outcome]:
    from pydicom import dcmread

    dataset = dcmread(result)
    if result.name.endswith(IN_DOUBT):
        if _has(association, dataset):
            return result, Outcome.TAKEN
    else:
        result = result.rename(result.with_name(result.name + IN_DOUBT))
    try:
        status = association.send_c_store(dataset)
    except ValueError:  # no presentation context: the peer does not take this kind of object
        return result, Outcome.REFUSED
    return result, _outcome(status.get("Status"))


def _outcome(status: int | None) -> Outcome:
    """PS3.4 B.2.3: 0000 and Bxxx (warnings) are stored; none (the connection broke) and A7xx (no room) may pass."""
    if status == 0 or (status is not None and status >> 12 == 0xB):
        return Outcome.TAKEN
    return Outcome.LATER if status is None or status >> 8 == 0xA7 else Outcome.REFUSED


def _has(association: "Association", result: Any) -> bool:
    """Whether the peer says, asked by C-FIND, that it has a result; False if it does not answer that question."""
    from pydicom import Dataset
    from pynetdicom.sop_class import StudyRootQueryRetrieveInformationModelFind  # pyright: ignore

    query = Dataset()
    query.QueryRetrieveLevel = "IMAGE"
    for keyword in ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID"):
        setattr(query, keyword, result[keyword].value)
    try:
        answers = association.send_c_find(query, StudyRootQueryRetrieveInformationModelFind)
        return any(status and status.Status == _FOUND for status, _ in list(answers))
    except ValueError:  # the peer does not take queries
        return False
