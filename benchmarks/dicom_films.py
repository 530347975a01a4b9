"""Which DICOM films are read, how exactly, and what broken ones are told.

python benchmarks/dicom_films.py FILM...

Each film is read as it is and rewritten in every transfer syntax (dcmcjpeg of Debian's dcmtk writes the JPEG kinds);
the largest difference is in shades of 255 to the film as it is. The first film is then broken in every known way: each
must be one sentence, within a bounded memory. pydicom's own test files that are radiographs are read as they are.
"""

import argparse
import resource
import time
from pathlib import Path
from typing import Any

import numpy as np
from pydicom import dcmread
from pydicom.data import get_testdata_files

from clarity_cxr.dicom.reading import is_dicom, read_film
from clarity_cxr.errors import FilmError
from dicom_samples import broken, decoded, transcodings
from record import record


def described(name: str, source: Path | bytes) -> tuple[dict[str, Any], np.ndarray | None]:
    """A row about a film, and its pixels."""
    started = time.perf_counter()
    try:
        film = read_film(source)
    except FilmError as error:
        return {"film": name, "read": "no", "says": str(error).split(": ", 1)[1]}, None
    seconds = round(time.perf_counter() - started, 3)
    header = film.header
    stored = f"{header.PhotometricInterpretation} {header.BitsStored} of {header.BitsAllocated} bits"
    size = f"{header.Columns} x {header.Rows}"
    row = {"film": name, "stored": stored, "size": size, "read": "yes", "seconds": seconds}
    return row | {"says": "; ".join(film.warnings)}, film.pixels


def read_rows(paths: list[Path]) -> list[dict[str, Any]]:
    rows = []
    for path in paths:
        row, expected = described(f"{path.stem}, as it is: {dcmread(path).file_meta.TransferSyntaxUID.name}", path)
        rows.append(row)
        for name, data in transcodings(decoded(path)):
            row, pixels = described(f"{path.stem}: {name}", data)
            if pixels is not None and expected is not None:
                row["largest_difference"] = int(np.abs(pixels.astype(int) - expected).max())
            rows.append(row)
    return rows


def radiographs() -> list[Path]:
    """pydicom's own test files of modality CR, DX, DR, RG or PX."""
    found = []
    for path in map(Path, sorted(get_testdata_files("**/*"))):
        if path.is_dir() or not is_dicom(path):
            continue
        header = dcmread(path, force=True, stop_before_pixels=True)
        if header.get("Modality") in ("CR", "DX", "DR", "RG", "PX") and "Rows" in header:
            found.append(path)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("films", type=Path, nargs="+", metavar="FILM")
    films = parser.parse_args().films
    rows = read_rows(films)
    rows += [described(f"pydicom {'/'.join(path.parts[-3:])}", path)[0] for path in radiographs()]
    record("dicom_films", rows, films=len(rows))
    refusals = [described(name, data)[0] for name, data in broken(decoded(films[0]))]
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    record("dicom_broken_films", refusals, films=len(refusals), peak_memory_mb=peak)


if __name__ == "__main__":
    main()
