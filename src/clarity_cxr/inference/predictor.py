"""A checkpoint applied to films by torch."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from clarity_cxr.calibration import OperatingPoint, decision_rule
from clarity_cxr.data.images import resize_film
from clarity_cxr.inference.engines import TorchBackend
from clarity_cxr.inference.film_model import FilmModel
from clarity_cxr.inference.prediction import FilmPrediction, as_grey, assemble_prediction, box_thresholds
from clarity_cxr.models import Checkpoint, load_checkpoint
from clarity_cxr.models.device import usable_device


class Predictor:
    """A checkpoint's model in eval mode, with its thresholds and its calibration.

    Args:
        checkpoint: what `clarity_cxr.models.load_checkpoint` returns.
        device: where the model runs, e.g. "cpu" or "cuda".
        decision_threshold: the model's own probability, before calibration, from which a finding is decided positive.
        operating_point: decide at this operating point of the checkpoint instead.
        backend: `torch-bfloat16` runs the model under bfloat16 autocast.

    Raises:
        ClarityError: the device does not exist here, the threshold is not in [0, 1], or the checkpoint has no operating
            points.
    """

    def __init__(
        self,
        checkpoint: Checkpoint,
        *,
        device: str = "cpu",
        decision_threshold: float = 0.5,
        operating_point: OperatingPoint | None = None,
        backend: TorchBackend = "torch",
    ) -> None:
        self.device = usable_device(device)
        self.model = checkpoint.model.to(self.device).eval()
        self.film_model = FilmModel(self.model).eval()
        self.backend = backend
        self.metadata = checkpoint.metadata
        self.findings = checkpoint.metadata.findings
        self.image_size = checkpoint.metadata.image_size
        self.decision_threshold = decision_threshold
        self.rule = decision_rule(checkpoint.metadata.calibration, self.findings, decision_threshold, operating_point)
        self.thresholds = box_thresholds(self.findings, checkpoint.metadata.thresholds)

    def predict(self, film: np.ndarray | Path | str) -> FilmPrediction:
        """Predict one film; see `predict_batch`."""
        return self.predict_batch([film])[0]

    def predict_batch(self, films: Sequence[np.ndarray | Path | str]) -> list[FilmPrediction]:
        """Predict several films, of any sizes, in one forward pass.

        Args:
            films: files, or grey arrays (H, W): uint8 in 0..255, uint16 in 0..65535, or floats in [0, 1],
                with air dark and bone bright as in the NIH release.

        Raises:
            FilmError: a file cannot be decoded, or an array is not a grey film.
        """
        if not films:
            return []
        grey = [as_grey(film) for film in films]
        batch = np.stack([resize_film(film, self.image_size) for film in grey])
        half = self.backend == "torch-bfloat16"
        with torch.inference_mode(), torch.autocast(self.device.type, torch.bfloat16, enabled=half):
            output = self.film_model(torch.from_numpy(batch).to(self.device))
        maps = {name: tensor.cpu().numpy() for name, tensor in output._asdict().items()}
        return [
            assemble_prediction(
                self.findings,
                film.shape,
                {name: values[position] for name, values in maps.items()},
                self.thresholds,
                self.rule,
            )
            for position, film in enumerate(grey)
        ]


def load(
    path: str | Path,
    device: str = "cpu",
    *,
    decision_threshold: float = 0.5,
    operating_point: OperatingPoint | None = None,
    backend: TorchBackend = "torch",
) -> Predictor:
    """Load a checkpoint for prediction.

    Args:
        path: a `.safetensors` checkpoint written by this package.
        device: where the model runs, e.g. "cpu" or "cuda".
        decision_threshold: the model's own probability, before calibration, from which a finding is decided positive.
        operating_point: decide at this operating point of the checkpoint instead.
        backend: `torch-bfloat16` runs the model under bfloat16 autocast.

    Raises:
        CheckpointError: the file is missing, unsafe, damaged, or of another finding set.
        ClarityError: the device does not exist here, the threshold is not in [0, 1], or the checkpoint has no operating
            points.
    """
    checkpoint = load_checkpoint(Path(path))
    return Predictor(
        checkpoint,
        device=device,
        decision_threshold=decision_threshold,
        operating_point=operating_point,
        backend=backend,
    )
