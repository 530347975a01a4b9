"""A film as it arrives over the network: bytes within a limit, decoded by what they are, never written to disk."""

from collections.abc import AsyncIterable
from dataclasses import dataclass

import numpy as np

from clarity_cxr.data.images import read_film
from clarity_cxr.dicom.reading import DicomFilm
from clarity_cxr.dicom.reading import read_film as read_dicom
from clarity_cxr.errors import FilmError

_PNG = b"\x89PNG\r\n\x1a\n"
_JPEG = b"\xff\xd8\xff"
_DICOM = slice(128, 132)


class TooLarge(Exception):
    """An upload is larger than the service takes."""


class UnknownKind(Exception):
    """An upload is neither PNG nor JPEG nor DICOM."""


@dataclass(frozen=True)
class Film:
    """A decoded film: pixels (H, W) uint8, what its header says against it, and the DICOM object if it was one."""

    pixels: np.ndarray
    warnings: list[str]
    dicom: DicomFilm | None


async def receive(chunks: AsyncIterable[bytes], announced: str | None, limit: int) -> bytes:
    """The bytes of an upload.

    Args:
        chunks: the upload as it comes in.
        announced: its Content-Length, if any; beyond the limit not one byte is read.
        limit: most bytes that are taken.

    Raises:
        TooLarge: the upload is larger.
    """
    if announced is not None and announced.isdigit() and int(announced) > limit:
        raise TooLarge
    received = bytearray()
    async for chunk in chunks:
        received += chunk
        if len(received) > limit:
            raise TooLarge
    return bytes(received)


def decode(data: bytes, declared: str | None = None) -> Film:
    """A film from the bytes of a PNG, JPEG or DICOM file, told by their first bytes.

    Args:
        data: the file.
        declared: its Content-Type; only `application/dicom` counts, for DICOM files without their mark.

    Raises:
        UnknownKind: they are of no such file.
        FilmError: they cannot be decoded into a film.
    """
    if data.startswith((_PNG, _JPEG)):
        return Film(read_film(data), [], None)
    if data[_DICOM] == b"DICM" or (data and declared == "application/dicom"):
        dicom = read_dicom(data)
        return Film(dicom.pixels, list(dicom.warnings), dicom)
    if not data:
        raise FilmError("the film is empty; send the bytes of a PNG, JPEG or DICOM file as the request's body")
    raise UnknownKind
