"""Mutated DICOM films by the thousand: each must be read or refused, without a crash, a hang or much memory.

python benchmarks/dicom_fuzz.py [--films 5000]

Small films in every transfer syntax are changed at random places, cut, and stretched, drawn from the film's number. A
process of its own reads them under a limit of address space, so that a decoder that crashes or hangs is counted, named
by the film's number, and the run goes on. Goal: none.
"""

import argparse
import multiprocessing
import resource
from collections import Counter
from multiprocessing.connection import Connection
from typing import Any

import numpy as np
from pydicom import Dataset
from pydicom.dataset import FileMetaDataset
from pydicom.uid import UID, ExplicitVRLittleEndian, generate_uid

from dicom_samples import transcodings
from record import record

SIDE = 64
PATIENCE = 30.0
"""Seconds after which a film counts as a hang; whole ones take a few milliseconds."""
LIMIT = 4 << 30
"""Bytes of address space of the reading process."""


def small_film(bits: int) -> Dataset:
    """A film of 64 x 64 with most attributes that reading looks at."""
    film = Dataset()
    film.file_meta = FileMetaDataset()
    film.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    film.SOPClassUID, film.SOPInstanceUID = UID("1.2.840.10008.5.1.4.1.1.1"), generate_uid(entropy_srcs=[str(bits)])
    film.Modality, film.ViewPosition, film.BodyPartExamined = "CR", "PA", "CHEST"
    film.PatientOrientation = ["L", "F"]
    film.Rows = film.Columns = SIDE
    film.SamplesPerPixel, film.PhotometricInterpretation = 1, "MONOCHROME1"
    film.BitsAllocated, film.BitsStored, film.HighBit = 8 if bits == 8 else 16, bits, bits - 1
    film.PixelRepresentation = 0
    film.WindowCenter, film.WindowWidth = [1 << bits - 1, 3], [1 << bits, 3]
    film.RescaleSlope, film.RescaleIntercept, film.PixelPaddingValue = 1, 0, 0
    rows, columns = np.mgrid[:SIDE, :SIDE]
    values = ((rows * columns) / (SIDE - 1) ** 2 * ((1 << bits) - 1)).astype("u1" if bits == 8 else "<u2")
    film.add_new("PixelData", "OB" if bits == 8 else "OW", values.tobytes())
    return film


def mutated(data: bytes, number: int) -> bytes:
    """A film with some bytes changed and often a piece cut, doubled or filled; the same for the same number."""
    rng = np.random.default_rng(number)
    film = bytearray(data)
    pixels = max(film.find(b"\xe0\x7f\x10\x00"), 128)
    start, end = (128, min(len(film), 1200)) if rng.random() < 0.3 else (pixels, len(film))
    for _ in range(int(rng.geometric(0.3))):
        at = int(rng.integers(start, end))
        film[at] = int(rng.choice([0, 1, 0x7F, 0x80, 0xFF, int(rng.integers(256))]))
    at, length = int(rng.integers(start, end)), int(rng.integers(1, 400))
    kind = rng.integers(8)
    if kind == 0:
        return bytes(film[:at])
    if kind == 1:
        del film[at : at + length]
    if kind == 2:
        film[at:at] = film[at : at + length]
    if kind == 3:
        film[at : at + length] = b"\xff" * length
    return bytes(film)


def read_all(bases: list[bytes], numbers: range, answers: Connection) -> None:
    """Read films one by one and report what became of each."""
    from clarity_cxr.dicom.reading import read_film
    from clarity_cxr.errors import FilmError

    resource.setrlimit(resource.RLIMIT_AS, (LIMIT, LIMIT))
    for number in numbers:
        try:
            read_film(mutated(bases[number % len(bases)], number))
            outcome = "read"
        except FilmError:
            outcome = "refused"
        except Exception as error:
            outcome = f"raised {type(error).__name__}"
        answers.send((number, outcome, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024))
    answers.send(None)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--films", type=int, default=5000)
    films = parser.parse_args().films
    samples = [(f"{name}, {bits} bit", data) for bits in (8, 12) for name, data in transcodings(small_film(bits))]
    bases = [data for _, data in samples]
    outcomes = {name: Counter[str]() for name, _ in samples}
    failures: list[str] = []
    peak = at = 0
    context = multiprocessing.get_context("spawn")
    while at < films:
        receiver, answers = context.Pipe(duplex=False)
        process = context.Process(target=read_all, args=(bases, range(at, films), answers))
        process.start()
        answers.close()
        ended: Any = False
        while not ended:
            outcome = "hung"
            try:
                if receiver.poll(PATIENCE if at else 600):
                    answer = receiver.recv()
                    if answer is None:
                        break
                    at, outcome, memory = answer
                    peak = max(peak, memory)
            except EOFError:
                process.join()
                outcome = f"crashed ({process.exitcode})"
            ended = outcome.startswith(("hung", "crashed"))
            outcomes[samples[at % len(samples)][0]][outcome] += 1
            if outcome not in ("read", "refused"):
                failures.append(f"{at}: {samples[at % len(samples)][0]} {outcome}")
            at += 1
        process.kill()
        process.join()
    rows = [{"film": name, **{key: counts[key] for key in ("read", "refused")}} for name, counts in outcomes.items()]
    record("dicom_fuzz", rows, films=films, failures=failures or "none", peak_memory_mb=peak)


if __name__ == "__main__":
    main()
