"""Whether a checkpoint's maps explain its predictions, beside other explanations: `explain.json`."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from clarity_cxr.anatomy.store_priors import verify_priors
from clarity_cxr.data.store import FilmStore, open_store
from clarity_cxr.errors import ConfigError, StoreError
from clarity_cxr.evaluation.controls import CONTROLS, mean_maps, model_maps, prior_maps, random_maps
from clarity_cxr.evaluation.evaluate import check_fit
from clarity_cxr.evaluation.explainers import EXPLAINERS, gradcam_maps, rollout_maps, teacher_gradcam_maps
from clarity_cxr.evaluation.intervals import (
    PatientDraws,
    bootstrap_share,
    draw_patients,
    mean_defined,
    percentile_interval,
)
from clarity_cxr.evaluation.map_checks import (
    FRACTIONS,
    Pointing,
    Predict,
    area_under,
    deletion_insertion,
    grid_maps,
    marker_effect,
    randomised_models,
    rank_correlation,
    shift_stability,
)
from clarity_cxr.evaluation.predictions import predict_store
from clarity_cxr.evaluation.protocols import MapSource, TruthBoxes, read_truth, score_protocols, search_protocols
from clarity_cxr.evaluation.summary import plain, summarise_localization
from clarity_cxr.files import file_digest, write_json
from clarity_cxr.findings import BOXED_FINDINGS, FINDINGS
from clarity_cxr.models import Clarity, load_checkpoint
from clarity_cxr.models.device import usable_device
from clarity_cxr.models.teacher import load_teacher
from clarity_cxr.progress import progress_bar

RESULT_FILE = "explain.json"
CURVE_SOURCES = ("model", "gradcam", "rollout", "teacher_gradcam", "random")
"""Sources whose deletion and insertion curves are drawn; all sources play the pointing game."""


@dataclass(frozen=True)
class ExplainOptions:
    """How to check.

    Args:
        films: boxed test films per finding for the curves and the checks on single films; twice the sum for the marker.
        replicates: bootstrap replicates behind the 95 % intervals.
        seed: of the draw of films, the random control, the randomised weights and the bootstrap.
        device: where the models run.
        batch_size: films per forward pass.
    """

    films: int = 24
    replicates: int = 1000
    seed: int = 0
    device: str = "cpu"
    batch_size: int = 64

    def __post_init__(self) -> None:
        problems = [
            f"{name} is {getattr(self, name)}; expected at least 1"
            for name in ("films", "replicates", "batch_size")
            if getattr(self, name) < 1
        ]
        if problems:
            raise ConfigError("explain: " + "; ".join(problems))


@dataclass(frozen=True)
class _Sample:
    """Boxed test films for checks on single films: (n,) rows, and the finding of each."""

    rows: NDArray[np.int64]
    findings: NDArray[np.int64]


def explain(
    checkpoint: Path, store: Path, out: Path, options: ExplainOptions | None = None, teacher: Path | None = None
) -> dict[str, Any]:
    """Check a checkpoint's maps and write `explain.json` into `out`.

    Args:
        checkpoint: `.safetensors` written by training.
        store: a prepared store of its image size, with boxes in both localisation halves.
        out: folder of the result.
        options: how to check; None is `ExplainOptions()`.
        teacher: a teacher's checkpoint of the same image size, whose Grad-CAM is a source of maps too.

    Returns:
        The content of `explain.json`.

    Raises:
        CheckpointError: a checkpoint cannot be used.
        StoreError: the store does not fit, has priors of other films, or no boxes to check against.
        ClarityError: the package grad-cam is not installed, or the result cannot be written.
    """
    options = options or ExplainOptions()
    device = usable_device(options.device)
    loaded = load_checkpoint(checkpoint)
    films = open_store(store)
    check_fit(films, checkpoint, loaded)
    if films.priors is not None:
        verify_priors(films)
    model = loaded.model.to(device).eval()
    halves = {half: films.localization_rows(half) for half in ("val", "test")}
    if not all(len(rows) for rows in halves.values()):
        raise StoreError(f"{store}: no boxes in both localisation halves; maps can only be checked against boxes")
    boxed = np.concatenate(list(halves.values()))
    predictions = predict_store(
        model,
        films,
        boxed,
        map_rows=boxed,
        mean_rows=np.union1d(films.rows("val"), halves["val"]),
        device=device,
        batch_size=options.batch_size,
    )
    truth = {half: read_truth(films, half, predictions.probabilities_of, 0.5) for half in ("val", "test")}
    sources: dict[str, MapSource] = {
        "model": model_maps(predictions, films.size),
        "gradcam": gradcam_maps(model, films, device),
        "rollout": rollout_maps(model, films, device),
    }
    if teacher is not None:
        sources["teacher_gradcam"] = teacher_gradcam_maps(_fitting_teacher(teacher, films), films, device)
    sources["random"] = random_maps(films, model.config.grid, options.seed)
    if films.priors is not None:
        sources["prior"] = prior_maps(films)
    sources["mean"] = mean_maps(predictions, films.size)

    predict = _predictor(model, device, options.batch_size)
    sample = _draw(films, truth["test"], options)
    draws = draw_patients(films.patients[halves["test"]], options.replicates, options.seed)
    result = {
        "format_version": 1,
        "sources": _sources(sources, truth, films, sample, predict, model.config.grid, draws),
        "fractions": FRACTIONS,
        "randomisation": _randomisation(model, films, sample, options.seed),
        "stability": shift_stability(model, predict, films.films[sample.rows], sample.findings.tolist()),
        "marker": _marker(model, films, predict, options),
        "options": asdict(options),
        "checkpoint": {"file": str(checkpoint), "sha256": file_digest(checkpoint)},
        "teacher": None if teacher is None else {"file": str(teacher), "sha256": file_digest(teacher)},
        "store": {"folder": str(store), "fingerprint": films.fingerprint},
    }
    result = plain(result)
    write_json(out / RESULT_FILE, result)
    return result


def _fitting_teacher(path: Path, store: FilmStore) -> Any:
    teacher = load_teacher(path)
    if teacher.config.image_size != store.size:
        raise StoreError(
            f"{path}: the teacher takes {teacher.config.image_size} px, the store's films are {store.size} px; choose "
            "a teacher of this size"
        )
    return teacher


def _predictor(model: Clarity, device: torch.device, batch_size: int) -> Predict:
    @torch.no_grad()
    def predict(films: NDArray[np.uint8]) -> NDArray[np.float32]:
        parts = [
            model(model.preprocess(torch.from_numpy(films[at : at + batch_size]).to(device))).probabilities.cpu()
            for at in range(0, len(films), batch_size)
        ]
        return torch.cat(parts).float().numpy()

    return predict


def _draw(store: FilmStore, truth: Mapping[str, TruthBoxes], options: ExplainOptions) -> _Sample:
    """Up to `films` boxed test films of each finding, the same whatever the model."""
    rows, findings = [], []
    for finding in BOXED_FINDINGS:
        index = FINDINGS.index(finding)
        candidates = np.unique(truth[finding].rows)
        chosen = np.random.default_rng([options.seed, index]).permutation(candidates)[: options.films]
        rows.append(np.sort(chosen))
        findings.append(np.full(len(chosen), index))
    return _Sample(np.concatenate(rows), np.concatenate(findings))


def _sources(
    sources: Mapping[str, MapSource],
    truth: Mapping[str, Mapping[str, TruthBoxes]],
    store: FilmStore,
    sample: _Sample,
    predict: Predict,
    grid: int,
    draws: PatientDraws,
) -> dict[str, Any]:
    """Localisation, pointing game and curves of every source of maps."""
    described = {"model": "the model's heatmaps: attention inside the foreground mask", **EXPLAINERS, **CONTROLS}
    content = {}
    with progress_bar("Checking maps", len(sources)) as advance:
        for name, source in sources.items():
            pointing = Pointing(source, truth["test"])
            thresholds, _ = search_protocols(source, truth["val"], store.size)
            found = summarise_localization(score_protocols(pointing, truth["test"], store.size, thresholds), draws)
            content[name] = {
                "description": described[name],
                "msli": found.msli,
                "msli_without_cardiomegaly": found.msli_without_cardiomegaly,
                "intervals": found.intervals,
                "pointing_game": _pointing(pointing, store, draws),
                "curves": _curves(source, store, sample, predict, grid) if name in CURVE_SOURCES else None,
            }
            advance(1)
    return content


def _pointing(pointing: Pointing, store: FilmStore, draws: PatientDraws) -> dict[str, Any]:
    per_finding, replicates = {}, []
    for finding, hits in pointing.hits.items():
        rows, values = np.array(list(hits), dtype=np.int64), np.array(list(hits.values()))
        drawn = bootstrap_share(values[:, None], store.patients[rows], draws)[:, 0]
        replicates.append(drawn)
        value = float(values.mean()) if len(values) else float("nan")
        per_finding[finding] = {"films": len(values), "share": value, "interval": percentile_interval(drawn)}
    shares = np.array([of["share"] for of in per_finding.values()])
    interval = percentile_interval(mean_defined(np.stack(replicates, axis=1)))
    return {"macro": float(mean_defined(shares)), "interval": interval, "per_finding": per_finding}


def _curves(source: MapSource, store: FilmStore, sample: _Sample, predict: Predict, grid: int) -> dict[str, Any]:
    """Mean deletion and insertion curves over the sampled films, and the areas under them."""
    parts: dict[str, list[NDArray[np.float64]]] = {"deletion": [], "insertion": []}
    for index in np.unique(sample.findings).tolist():
        rows = sample.rows[sample.findings == index]
        maps = source(FINDINGS[index], rows)
        for name, curves in deletion_insertion(predict, store.films[rows], maps, index, grid).items():
            parts[name].append(curves)
    joined = {name: np.concatenate(curves) for name, curves in parts.items()}
    return {
        name: {"films": len(curves), "mean": curves.mean(axis=0), "area": float(area_under(curves).mean())}
        for name, curves in joined.items()
    }


def _randomisation(model: Clarity, store: FilmStore, sample: _Sample, seed: int) -> dict[str, Any]:
    """Rank correlation of the maps with those of randomised weights, and with those of other films."""
    films, findings = store.films[sample.rows], sample.findings.tolist()
    own = grid_maps(model, films, findings)
    other = np.concatenate([np.roll(np.flatnonzero(sample.findings == index), 1) for index in np.unique(findings)])
    order = np.concatenate([np.flatnonzero(sample.findings == index) for index in np.unique(findings)])
    correlations = {
        name: float(rank_correlation(own, grid_maps(randomised, films, findings)).mean())
        for name, randomised in randomised_models(model, seed).items()
    }
    return {
        "films": len(films),
        "correlation": correlations,
        "between_films": float(rank_correlation(own[order], own[other]).mean()),
    }


def _marker(model: Clarity, store: FilmStore, predict: Predict, options: ExplainOptions) -> dict[str, Any]:
    test = store.rows("test")
    drawn = np.random.default_rng(options.seed).permutation(test)[: 2 * len(BOXED_FINDINGS) * options.films]
    rows = np.sort(drawn)
    return marker_effect(model, predict, store.films[rows], store.labels[rows], FINDINGS)
