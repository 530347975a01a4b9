"""An exported model applied to films, with onnxruntime and NumPy alone: no torch, and Pillow only to read film files.

    python -m clarity_cxr.inference.runner model.onnx film.png

prints the prediction as JSON. Where torch is not wanted, install with `pip install onnxruntime numpy` and
`pip install --no-deps clarity-cxr`.
"""

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from clarity_cxr.calibration import Calibration, OperatingPoint, decision_rule
from clarity_cxr.errors import CheckpointError, ClarityError
from clarity_cxr.inference.engines import MAPS, Engine, ExportBackend, open_engine
from clarity_cxr.inference.prediction import FilmPrediction, as_grey, assemble_prediction

FORMAT_VERSION = 1


class OnnxPredictor:
    """An exported model; it predicts as `clarity_cxr.inference.predictor.Predictor` does.

    Args:
        path: a file written by `clarity export`.
        decision_threshold: the model's own probability, before calibration, from which a finding is decided positive.
        operating_point: decide at this operating point of the model's calibration instead.
        threads: threads of one call; None is one per core.
        backend: what runs the model.
        streams: forward passes at once within one call, see `open_engine`.

    Raises:
        CheckpointError: the file is missing, not ONNX, or was not written by `clarity export`.
        ClarityError: the threshold is not in [0, 1], the model has no operating points, or the backend is missing.
    """

    def __init__(
        self,
        path: str | Path,
        *,
        decision_threshold: float = 0.5,
        operating_point: OperatingPoint | None = None,
        threads: int | None = None,
        backend: ExportBackend = "onnxruntime",
        streams: int = 1,
    ) -> None:
        self.backend = backend
        self._engine = open_engine(Path(path), backend, threads, streams)
        self.metadata = _read_metadata(Path(path), self._engine)
        self.findings = tuple(self.metadata["findings"])
        self.image_size = int(self.metadata["image_size"])
        self.thresholds: dict[str, float] = self.metadata["thresholds"]
        fitted = self.metadata["calibration"]
        calibration = None if fitted is None else Calibration.from_dict(fitted)
        self.decision_threshold = decision_threshold
        self.rule = decision_rule(calibration, self.findings, decision_threshold, operating_point)

    def predict(self, film: np.ndarray | Path | str) -> FilmPrediction:
        """Predict one film; see `predict_batch`."""
        return self.predict_batch([film])[0]

    def predict_batch(self, films: Sequence[np.ndarray | Path | str]) -> list[FilmPrediction]:
        """Predict several films; those of one size go through the model together.

        Args:
            films: files, or grey arrays (H, W): uint8 in 0..255, uint16 in 0..65535, or floats in [0, 1],
                with air dark and bone bright as in the NIH release.

        Raises:
            FilmError: a file cannot be decoded, or an array is not a grey film.
        """
        grey = [as_grey(film) for film in films]
        predictions: dict[int, FilmPrediction] = {}
        for shape in dict.fromkeys(film.shape for film in grey):
            positions = [position for position, film in enumerate(grey) if film.shape == shape]
            maps = self.maps(np.stack([grey[position] for position in positions]))
            for row, position in enumerate(positions):
                of_film = {name: values[row] for name, values in maps.items()}
                predictions[position] = assemble_prediction(self.findings, shape, of_film, self.thresholds, self.rule)
        return [predictions[position] for position in range(len(grey))]

    def maps(self, films: np.ndarray) -> dict[str, np.ndarray]:
        """The maps of films (B, H, W) uint8; `rule` calibrates, so the probabilities are those before calibration."""
        return dict(zip(("probabilities", *MAPS), self._engine.run(films), strict=True))


def _read_metadata(path: Path, engine: Engine) -> dict[str, Any]:
    if engine.header is None:
        raise CheckpointError(f"{path}: ONNX without a CLARiTy header; expected a file written by `clarity export`")
    content = json.loads(engine.header)
    if content["format_version"] != FORMAT_VERSION:
        raise CheckpointError(
            f"{path}: export format {content['format_version']}, this version reads {FORMAT_VERSION}; export it again"
        )
    return content


def main(arguments: Sequence[str]) -> int:
    """Print the predictions of films as JSON, one line each."""
    if len(arguments) < 2:
        print("usage: python -m clarity_cxr.inference.runner MODEL.onnx FILM [FILM ...]", file=sys.stderr)
        return 2
    try:
        predictor = OnnxPredictor(arguments[0])
        for film in arguments[1:]:
            print(json.dumps({"film": film} | predictor.predict(film).to_json(), allow_nan=False))
    except ClarityError as error:
        print(error, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
