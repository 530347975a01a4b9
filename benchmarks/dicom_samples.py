"""DICOM films rewritten in every transfer syntax that is read, and broken in every way that is refused."""

import shutil
import struct
import subprocess
import tempfile
import zlib
from collections.abc import Callable, Iterator
from copy import deepcopy
from io import BytesIO
from pathlib import Path

import numpy as np
from pydicom import Dataset, dcmread
from pydicom.uid import (
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLSLossless,
    RLELossless,
)

NATIVE = (ImplicitVRLittleEndian, ExplicitVRLittleEndian, DeflatedExplicitVRLittleEndian, ExplicitVRBigEndian)
COMPRESSED = (RLELossless, JPEGLSLossless, JPEG2000Lossless)
DCMTK = {
    "JPEG lossless (process 14 SV1)": ("+e1",),
    "JPEG lossless (process 14)": ("+el",),
    "JPEG extended, 12 bit, lossy": ("+ee", "+q", "95"),
    "JPEG baseline, 8 bit, lossy": ("+eb", "+q", "95"),
}
"""Kinds that pydicom does not write, and dcmcjpeg's options for each; baseline is for 8 bits only."""


def encoded(film: Dataset) -> bytes:
    """A film as the bytes of its file."""
    stream = BytesIO()
    film.save_as(stream, enforce_file_format=True)
    return stream.getvalue()


def decoded(path: Path) -> Dataset:
    """A film from a file, uncompressed, explicit little endian."""
    film = dcmread(path)
    if film.file_meta.TransferSyntaxUID.is_compressed:
        film.decompress()
    film.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    film["PixelData"].VR = "OB" if film.BitsAllocated == 8 else "OW"
    for _ in film.iterall():  # elements are read when they are asked for; now none depends on the file's encoding
        pass
    fresh = Dataset(dict(film.items()))
    fresh.file_meta = film.file_meta
    return fresh


def transcodings(film: Dataset) -> Iterator[tuple[str, bytes]]:
    """Name and bytes of an uncompressed film in every transfer syntax; those of dcmcjpeg only if it is installed."""
    for syntax in NATIVE:
        yield syntax.name, encoded(_native(deepcopy(film), syntax))
    for syntax in COMPRESSED:
        packed = deepcopy(film)
        packed.compress(syntax, generate_instance_uid=False)
        yield syntax.name, encoded(packed)
    if shutil.which("dcmcjpeg") is None:
        return
    with tempfile.TemporaryDirectory() as folder:
        plain, jpeg = Path(folder) / "plain.dcm", Path(folder) / "jpeg.dcm"
        plain.write_bytes(encoded(film))
        for name, options in DCMTK.items():
            if "+eb" in options and film.BitsAllocated != 8:
                continue
            subprocess.run(["dcmcjpeg", *options, plain, jpeg], check=True, capture_output=True)
            yield name, jpeg.read_bytes()


def _native(film: Dataset, syntax: UID) -> Dataset:
    film.file_meta.TransferSyntaxUID = syntax
    if syntax == ExplicitVRBigEndian and film.BitsAllocated == 16:
        film.PixelData = np.frombuffer(film.PixelData, "<u2").byteswap().tobytes()
    return film


def broken(film: Dataset) -> Iterator[tuple[str, bytes]]:
    """Name and bytes of an uncompressed film, broken in one way each."""
    whole = encoded(film)
    jpeg2000 = deepcopy(film)
    jpeg2000.compress(JPEG2000Lossless, generate_instance_uid=False)
    packed = encoded(jpeg2000)
    yield "empty", b""
    yield "not DICOM (text)", b"this is no film\n" * 1000
    yield "not DICOM (PNG)", b"\x89PNG\r\n\x1a\n" + bytes(1000)
    yield "truncated in the preamble", whole[:100]
    yield "truncated in the header", whole[: whole.index(b"MONOCHROME") - 40]
    yield "truncated in the pixels", whole[: len(whole) - film.Columns * 4]
    yield "JPEG 2000 cut in half", packed[: len(packed) // 2]
    changes: dict[str, Callable[[Dataset], None]] = {
        "Pixel Data too short": lambda f: setattr(f, "PixelData", f.PixelData[: len(f.PixelData) // 2]),
        "Rows too large": lambda f: setattr(f, "Rows", f.Rows + 100),
        "Rows and Columns 65535": lambda f: (setattr(f, "Rows", 65535), setattr(f, "Columns", 65535)),
        "Rows 0": lambda f: setattr(f, "Rows", 0),
        "no Rows": lambda f: delattr(f, "Rows"),
        "Photometric Interpretation RGB": lambda f: setattr(f, "PhotometricInterpretation", "RGB"),
        "Photometric Interpretation nonsense": lambda f: setattr(f, "PhotometricInterpretation", "MONOCHROME7"),
        "three samples per pixel": lambda f: setattr(f, "SamplesPerPixel", 3),
        "Bits Stored 40": lambda f: setattr(f, "BitsStored", 40),
        "32 bits allocated": lambda f: setattr(f, "BitsAllocated", 32),
        "12 frames": lambda f: setattr(f, "NumberOfFrames", 12),
        "no pixels": lambda f: delattr(f, "PixelData"),
    }
    for name, change in changes.items():
        other = deepcopy(film)
        change(other)
        yield name, encoded(other)
    yield "unknown transfer syntax", whole.replace(b"1.2.840.10008.1.2.1\0", b"1.2.840.10008.1.2.9\0", 1)
    jpeg2000.Rows += 1
    yield "JPEG 2000 of another size", encoded(jpeg2000)
    start = packed.index(b"\xff\x4f\xff\x51") + 8
    yield (
        "JPEG 2000 that claims 60,000 x 60,000",
        packed[:start] + struct.pack(">2I", 60000, 60000) + packed[start + 8 :],
    )
    yield "deflate bomb (2 GB of zeros)", _deflate_bomb(film)


def _deflate_bomb(film: Dataset) -> bytes:
    whole = encoded(_native(deepcopy(film), DeflatedExplicitVRLittleEndian))
    head = whole[: 144 + struct.unpack("<I", whole[140:144])[0]]
    deflater = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    return head + b"".join(deflater.compress(bytes(1 << 20)) for _ in range(2048)) + deflater.flush()
