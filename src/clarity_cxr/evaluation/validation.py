"""The scores that choose the best epoch: macro AUC on validation, MSLI on localisation-validation, and UDP."""

from typing import TypedDict

import numpy as np
import torch

from clarity_cxr.data.store import FilmStore
from clarity_cxr.evaluation.controls import model_maps
from clarity_cxr.evaluation.intervals import mean_defined
from clarity_cxr.evaluation.predictions import Predictions, predict_store
from clarity_cxr.evaluation.protocols import PROTOCOLS, ProtocolName, read_truth, search_protocols
from clarity_cxr.localization.thresholds import threshold_values
from clarity_cxr.metrics import macro_auc, msli_of_ious, udp
from clarity_cxr.models import Clarity


class ValidationScores(TypedDict):
    """What `validation_scores` returns; a figure that is not defined is NaN.

    `macro_auc` is the mean over `findings_in_mean` findings. `msli` and `udp` follow the chosen protocol;
    `msli_by_protocol` and `udp_by_protocol` hold all three. `thresholds` (finding -> xi, all 14) were chosen under the
    chosen protocol and are what a checkpoint should hold; None without boxes. `selection` is the figure to maximise
    over epochs: `udp`, with an MSLI of 0 for a model that predicts no boxed film positive; or `macro_auc` where the
    store has no localisation-validation boxes.
    """

    macro_auc: float
    findings_in_mean: int
    msli: float
    udp: float
    selection: float
    msli_by_protocol: dict[ProtocolName, float]
    udp_by_protocol: dict[ProtocolName, float]
    thresholds: dict[str, float] | None


def validation_scores(
    model: Clarity,
    store: FilmStore,
    device: torch.device | str = "cpu",
    batch_size: int = 64,
    *,
    udp_protocol: ProtocolName = "paper",
    decision_threshold: float = 0.5,
    bfloat16: bool = False,
    progress: bool = False,
) -> ValidationScores:
    """Score a model on the validation films and the localisation-validation boxes.

    Thresholds are chosen and scored on the same boxes here, for every epoch alike; test figures come from `evaluate`.

    Args:
        model: left in the mode (train or eval) and on the device it came in, if `device` is that device.
        store: prepared films of the model's size.
        device: where to run.
        batch_size: films per forward pass.
        udp_protocol: protocol behind `msli`, `udp` and `thresholds`.
        decision_threshold: probability from which a finding is predicted positive.
        bfloat16: run the forward pass under bfloat16 autocast.
        progress: show a progress bar.
    """
    predictions = predict_store(
        model,
        store,
        store.rows("val"),
        map_rows=store.localization_rows("val"),
        mean_rows=np.zeros(0, dtype=np.int64),
        device=device,
        batch_size=batch_size,
        bfloat16=bfloat16,
        progress=progress,
    )
    return score_validation(predictions, store, udp_protocol=udp_protocol, decision_threshold=decision_threshold)


def score_validation(
    predictions: Predictions,
    store: FilmStore,
    *,
    udp_protocol: ProtocolName = "paper",
    decision_threshold: float = 0.5,
) -> ValidationScores:
    """`validation_scores` of predictions that are there already.

    Args:
        predictions: of the validation films, with maps of the localisation-validation films.
        store: the films that they are of.
        udp_protocol: protocol behind `msli`, `udp` and `thresholds`.
        decision_threshold: probability from which a finding is predicted positive.
    """
    val_rows = store.rows("val")
    auc = macro_auc(predictions.probabilities_of(val_rows), store.labels[val_rows], store.labelled[val_rows])
    truth = read_truth(store, "val", predictions.probabilities_of, decision_threshold)
    if any(len(boxes.rows) for boxes in truth.values()):
        chosen, scores = search_protocols(model_maps(predictions, store.size), truth, store.size)
        msli: dict[ProtocolName, float] = {
            name: float(mean_defined(np.array([msli_of_ious(found.overlaps) for found in scores[name].values()])))
            for name in PROTOCOLS
        }
        thresholds = threshold_values(chosen[udp_protocol])
    else:
        msli = dict.fromkeys(PROTOCOLS, float("nan"))
        thresholds = None
    udps: dict[ProtocolName, float] = {name: udp(auc.value, value) for name, value in msli.items()}
    return ValidationScores(
        macro_auc=auc.value,
        findings_in_mean=auc.defined,
        msli=msli[udp_protocol],
        udp=udps[udp_protocol],
        selection=auc.value if thresholds is None else udp(auc.value, np.nan_to_num(msli[udp_protocol])),
        msli_by_protocol=msli,
        udp_by_protocol=udps,
        thresholds=thresholds,
    )
