"""Synthetic DICOM films, and predictions of them without a model."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from pydicom import Dataset
from pydicom.dataset import FileMetaDataset
from pydicom.uid import UID, ExplicitVRLittleEndian, generate_uid

from clarity_cxr.findings import FINDINGS
from clarity_cxr.inference.prediction import FilmPrediction, assemble_prediction

DX = UID("1.2.840.10008.5.1.4.1.1.1.1")
THRESHOLDS = dict.fromkeys(FINDINGS, 0.5)


def smooth(height: int, width: int, low: int, high: int, seed: int = 0, dtype: Any = np.uint16) -> np.ndarray:
    """A smooth random picture (height, width) from `low` to `high`."""
    coarse = np.random.default_rng(seed).random((6, 6), dtype=np.float32)
    fine = np.asarray(Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC))
    fine = (fine - fine.min()) / (fine.max() - fine.min())
    return np.round(low + fine * (high - low)).astype(dtype)


def make_film(pixels: np.ndarray, bits: int | None = None, **attributes: Any) -> Dataset:
    """A digital chest film of these stored values, explicit little endian; an attribute of None is left out."""
    allocated = 8 * pixels.dtype.itemsize
    film = Dataset()
    film.file_meta = FileMetaDataset()
    film.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    film.SOPClassUID = DX
    film.SOPInstanceUID, film.StudyInstanceUID, film.SeriesInstanceUID = (generate_uid() for _ in range(3))
    film.PatientName, film.PatientID = "Doe^Jane", "4711"
    film.PatientBirthDate, film.PatientSex = "19500101", "F"
    film.StudyDate, film.StudyTime, film.StudyID, film.AccessionNumber = "20240102", "101112", "1", "A1"
    film.ReferringPhysicianName = "Roe^Richard"
    film.Modality, film.ViewPosition, film.BodyPartExamined = "DX", "PA", "CHEST"
    film.PatientOrientation = ["L", "F"]
    film.Rows, film.Columns = pixels.shape
    film.SamplesPerPixel, film.PhotometricInterpretation = 1, "MONOCHROME2"
    film.BitsAllocated, film.BitsStored = allocated, bits or allocated
    film.HighBit = film.BitsStored - 1
    film.PixelRepresentation = int(np.issubdtype(pixels.dtype, np.signedinteger))
    data = pixels.astype(pixels.dtype.newbyteorder("<")).tobytes()
    film.add_new("PixelData", "OB" if allocated == 8 else "OW", data + bytes(len(data) % 2))
    for keyword, value in attributes.items():
        if value is None:
            delattr(film, keyword)
        else:
            setattr(film, keyword, value)
    return film


def save(film: Dataset, path: Path) -> Path:
    """Write a film as a DICOM file, whatever its attributes."""
    film.save_as(path, enforce_file_format=True)
    return path


def predict_with(*positive: str) -> Callable[[np.ndarray], FilmPrediction]:
    """A prediction in which the named findings have probability 0.9 and one square of heat each, the others 0.1."""

    def predict(pixels: np.ndarray) -> FilmPrediction:
        heat = np.zeros((len(FINDINGS), 32, 32), np.float32)
        for number, name in enumerate(positive):
            heat[FINDINGS.index(name), 4 + number : 12 + number, 8:20] = 1
        small = np.zeros((len(FINDINGS), 4, 4), np.float32)
        probabilities = np.array([0.9 if name in positive else 0.1 for name in FINDINGS])
        maps = {"probabilities": probabilities, "heatmaps": heat, "attention": small, "masks": small > 0}
        return assemble_prediction(FINDINGS, pixels.shape, maps, THRESHOLDS, 0.5)

    return predict
