"""What the service says about a film: JSON, an overlay, maps for the viewer, a DICOM report."""

import base64
from dataclasses import dataclass
from io import BytesIO
from typing import Any, Protocol

import numpy as np
from PIL import Image

from clarity_cxr import __version__
from clarity_cxr.anatomy.film_check import check_any_size
from clarity_cxr.errors import FilmError
from clarity_cxr.inference.overlay import prediction_overlay
from clarity_cxr.inference.prediction import FilmPrediction
from clarity_cxr.localization.drawing import FINDING_COLOURS
from clarity_cxr.serve.films import Film

NOTICE = "For research use only. Not a medical device, not for diagnosis."


class FilmPredictor(Protocol):
    """What predicts: a checkpoint in torch, or an exported model."""

    def predict(self, film: np.ndarray) -> FilmPrediction:
        """Predict one film (H, W) uint8."""
        ...


@dataclass(frozen=True)
class ServedModel:
    """A predictor and what is told about it.

    Attributes:
        predictor: applied to every film.
        name: the model's registered name.
        digest: SHA-256 of the checkpoint that it comes from.
    """

    predictor: FilmPredictor
    name: str
    digest: str

    def describe(self) -> dict[str, str]:
        """The model as plain values."""
        return {"name": self.name, "checkpoint_sha256": self.digest, "clarity_cxr": __version__}


def as_json(model: ServedModel, film: Film) -> dict[str, Any]:
    """Probabilities, decisions, boxes in the film's pixels, and what speaks against the film."""
    return _content(model, film, model.predictor.predict(film.pixels))


def as_overlay(model: ServedModel, film: Film) -> bytes:
    """The film with heat and boxes of what was decided positive, as PNG."""
    return _png(prediction_overlay(film.pixels, model.predictor.predict(film.pixels)))


def as_report(model: ServedModel, film: Film) -> bytes:
    """A DICOM structured report that refers to the film.

    Raises:
        FilmError: the film is not DICOM, or its header lacks what a report needs.
    """
    from clarity_cxr.dicom.writing import structured_report

    if film.dicom is None:
        raise FilmError("a structured report refers to a DICOM film; this film is a PNG or JPEG, send the DICOM file")
    report = structured_report(film.dicom, model.predictor.predict(film.pixels), model.digest)
    buffer = BytesIO()
    report.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()


def as_maps(model: ServedModel, film: Film) -> dict[str, Any]:
    """The JSON, and all that the viewer draws.

    `film` is a PNG; `heatmaps` (C, S, S) are little-endian uint16 of 0 to 65535 for heat of 0 to 1, `attention`
    (C, N, N) bytes of 0 to 255 of each map's peak, `masks` (C, N, N) bytes of 0 or 1; all base64, in the order of
    `findings`.
    """
    prediction = model.predictor.predict(film.pixels)
    peak = prediction.attention.max(axis=(1, 2), keepdims=True)
    attention = prediction.attention / np.maximum(peak, np.finfo(np.float32).tiny)
    return _content(model, film, prediction) | {
        "dicom": film.dicom is not None,
        "findings": list(prediction.probabilities),
        "colours": {name: list(FINDING_COLOURS[name]) for name in prediction.probabilities},
        "box_thresholds": prediction.thresholds,
        "side": prediction.heatmaps.shape[-1],
        "grid": prediction.attention.shape[-1],
        "film": _base64(_png(Image.fromarray(film.pixels))),
        "heatmaps": _base64(np.round(prediction.heatmaps * 65535).astype("<u2").tobytes()),
        "attention": _base64(np.round(attention * 255).astype(np.uint8).tobytes()),
        "masks": _base64(prediction.masks.astype(np.uint8).tobytes()),
    }


def _content(model: ServedModel, film: Film, prediction: FilmPrediction) -> dict[str, Any]:
    warnings = [*film.warnings, *check_any_size([film.pixels])[0].reasons]
    return prediction.to_json() | {"warnings": warnings, "model": model.describe(), "notice": NOTICE}


def _png(image: Image.Image) -> bytes:
    buffer = BytesIO()
    image.save(buffer, format="PNG", compress_level=1)
    return buffer.getvalue()


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")
