"""All figures of one model's predictions on a store.

Thresholds are chosen on the localisation-validation films and scored on the localisation-test films, for the model and
for every control alike; AUC is over the whole test split.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from clarity_cxr.calibration import Calibration
from clarity_cxr.data.store import FilmStore
from clarity_cxr.errors import ConfigError
from clarity_cxr.evaluation.calibration import fit_calibration, summarise_calibration
from clarity_cxr.evaluation.controls import CONTROLS, mean_maps, model_maps, prior_maps, random_maps
from clarity_cxr.evaluation.intervals import PatientDraws, draw_patients, percentile_interval
from clarity_cxr.evaluation.predictions import Predictions
from clarity_cxr.evaluation.protocols import (
    PEER_PROTOCOLS,
    PROTOCOLS,
    FindingScores,
    MapSource,
    ProtocolName,
    TruthBoxes,
    read_truth,
    score_peers,
    score_protocols,
    search_protocols,
)
from clarity_cxr.evaluation.size import recall_by_size
from clarity_cxr.evaluation.subgroups import summarise_subgroups
from clarity_cxr.evaluation.summary import (
    Classification,
    Localization,
    compare_with_controls,
    summarise_classification,
    summarise_localization,
)
from clarity_cxr.findings import BOXED_FINDINGS, FINDINGS
from clarity_cxr.localization.thresholds import Threshold, threshold_values
from clarity_cxr.metrics import macro_auc, udp

FORMAT_VERSION = 1


@dataclass(frozen=True)
class EvaluationOptions:
    """How to evaluate.

    Args:
        batch_size: films per forward pass.
        device: where the model runs, e.g. "cpu" or "cuda".
        bfloat16: run the forward pass under bfloat16 autocast.
        replicates: bootstrap replicates behind the 95 % intervals.
        decision_threshold: probability from which a finding is predicted positive.
        udp_protocol: protocol behind `udp`; all three are in `udp_by_protocol`.
        seed: of the bootstrap and of the random control.
    """

    batch_size: int = 64
    device: str = "cpu"
    bfloat16: bool = False
    replicates: int = 1000
    decision_threshold: float = 0.5
    udp_protocol: ProtocolName = "paper"
    seed: int = 0

    def __post_init__(self) -> None:
        problems = [
            f"{name} is {getattr(self, name)}; expected at least 1"
            for name in ("batch_size", "replicates")
            if getattr(self, name) < 1
        ]
        if not 0 <= self.decision_threshold <= 1:
            problems.append(f"decision_threshold is {self.decision_threshold}; expected a probability from 0 to 1")
        if self.udp_protocol not in PROTOCOLS:
            problems.append(f"udp_protocol is {self.udp_protocol!r}; expected one of {', '.join(PROTOCOLS)}")
        if problems:
            raise ConfigError("evaluation: " + "; ".join(problems))


@dataclass(frozen=True)
class SourceScores:
    """One source of maps: its thresholds, and its scores on the boxes they were chosen on and on the test boxes.

    `peers` holds the test boxes' scores under the other methods' protocols, `boxes` what each test box was scored.
    """

    thresholds: dict[ProtocolName, dict[str, Threshold]]
    validation: Localization
    test: Localization
    peers: Localization
    boxes: dict[ProtocolName, dict[str, FindingScores]]


class Scored(NamedTuple):
    """`figures` is the content of `evaluation.json` without its origin, `boxes` that of `evaluation_boxes.csv`."""

    figures: dict[str, Any]
    boxes: pd.DataFrame


def score(
    predictions: Predictions,
    store: FilmStore,
    grid: int,
    options: EvaluationOptions,
    calibration: Calibration | None = None,
) -> Scored:
    """All figures of one model's predictions.

    Args:
        predictions: of the validation and test films, with maps of both localisation halves.
        store: the films they belong to.
        grid: N, on which the random control is drawn.
        options: how to evaluate.
        calibration: of the checkpoint; without one, it is fitted on the validation films here.

    Returns:
        The figures, NaN or None where one is undefined, and the test boxes one by one.
    """
    patients = store.patients
    test, boxed, val = store.rows("test"), store.localization_rows("test"), store.rows("val")
    draws = draw_patients(patients[np.concatenate([test, boxed])], options.replicates, options.seed)
    classification = summarise_classification(
        predictions.probabilities_of(test), store.labels[test], patients[test], draws, store.labelled[test]
    )
    validation_auc = macro_auc(predictions.probabilities_of(val), store.labels[val], store.labelled[val])
    truth = {
        part: read_truth(store, part, predictions.probabilities_of, options.decision_threshold)
        for part in ("val", "test")
    }
    reason = _no_boxes(truth)
    sources = {} if reason else _sources(predictions, store, grid, options.seed)
    scores = {name: _score_source(source, truth, store.size, draws, options) for name, source in sources.items()}
    model = scores.pop("model", None)
    boxes = _box_table(store, truth["test"], predictions, model)
    figures = {
        "format_version": FORMAT_VERSION,
        **_headline(classification, model, options),
        "localization": {"scored": reason is None, "reason": reason},
        **_comparison(scores, model, predictions, _control_reasons(reason, store)),
        "per_finding": _per_finding(classification, model, scores),
        "validation": {
            "macro_auc": validation_auc.value,
            "findings_in_mean": validation_auc.defined,
            "msli": model.validation.msli if model else dict.fromkeys(PROTOCOLS),
            "udp": udp(validation_auc.value, model.validation.msli[options.udp_protocol]) if model else None,
        },
        "splits": _split_counts(store),
        "protocols": {name: rule.description for name, rule in PROTOCOLS.items()},
        "protocol_rules": {
            name: rule.to_dict() | {"decision_threshold": options.decision_threshold}
            for name, rule in {**PROTOCOLS, **PEER_PROTOCOLS}.items()
        },
        "peer_protocols": _peer_figures(model, scores),
        "calibration": _calibration(predictions, store, calibration),
        "recall_by_size": recall_by_size(boxes, draws),
        "subgroups": summarise_subgroups(
            store.index.iloc[test].reset_index(drop=True),
            predictions.probabilities_of(test),
            store.labels[test],
            draws,
            options.decision_threshold,
            store.labelled[test],
        ),
        "options": asdict(options),
    }
    return Scored(figures, boxes)


def _sources(predictions: Predictions, store: FilmStore, grid: int, seed: int) -> dict[str, MapSource]:
    sources = {"model": model_maps(predictions, store.size), "random": random_maps(store, grid, seed)}
    if store.priors is not None:
        sources["prior"] = prior_maps(store)
    return {**sources, "mean": mean_maps(predictions, store.size)}


def _score_source(
    source: MapSource,
    truth: Mapping[str, Mapping[str, TruthBoxes]],
    size: int,
    draws: PatientDraws,
    options: EvaluationOptions,
) -> SourceScores:
    thresholds, on_validation = search_protocols(source, truth["val"], size)
    on_test = score_protocols(source, truth["test"], size, thresholds)
    peers = score_peers(source, truth["test"], size)
    val_patients = np.concatenate([boxes.patients for boxes in truth["val"].values()])
    return SourceScores(
        thresholds,
        summarise_localization(on_validation, draw_patients(val_patients, options.replicates, options.seed)),
        summarise_localization(on_test, draws),
        summarise_localization(peers, draws),
        on_test,
    )


def _headline(classification: Classification, model: SourceScores | None, options: EvaluationOptions) -> dict[str, Any]:
    """Macro figures of the model and their intervals."""
    intervals: dict[str, Any] = {
        "level": 0.95,
        "method": "percentile bootstrap over patients, thresholds held",
        "replicates": options.replicates,
        "macro_auc": percentile_interval(classification.macro_replicates),
    }
    figures: dict[str, Any] = {
        "macro_auc": classification.macro,
        "findings_in_mean": classification.findings_in_mean,
        "udp_protocol": options.udp_protocol,
    }
    nothing = dict.fromkeys(PROTOCOLS)
    if model is None:
        figures |= {"msli": nothing, "msli_without_cardiomegaly": nothing, "msli_findings_in_mean": nothing}
        figures |= {"iou_accuracy": nothing, "udp": None, "udp_by_protocol": nothing, "thresholds": None}
        intervals |= {
            "msli": nothing,
            "msli_without_cardiomegaly": nothing,
            "iou_accuracy": nothing,
            "udp": None,
            "udp_by_protocol": nothing,
        }
        return {**figures, "intervals": intervals}
    udps = {name: udp(classification.macro, value) for name, value in model.test.msli.items()}
    udp_intervals = {
        name: percentile_interval((classification.macro_replicates + replicates) / 2)
        for name, replicates in model.test.msli_replicates.items()
    }
    figures |= {
        "msli": model.test.msli,
        "msli_without_cardiomegaly": model.test.msli_without_cardiomegaly,
        "msli_findings_in_mean": model.test.findings_in_mean,
        "iou_accuracy": model.test.iou_accuracy,
        "udp": udps[options.udp_protocol],
        "udp_by_protocol": udps,
        "thresholds": _threshold_values(model),
    }
    intervals |= {**model.test.intervals, "udp": udp_intervals[options.udp_protocol], "udp_by_protocol": udp_intervals}
    return {**figures, "intervals": intervals}


def _comparison(
    controls: Mapping[str, SourceScores],
    model: SourceScores | None,
    predictions: Predictions,
    reasons: Mapping[str, str | None],
) -> dict[str, Any]:
    """The controls, and the model against the best of them."""
    nothing = dict.fromkeys(PROTOCOLS)
    content: dict[str, Any] = {}
    for name, description in CONTROLS.items():
        content[name] = {"description": description, "reason": reasons[name]}
        if name in controls:
            test = controls[name].test
            content[name] |= {"msli": test.msli, "msli_without_cardiomegaly": test.msli_without_cardiomegaly}
            content[name] |= {"intervals": test.intervals, "thresholds": _threshold_values(controls[name])}
        else:
            content[name] |= {"msli": nothing, "msli_without_cardiomegaly": nothing, "intervals": None}
    content["mean"]["films"] = dict(zip(BOXED_FINDINGS, predictions.mean_counts.tolist(), strict=True))
    if model is None:
        return {"controls": content, "best_control": nothing}
    best = compare_with_controls(model.test, {name: control.test for name, control in controls.items()})
    return {"controls": content, "best_control": best}


def _peer_figures(model: SourceScores | None, controls: Mapping[str, SourceScores]) -> dict[str, Any]:
    """Each other method's protocol: its description, and the model's and the controls' figures under it."""

    def figures(source: SourceScores | None, name: str) -> dict[str, Any] | None:
        if source is None:
            return None
        found = source.peers
        return {
            "msli": found.msli[name],
            "msli_interval": found.intervals["msli"][name],
            "findings_in_mean": found.findings_in_mean[name],
            "iou_accuracy": found.iou_accuracy[name],
            "iou_accuracy_interval": found.intervals["iou_accuracy"][name],
            "per_finding": {finding: values[name] for finding, values in found.per_finding.items()},
        }

    return {
        name: {
            "description": rule.description,
            "model": figures(model, name),
            "controls": {control: figures(controls.get(control), name) for control in CONTROLS},
        }
        for name, rule in PEER_PROTOCOLS.items()
    }


