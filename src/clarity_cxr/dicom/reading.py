"""One DICOM film into 8-bit grey: checked before it is decoded, refused in one sentence, never trusted with memory."""

import warnings
import zlib
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from clarity_cxr.data.images import MAX_FILM_PIXELS
from clarity_cxr.dicom.codestream import FrameHeader, frame_header
from clarity_cxr.dicom.grey import grey_table
from clarity_cxr.dicom.view import header_warnings
from clarity_cxr.errors import ClarityError, FilmError

if TYPE_CHECKING:
    from pydicom import Dataset

DICOM_SUFFIXES = (".dcm", ".dicom")
"""Endings of DICOM files, in any case; others are known by the mark in their first bytes."""
MAX_FILE_BYTES = 256 * 1024 * 1024
"""Larger files, and deflated ones that grow beyond it, are refused; `MAX_FILM_PIXELS` of 16 bits are 160 MB."""
DIRECTORY_CLASS = "1.2.840.10008.1.3.10"
"""Storage class of a DICOMDIR."""

_STORAGE = "1.2.840.10008.5.1.4.1.1."
_CLASSES_WITHOUT_FILM = (DIRECTORY_CLASS, *(f"{_STORAGE}{kind}." for kind in (9, 11, 66, 88, 104, 481)))
"""Directories, waveforms, presentation states, segmentations, reports, documents, and radiotherapy objects."""
_MARK = slice(128, 132)
_IMPLICIT = "1.2.840.10008.1.2"
_EXPLICIT = "1.2.840.10008.1.2.1"
_BIG_ENDIAN = "1.2.840.10008.1.2.2"
_DEFLATED = "1.2.840.10008.1.2.1.99"
_RLE = "1.2.840.10008.1.2.5"
_PANIC = "PanicException"
"""What pylibjpeg-rle, written in Rust, raises for some damaged frames; it is no `Exception`."""
_NATIVE = (_IMPLICIT, _EXPLICIT, _BIG_ENDIAN)


@dataclass(frozen=True)
class DicomFilm:
    """A film and its header.

    Attributes:
        pixels: (Rows, Columns) uint8 of the stored film, windowed, air dark and bone bright.
        warnings: why it may not be a whole frontal chest film; empty if the file does not speak against it.
        header: the file's attributes (a pydicom `Dataset`), without its pixels.
    """

    pixels: np.ndarray
    warnings: list[str]
    header: "Dataset"


def is_dicom(path: Path) -> bool:
    """Whether a file is DICOM by its mark or, where that is missing, by its suffix."""
    return path.suffix.lower() in DICOM_SUFFIXES or _is_marked(path)


def may_be_film(path: Path) -> bool:
    """Whether a file is DICOM and not of a storage class that holds no film: reports, segmentations, directories."""
    return is_dicom(path) and not storage_class(path).startswith(_CLASSES_WITHOUT_FILM)


def storage_class(path: Path) -> str:
    """The UID of what a DICOM file holds, from its first bytes; "" where it has none or cannot be read."""
    if not _is_marked(path):
        return ""
    require_extra()
    from pydicom.filereader import read_file_meta_info

    try:
        return str(read_file_meta_info(path).get("MediaStorageSOPClassUID", ""))
    except Exception:  # damaged: reading the film says how
        return ""


def _is_marked(path: Path) -> bool:
    try:
        with path.open("rb") as handle:
            return handle.read(_MARK.stop)[_MARK] == b"DICM"
    except OSError:
        return False


def read_film(source: Path | str | bytes) -> DicomFilm:
    """Read a film from a file, or from the bytes of one.

    Grey images of 8 to 16 bits are read, uncompressed or as JPEG, JPEG-LS, JPEG 2000 or RLE, with or without file
    meta information. The shades are those of `clarity_cxr.dicom.grey.grey_table`.

    Raises:
        FilmError: the file is missing, not DICOM, damaged, too large, in colour, of several frames, or contradicts
            itself. The message holds no patient data beyond the name of the file.
        ClarityError: the DICOM extra is not installed.
    """
    require_extra()
    name = "the DICOM data" if isinstance(source, bytes) else str(source)
    try:
        return _read(source if isinstance(source, bytes) else _file_bytes(Path(source)))
    except FilmError as error:
        raise FilmError(f"{name}: {error}") from None
    except MemoryError:
        raise
    except Exception as error:  # a damaged file makes pydicom and the decoders raise nearly anything
        reason = f"damaged, cannot be read as DICOM ({type(error).__name__})"
        raise FilmError(f"{name}: {reason}; fetch it again") from None


def require_extra() -> None:
    """Raise a `ClarityError` that names the extra, unless pydicom is installed; keep pydicom from printing values."""
    try:
        from pydicom import config
    except ImportError:
        raise ClarityError('DICOM needs further packages: pip install "clarity-cxr[dicom]"') from None
    config.settings.reading_validation_mode = config.IGNORE
    warnings.filterwarnings("ignore", category=UserWarning, module="pydicom")


