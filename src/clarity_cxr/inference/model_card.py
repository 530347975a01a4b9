"""The model card of a checkpoint: what it is, where it comes from and how good it is; from header and evaluation."""

from collections.abc import Mapping
from typing import Any

from huggingface_hub import EvalResult, ModelCardData

from clarity_cxr.models import CheckpointMetadata

WEIGHTS_FILE = "model.safetensors"
"""Name that a shared checkpoint has."""
_TASKS = {"macro AUC": "auc", "MSLI, protocol `all`": "msli"}


def model_card(metadata: CheckpointMetadata, digest: str, evaluation: Mapping[str, Any] | None, license_: str) -> str:
    """A model card in Markdown, its front matter as the Hugging Face hub reads it.

    Args:
        metadata: header of the checkpoint.
        digest: SHA-256 of its file.
        evaluation: content of its `evaluation.json`, if there is one.
        license_: of the weights, as the hub spells it, e.g. `apache-2.0` or `other`.
    """
    figures = {} if evaluation is None else _figures(evaluation)
    front = ModelCardData(
        library_name="clarity-cxr",
        license=license_,
        pipeline_tag="image-classification",
        tags=["chest-x-ray", "weakly-supervised-localization", "vision-transformer", "medical-imaging"],
        model_name=metadata.config.name,
        eval_results=[
            EvalResult(
                task_type="image-classification",
                dataset_type="clarity-cxr-store",
                dataset_name=str(evaluation["store"]["fingerprint"])[:12],
                metric_type=_TASKS[name],
                metric_name=name,
                metric_value=value,
            )
            for name, (value, _) in figures.items()
            if evaluation is not None
        ],
    )
    parts = [
        f"---\n{front.to_yaml().strip()}\n---",
        f"# {metadata.config.name}\n\n{_INTRODUCTION}",
        _use(),
        _table("Model", _model_rows(metadata, digest)),
        _table("Training", _training_rows(metadata.provenance)),
        _evaluation_part(evaluation, figures),
        _LIMITS,
    ]
    return "\n\n".join(parts) + "\n"


_INTRODUCTION = (
    "CLARiTy says which of the 14 findings of NIH ChestX-ray14 a frontal chest film shows, and where, learned from "
    "image labels alone (Statheros, Wang and Klein).\n\n**For research use only. Not a medical device, not for "
    "diagnosis.**"
)
_LIMITS = (
    "## Limits\n\nMade for upright frontal films of adults. The labels of NIH ChestX-ray14 were read from reports by a "
    "program and are wrong in places. Heatmaps show what the model attends to, which need not be what is there. "
    "Figures on one hospital's films say little about another's: evaluate on your own before you rely on any."
)


def _use() -> str:
    code = 'import clarity_cxr\n\nprediction = clarity_cxr.load("model.safetensors").predict("film.png")'
    return f"## Use\n\n```python\n{code}\nprediction.probabilities, prediction.boxes, prediction.heatmaps\n```"


def _model_rows(metadata: CheckpointMetadata, digest: str) -> dict[str, Any]:
    config = metadata.config
    calibration = metadata.calibration
    return {
        "input": f"one grey film, {config.image_size} x {config.image_size} pixels after resizing",
        "patches": f"{config.grid} x {config.grid}",
        "width, depth, heads": f"{config.width}, {config.depth}, {config.heads}",
        "SegmentCAM": "yes" if config.segment_cam else "no",
        "probabilities": "not calibrated" if calibration is None else f"calibrated ({calibration.method})",
        "box thresholds": "searched" if metadata.thresholds else "0.5, not searched",
        "SHA-256 of the weights": f"`{digest}`",
    }


def _training_rows(provenance: Mapping[str, Any]) -> dict[str, Any]:
    """What the header says of the training; its sections as `key value` lists, without what was left at its default."""
    rows: dict[str, Any] = {}
    for key, value in provenance.items():
        if isinstance(value, Mapping):
            rows[key] = ", ".join(f"{name} {_short(item)}" for name, item in value.items() if item is not None)
        else:
            rows[key] = _short(value)
    return rows


def _evaluation_part(evaluation: Mapping[str, Any] | None, figures: Mapping[str, tuple[float, Any]]) -> str:
    if evaluation is None:
        return "## Evaluation\n\nNone was given with these weights."
    rows = {name: f"{value:.3f}{_interval(interval)}" for name, (value, interval) in figures.items()}
    store = evaluation["store"]
    films = store["manifest"]["splits"]["test"]
    text = f"On the {films:,} test films of the store with fingerprint `{store['fingerprint'][:12]}`."
    lines = ["| finding | AUC | 95 % |", "|---|---|---|"]
    for finding, values in evaluation["per_finding"].items():
        lines.append(f"| {finding.replace('_', ' ')} | {_short(values['auc'])} | {_interval(values['auc_interval'])} |")
    return f"{_table('Evaluation', rows)}\n\n{text}\n\n" + "\n".join(lines)


def _figures(evaluation: Mapping[str, Any]) -> dict[str, tuple[float, Any]]:
    """The defined ones of the headline figures, each with its interval."""
    intervals = evaluation["intervals"]
    figures = {
        "macro AUC": (evaluation["macro_auc"], intervals["macro_auc"]),
        "MSLI, protocol `all`": (evaluation["msli"]["all"], intervals["msli"]["all"]),
    }
    return {name: pair for name, pair in figures.items() if pair[0] is not None}


def _table(title: str, rows: Mapping[str, Any]) -> str:
    lines = [f"| {key} | {value} |" for key, value in rows.items()] or ["| | nothing is stored in the header |"]
    return "\n".join([f"## {title}\n", "| | |", "|---|---|", *lines])


def _interval(interval: Any) -> str:
    return "" if interval is None else f" ({interval[0]:.3f} to {interval[1]:.3f})"


def _short(value: Any) -> str:
    if value is None:
        return "–"
    return f"{value:.4g}" if isinstance(value, float) else str(value)