def _calibration(predictions: Predictions, store: FilmStore, stored: Calibration | None) -> dict[str, Any]:
    """What calibration does to the test films; fitted on the validation films if the checkpoint has none."""
    val, test = store.rows("val"), store.rows("test")
    used = stored or fit_calibration(predictions.probabilities_of(val), store.labels[val], store.labelled[val])
    return {
        "source": "checkpoint" if stored else "fitted on the validation films here; the checkpoint holds none",
        "method": used.method,
        "fitted_on": used.fitted_on,
        "per_finding": summarise_calibration(
            predictions.probabilities_of(test), store.labels[test], used, store.labelled[test]
        ),
    }


def _box_table(
    store: FilmStore, truth: Mapping[str, TruthBoxes], predictions: Predictions, model: SourceScores | None
) -> pd.DataFrame:
    """One row per localisation-test box: film, finding, probability, and its best IoU under each protocol.

    Boxes are in fractions of the film's sides; a protocol's IoU is empty where it leaves the box out.
    """
    if model is None:
        return pd.DataFrame()
    parts = []
    for finding, boxes in truth.items():
        part = {
            "image_id": store.index["image_id"].to_numpy()[boxes.rows],
            "patient_id": boxes.patients,
            "finding": finding,
            **dict(zip(("x0", "y0", "x1", "y1"), (boxes.boxes / store.size).T, strict=True)),
            "probability": predictions.probabilities_of(boxes.rows)[:, FINDINGS.index(finding)],
        }
        for name in PROTOCOLS:
            found = model.boxes[name][finding]
            overlaps = np.full(len(boxes.rows), np.nan)
            overlaps[found.counted] = found.overlaps
            part[f"iou_{name}"] = overlaps
        parts.append(pd.DataFrame(part))
    return pd.concat(parts, ignore_index=True)


