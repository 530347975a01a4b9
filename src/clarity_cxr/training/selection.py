"""How each kind of model is scored during training and how its best weights are kept."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from clarity_cxr.data.store import FilmStore
from clarity_cxr.evaluation.classifier import teacher_probabilities
from clarity_cxr.evaluation.validation import validation_scores
from clarity_cxr.metrics import macro_auc
from clarity_cxr.models import Clarity, save_checkpoint
from clarity_cxr.models.teacher import Teacher, save_teacher
from clarity_cxr.training.config import RunConfig


@dataclass(frozen=True)
class Selection:
    """Which epoch's weights are the best, and what becomes of them.

    Attributes:
        scores: validation scores of the model by name, as far as they are defined for its kind.
        value: the score to maximise over epochs; NaN is never the best.
        save: writes the model, given a path and its provenance.
    """

    scores: dict[str, float]
    value: float
    save: Callable[[Path, Mapping[str, Any]], None]


def select(model: Clarity | Teacher, films: FilmStore, run: RunConfig) -> Selection:
    """Validate a model where it is: CLARiTy by UDP, a teacher by macro AUC.

    Args:
        model: left in the mode it came in.
        films: prepared films of its size.
        run: batch size and precision.
    """
    device, bfloat16 = next(model.parameters()).device, run.precision == "bf16-mixed"
    if isinstance(model, Teacher):
        return _select_teacher(model, films, device, run.evaluation_batch_size, bfloat16)
    scores = validation_scores(model, films, device=device, batch_size=run.evaluation_batch_size, bfloat16=bfloat16)

    def save(path: Path, provenance: Mapping[str, Any]) -> None:
        save_checkpoint(path, model, thresholds=scores["thresholds"], provenance=provenance)

    named = {"macro_auc": scores["macro_auc"], "msli": scores["msli"], "udp": scores["udp"]}
    return Selection(named, scores["selection"], save)


def _select_teacher(
    teacher: Teacher, films: FilmStore, device: torch.device, batch_size: int, bfloat16: bool
) -> Selection:
    rows = films.rows("val")
    probabilities = teacher_probabilities(teacher, films, rows, device=device, batch_size=batch_size, bfloat16=bfloat16)
    auc = macro_auc(probabilities, films.labels[rows], films.labelled[rows]).value

    def save(path: Path, provenance: Mapping[str, Any]) -> None:
        save_teacher(path, teacher, provenance)

    return Selection({"macro_auc": auc}, auc, save)