def _file_bytes(path: Path) -> bytes:
    try:
        if path.stat().st_size > MAX_FILE_BYTES:
            raise FilmError(f"larger than {MAX_FILE_BYTES >> 20} MB, expected one film")
        return path.read_bytes()
    except FileNotFoundError:
        raise FilmError("no such film") from None
    except OSError as error:
        raise FilmError(f"cannot be read: {error.strerror}") from None


def _read(data: bytes) -> DicomFilm:
    dataset = _parse(data)
    _check_image(dataset)
    against = header_warnings(dataset) + _length_warnings(dataset)
    codes = _decode(dataset)
    del dataset.PixelData
    present = np.bincount(codes.ravel(), minlength=1 << dataset.BitsStored) > 0
    return DicomFilm(grey_table(dataset, present)[codes], against, dataset)


def _parse(data: bytes) -> "Dataset":
    """The file's attributes, with a transfer syntax in its meta information whatever the file had."""
    from pydicom import dcmread
    from pydicom.dataset import FileMetaDataset
    from pydicom.uid import UID

    if not data:
        raise FilmError("the file is empty")
    if len(data) > MAX_FILE_BYTES:
        raise FilmError(f"larger than {MAX_FILE_BYTES >> 20} MB, expected one film")
    marked = data[_MARK] == b"DICM"
    try:
        dataset = dcmread(BytesIO(_inflated(data) if marked else data), force=True)
    except FilmError:
        raise
    except Exception as error:
        if marked:
            raise
        raise FilmError("not a DICOM file") from error
    if not hasattr(dataset, "file_meta"):
        dataset.file_meta = FileMetaDataset()
    if "PixelData" not in dataset:
        raise FilmError(_without_pixels(dataset, marked))
    if not dataset.file_meta.get("TransferSyntaxUID"):
        dataset.file_meta.TransferSyntaxUID = UID(_guessed_syntax(dataset))
    return dataset


def _without_pixels(dataset: "Dataset", marked: bool) -> str:
    kind = dataset.get("SOPClassUID")
    if kind is None and not marked:
        return "not a DICOM file"
    return f"holds no image{f' ({kind.name})' if kind else ''}: no film, or cut short; fetch it again"


def _inflated(data: bytes) -> bytes:
    """A deflated file as an uncompressed one, refused beyond `MAX_FILE_BYTES`; any other file as it is.

    Raises a `FilmError`, too, for a transfer syntax that is none.
    """
    from pydicom.dataset import FileMetaDataset
    from pydicom.filebase import DicomBytesIO
    from pydicom.filereader import read_dataset
    from pydicom.filewriter import write_file_meta_info
    from pydicom.uid import UID, AllTransferSyntaxes

    stream = BytesIO(data)
    stream.seek(_MARK.stop)
    meta = read_dataset(stream, False, True, stop_when=lambda tag, vr, length: tag.group != 2)
    syntax = meta.get("TransferSyntaxUID")
    if syntax and syntax not in AllTransferSyntaxes:
        raise FilmError(f"Transfer Syntax {str(syntax)[:64]} is unknown; convert the film, e.g. with dcmconv")
    if syntax != _DEFLATED:
        return data
    inflater = zlib.decompressobj(-zlib.MAX_WBITS)
    body = inflater.decompress(stream.read(), MAX_FILE_BYTES)
    if inflater.unconsumed_tail:
        raise FilmError(f"deflated data grow beyond {MAX_FILE_BYTES >> 20} MB; refused as a decompression bomb")
    meta.TransferSyntaxUID = UID(_EXPLICIT)
    head = DicomBytesIO()
    head.is_little_endian, head.is_implicit_VR = True, False
    write_file_meta_info(head, FileMetaDataset(meta), enforce_standard=False)
    return bytes(_MARK.start) + b"DICM" + head.getvalue() + body


def _guessed_syntax(dataset: "Dataset") -> str:
    """The transfer syntax of a file that does not name it, by how it was read and what its pixels begin with."""
    if dataset["PixelData"].is_undefined_length:
        header = _first_frame_header(dataset)
        if header is None or header.transfer_syntax is None:
            raise FilmError("compressed, but names no Transfer Syntax; save it again with its file meta information")
        return header.transfer_syntax
    implicit, little = dataset.original_encoding
    return _IMPLICIT if implicit else _EXPLICIT if little else _BIG_ENDIAN


def _first_frame_header(dataset: "Dataset") -> FrameHeader | None:
    from pydicom.encaps import get_frame

    return frame_header(get_frame(dataset.PixelData, 0, number_of_frames=1))