def _per_finding(
    classification: Classification, model: SourceScores | None, controls: Mapping[str, SourceScores]
) -> dict[str, Any]:
    """AUC of each of the 14; `localization` and `controls` of the eight that have boxes, null for the others."""

    def of(source: SourceScores | None, finding: str) -> Any:
        return None if source is None else source.test.per_finding.get(finding)

    return {
        finding: {
            **classification.per_finding[finding],
            "localization": of(model, finding),
            "controls": {name: of(controls.get(name), finding) for name in CONTROLS},
        }
        for finding in FINDINGS
    }


def _threshold_values(source: SourceScores) -> dict[str, dict[str, float]]:
    return {name: threshold_values(chosen) for name, chosen in source.thresholds.items()}


def _no_boxes(truth: Mapping[str, Mapping[str, TruthBoxes]]) -> str | None:
    """Why localisation cannot be scored, or None."""
    for part, needed in (("val", "to choose thresholds on"), ("test", "to score")):
        if not any(len(boxes.rows) for boxes in truth[part].values()):
            return f"the store has no boxes in its localisation-{part} films {needed}"
    return None


def _control_reasons(reason: str | None, store: FilmStore) -> dict[str, str | None]:
    """Why a control has no figures, or None."""
    reasons = dict.fromkeys(CONTROLS, reason)
    if store.priors is None:
        reasons["prior"] = "the store has no anatomical priors"
    return reasons


def _split_counts(store: FilmStore) -> dict[str, dict[str, int]]:
    """Films and patients of each split; boxes too of the localisation halves."""
    patients = store.index["patient_id"]
    parts = {split: store.rows(split) for split in ("train", "val", "test")}
    parts |= {f"localization_{half}": store.localization_rows(half) for half in ("val", "test")}
    counts = {
        name: {"films": len(rows), "patients": int(patients.iloc[rows].nunique())} for name, rows in parts.items()
    }
    for half in ("val", "test"):
        counts[f"localization_{half}"]["boxes"] = int(store.boxes["row"].isin(parts[f"localization_{half}"]).sum())
    return counts
