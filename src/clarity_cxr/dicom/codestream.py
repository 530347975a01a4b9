"""What a compressed frame says about itself, read from its first markers before any decoder sees it."""

import struct
from dataclasses import dataclass

_J2K_START = b"\xff\x4f\xff\x51"
_JP2_START = b"\x00\x00\x00\x0cjP  "
_JPEG_SYNTAXES = {
    0xC0: "1.2.840.10008.1.2.4.50",
    0xC1: "1.2.840.10008.1.2.4.51",
    0xC3: "1.2.840.10008.1.2.4.57",
    0xF7: "1.2.840.10008.1.2.4.80",
}
"""Start-of-frame markers of the JPEG kinds in DICOM: baseline, extended, lossless, JPEG-LS."""
_JPEG_FRAMES = {*range(0xC0, 0xD0), 0xF7} - {0xC4, 0xC8, 0xCC}
_JPEG_BARE = {0x01, *range(0xD0, 0xD9)}


@dataclass(frozen=True)
class FrameHeader:
    """Size of a compressed frame, and the transfer syntax (UID) it can be decoded with; None for kinds without one."""

    rows: int
    columns: int
    components: int
    transfer_syntax: str | None


def frame_header(stream: bytes) -> FrameHeader | None:
    """Read the header of a JPEG, JPEG-LS or JPEG 2000 stream; None if it is none of them or has no header."""
    try:
        if stream.startswith((_J2K_START, _JP2_START)):
            return _jpeg2000(stream, stream.index(_J2K_START))
        return _jpeg(stream) if stream.startswith(b"\xff\xd8") else None
    except (struct.error, ValueError, IndexError):
        return None


def _jpeg2000(stream: bytes, start: int) -> FrameHeader:
    """SIZ, ISO/IEC 15444-1 A.5.1."""
    right, bottom, left, top = struct.unpack_from(">4I", stream, start + 8)
    (components,) = struct.unpack_from(">H", stream, start + 40)
    return FrameHeader(bottom - top, right - left, components, "1.2.840.10008.1.2.4.91")


def _jpeg(stream: bytes) -> FrameHeader | None:
    """SOF, ISO/IEC 10918-1 B.2.2 and 14495-1 C.2.2: marker, length, precision, rows, columns, components."""
    at = 2
    while stream[at] == 0xFF:
        marker = stream[at + 1]
        if marker in _JPEG_FRAMES:
            rows, columns, components = struct.unpack_from(">HHB", stream, at + 5)
            return FrameHeader(rows, columns, components, _JPEG_SYNTAXES.get(marker))
        if marker == 0xFF or marker in _JPEG_BARE:
            at += 1 if marker == 0xFF else 2
            continue
        at += 2 + struct.unpack_from(">H", stream, at + 2)[0]
    return None
