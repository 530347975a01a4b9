"""The films that a DICOMDIR lists."""

from pathlib import Path, PurePosixPath

from clarity_cxr.dicom.reading import DIRECTORY_CLASS, require_extra, storage_class
from clarity_cxr.errors import ClarityError


def is_directory(path: Path) -> bool:
    """Whether a file is a DICOMDIR, by its name or by its storage class."""
    return path.name.upper() == "DICOMDIR" or storage_class(path) == DIRECTORY_CLASS


def directory_films(path: Path) -> list[Path]:
    """The files of a DICOMDIR's image records, in its order.

    Raises:
        ClarityError: it cannot be read, names a file outside its folder, or the DICOM extra is not installed.
    """
    require_extra()
    from pydicom import dcmread

    try:
        records = dcmread(path).DirectoryRecordSequence
        names = [_parts(record.ReferencedFileID) for record in records if record.DirectoryRecordType == "IMAGE"]
    except Exception as error:  # a damaged file makes pydicom raise nearly anything
        raise ClarityError(f"{path}: not a DICOMDIR that can be read ({type(error).__name__})") from None
    for name in names:
        if ".." in name or PurePosixPath(*name).is_absolute():
            raise ClarityError(f"{path}: names a file outside its folder ({'/'.join(name)}); refused")
    return [path.parent.joinpath(*name) for name in names]


def _parts(file_id: object) -> list[str]:
    return [file_id] if isinstance(file_id, str) else [str(part) for part in file_id]  # pyright: ignore[reportGeneralTypeIssues]