def _check_image(dataset: "Dataset") -> None:
    """Raise a `FilmError` unless the attributes describe one grey frame of a size and depth that can be read."""
    photometric = str(dataset.get("PhotometricInterpretation", "missing")).strip()
    if photometric not in ("MONOCHROME1", "MONOCHROME2"):
        raise FilmError(f"Photometric Interpretation is {photometric[:16]}, expected MONOCHROME1 or MONOCHROME2")
    dataset.PhotometricInterpretation = photometric
    _expect(dataset, "SamplesPerPixel", {1}, default=1)
    if _number(dataset, "NumberOfFrames", default=1) > 1:
        raise FilmError(f"{_number(dataset, 'NumberOfFrames')} frames, expected a film of one; split it first")
    rows, columns = _number(dataset, "Rows"), _number(dataset, "Columns")
    if rows < 1 or columns < 1 or rows * columns > MAX_FILM_PIXELS:
        raise FilmError(f"{rows} rows and {columns} columns, expected 1 to {MAX_FILM_PIXELS:,} pixels")
    allocated = _expect(dataset, "BitsAllocated", {8, 16})
    stored = _expect(dataset, "BitsStored", set(range(1, allocated + 1)), default=allocated)
    _expect(dataset, "HighBit", set(range(stored - 1, allocated)), default=stored - 1)
    _expect(dataset, "PixelRepresentation", {0, 1}, default=0)


def _number(dataset: "Dataset", keyword: str, default: int | None = None) -> int:
    value: Any = dataset.get(keyword)
    if value in (None, "") and default is not None:
        return default
    if not isinstance(value, int | str | float) or not str(value).strip().isdecimal():
        raise FilmError(f"{keyword} is missing or not one whole number; fetch the film again")
    return int(value)


def _expect(dataset: "Dataset", keyword: str, allowed: set[int], default: int | None = None) -> int:
    """An attribute's value, which must be one of `allowed`; one that is missing is set to `default`."""
    value = _number(dataset, keyword, default)
    if value not in allowed:
        expected = f"{min(allowed)} to {max(allowed)}" if len(allowed) > 2 else " or ".join(map(str, sorted(allowed)))
        raise FilmError(f"{keyword} is {value}, expected {expected}")
    setattr(dataset, keyword, value)
    return value


def _decode(dataset: "Dataset") -> np.ndarray:
    """(Rows, Columns) unsigned: the stored values' bits, shifted down from the High Bit and freed of all others."""
    from pydicom.pixels.decoders.base import get_decoder

    syntax = dataset.file_meta.TransferSyntaxUID
    native = syntax in _NATIVE
    if not native and syntax != _RLE:
        _check_frame(dataset)
    try:
        decoder = get_decoder(syntax)
    except NotImplementedError:
        raise FilmError(f"Transfer Syntax {syntax.name} cannot be read; convert it, e.g. with dcmdjpeg") from None
    options: Any = {"correct_unused_bits": False}
    if not native:
        options["decoding_plugin"] = "pylibjpeg"  # no second decoder after a failure: it may not bound its memory
    try:
        array, _ = decoder.as_array(dataset, index=0, raw=True, **options)
    except BaseException as error:
        if isinstance(error, MemoryError) or (not isinstance(error, Exception) and type(error).__name__ != _PANIC):
            raise
        lines = [line for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
        raise FilmError(f"the pixels cannot be decoded as {syntax.name} ({lines[-1].strip()[:200]})") from error
    if array.shape != (dataset.Rows, dataset.Columns):
        raise FilmError(f"{syntax.name} data of shape {array.shape}, expected {dataset.Rows} x {dataset.Columns}")
    shift = dataset.HighBit + 1 - dataset.BitsStored if native else 0
    unsigned = array.astype(array.dtype.newbyteorder("="), copy=False).view(f"u{array.dtype.itemsize}")
    return (unsigned >> shift) & ((1 << dataset.BitsStored) - 1)


def _length_warnings(dataset: "Dataset") -> list[str]:
    """Raise a `FilmError` for uncompressed pixels that are too few, and warn of those that are too many."""
    if dataset.file_meta.TransferSyntaxUID not in _NATIVE:
        return []
    needed = dataset.Rows * dataset.Columns * dataset.BitsAllocated // 8
    held = len(dataset.PixelData)
    if held < needed:
        raise FilmError(f"Pixel Data of {held:,} bytes, expected {needed:,} from Rows and Columns; fetch it again")
    if held > needed + needed % 2:
        return [f"Pixel Data of {held:,} bytes, expected {needed:,} from Rows and Columns; the rest was left out"]
    return []


def _check_frame(dataset: "Dataset") -> None:
    frame = _first_frame_header(dataset)
    if frame is None:
        raise FilmError(f"the pixels are not {dataset.file_meta.TransferSyntaxUID.name}; fetch the film again")
    if (frame.rows, frame.columns, frame.components) != (dataset.Rows, dataset.Columns, 1):
        raise FilmError(
            f"the compressed frame is {frame.rows} x {frame.columns} of {frame.components} components, the header says "
            f"{dataset.Rows} x {dataset.Columns} of 1; fetch the film again"
        )
