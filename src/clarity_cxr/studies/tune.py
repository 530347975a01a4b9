"""The paper's search for loss weights: Optuna's TPE, each trial a whole training run, highest validation UDP."""

from __future__ import annotations

import hashlib
import math
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
import yaml

from clarity_cxr.data.store import open_store
from clarity_cxr.data.workers import available_processors
from clarity_cxr.errors import ClarityError, ConfigError, TrainingError
from clarity_cxr.files import atomic_path, output_errors
from clarity_cxr.progress import progress_bar
from clarity_cxr.studies.runs import Outcome, StudyRun, carry_out, claim_settings

if TYPE_CHECKING:
    from optuna import Study
    from optuna.trial import FrozenTrial

WEIGHTS = (
    "alpha_class",
    "alpha_patch",
    "alpha_foreground",
    "beta_suppression",
    "beta_area",
    "gamma_proximity",
    "gamma_confinement",
    "delta_tokens",
)
"""The eight weights of Eq. 18 and 19, fields of `LossConfig`; each is searched over [0, 5]."""

HIGHEST = 5.0
STARTUP_TRIALS = 10
CANDIDATES = 100
BEST = "best.yaml"


def tune(
    config: Path,
    store: Path,
    out: Path,
    *,
    trials: int = 20,
    storage: str | None = None,
    seed: int = 0,
    device: str = "cpu",
) -> Path:
    """Search the eight loss weights that give the highest validation UDP; continues where it was interrupted.

    A trial that nobody holds any more is trained on with the weights it had. Its random draws follow from `seed` and
    its number alone. Processes that share the storage and the folder share the trials; each ends when none is left to
    take, and the last one to end has seen them all.

    Args:
        config: training config; everything but the weights is taken from it.
        store: a prepared store of the model's size.
        out: folder of the trials' runs, the plots and `best.yaml`.
        trials: of the whole search; a larger number continues a finished one. Failed trials count.
        storage: an Optuna storage URL; None is SQLite in `out`.
        seed: of the search; the runs' own is the config's.
        device: where trials are scored.

    Returns:
        Path of the config with the best weights.

    Raises:
        ConfigError: `trials` is below 1, or the study was begun with another config, store or seed.
        TrainingError: no trial has ended well.
        ClarityError: Optuna is not installed, or the storage or the folder cannot be used.
    """
    if trials < 1:
        raise ConfigError(f"trials is {trials}; expected at least 1")
    try:
        content = yaml.safe_load(config.read_text(encoding="utf-8"))
    except (OSError, yaml.YAMLError) as error:
        raise ConfigError(f"{config}: cannot be read as YAML ({error})") from error
    settings = {"store": open_store(store).fingerprint, "config": content, "seed": seed}
    study = _open_study(out, storage, settings)
    held: set[int] = set()
    with progress_bar("Trials", trials, done=len(_ended(study))) as advance:
        while (trial := _next_trial(study, trials, seed, held)) is not None:
            run = _trial_run(trial, config, store, out, settings)
            claim_settings(run)
            outcome = carry_out(run, available_processors(), device)
            if outcome == "held":
                held.add(trial.number)
                continue
            _tell(study, trial, run, outcome)
            advance(1)
    complete = [trial for trial in _ended(study) if trial.state.name == "COMPLETE"]
    if not complete:
        raise TrainingError(f"{out}: no trial has ended well; {out / 'trials'} has a log of each")
    _write_best(out / BEST, content, study.best_trial, len(complete))
    if len(complete) > 1:
        _plot(study, out)
    return out / BEST


def _open_study(out: Path, storage: str | None, settings: dict[str, Any]) -> Study:
    try:
        import optuna
    except ImportError as error:
        raise ClarityError('the search needs a further package: pip install "clarity-cxr[tune]"') from error
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    with output_errors(out):
        out.mkdir(parents=True, exist_ok=True)
    url = f"sqlite:///{out.resolve() / 'study.db'}" if storage is None else storage
    try:
        study = optuna.create_study(
            storage=url, study_name=out.resolve().name, direction="maximize", load_if_exists=True
        )
    except Exception as error:  # each kind of storage has errors of its own
        reason = str(error).splitlines()[0]
        raise ClarityError(f"storage {url}: Optuna cannot use it ({reason}); give a URL such as sqlite:///F") from error
    begun = study.user_attrs.get("settings")
    if begun is None:
        study.set_user_attr("settings", settings)
    elif begun != settings:
        differing = ", ".join(key for key in settings if begun.get(key) != settings[key])
        raise ConfigError(f"{out}: a search with another {differing} is here; choose another --out")
    return study


def _ended(study: Study) -> list[FrozenTrial]:
    return [trial for trial in study.get_trials(deepcopy=False) if trial.state.is_finished()]


def _next_trial(study: Study, trials: int, seed: int, held: set[int]) -> FrozenTrial | None:
    """A trial that was begun and has not ended, unless another process holds it; else a new one; else None."""
    begun = [trial for trial in study.get_trials() if len(trial.params) == len(WEIGHTS)]
    for trial in begun:
        if not trial.state.is_finished() and trial.number not in held:
            return trial
    return _new_trial(study, seed) if len(begun) < trials else None


def _new_trial(study: Study, seed: int) -> FrozenTrial:
    from optuna.samplers import TPESampler

    trial = study.ask()
    # A sampler of its own: one seeded once would repeat its first draws whenever the search is continued.
    digest = hashlib.blake2b(f"{seed}:{trial.number}".encode(), digest_size=4).digest()
    study.sampler = TPESampler(
        n_startup_trials=STARTUP_TRIALS, n_ei_candidates=CANDIDATES, seed=int.from_bytes(digest, "little")
    )
    for name in WEIGHTS:
        trial.suggest_float(name, 0.0, HIGHEST)
    return study.get_trials()[trial.number]


def _trial_run(trial: FrozenTrial, config: Path, store: Path, out: Path, settings: dict[str, Any]) -> StudyRun:
    options = ["--config", str(config)]
    for name in WEIGHTS:
        options += [f"--loss.{name}", repr(trial.params[name])]
    return StudyRun(
        variant=f"trial {trial.number}",
        seed=trial.number,
        folder=out / "trials" / f"{trial.number:03d}",
        store=store,
        options=tuple(options),
        settings=settings | {"weights": trial.params},
    )


def _tell(study: Study, trial: FrozenTrial, run: StudyRun, outcome: Outcome) -> None:
    """Report a trial's UDP; one that finds no box has an MSLI of 0, as in the choice of the best epoch."""
    from optuna.trial import TrialState

    if outcome == "failed":
        study.tell(trial.number, state=TrialState.FAIL, skip_if_finished=True)
        return
    scores = pd.read_csv(run.scores).iloc[0]
    value = scores["macro_auc"] / 2 if math.isnan(scores["udp"]) else scores["udp"]
    study.tell(trial.number, float(value), skip_if_finished=True)


def _write_best(path: Path, content: dict[str, Any], best: FrozenTrial, complete: int) -> None:
    """The searched config with the best trial's weights."""
    weights = {name: best.params[name] for name in WEIGHTS}
    merged = content | {"loss": content.get("loss", {}) | weights}
    head = f"# Weights of trial {best.number}, validation UDP {best.value:.4f}, the highest of {complete} trials.\n"
    with atomic_path(path) as temporary:
        temporary.write_text(head + yaml.safe_dump(merged, sort_keys=False), encoding="utf-8")


def _plot(study: Study, out: Path) -> None:
    """Optuna's own pictures of the search, as PNG: history, importance of the weights, parallel coordinates, slices."""
    import matplotlib
    import numpy as np
    from optuna.importance import PedAnovaImportanceEvaluator
    from optuna.visualization import matplotlib as pictures

    matplotlib.use("agg")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Optuna calls these functions experimental
        drawn = {
            "history": pictures.plot_optimization_history(study),
            "importance": pictures.plot_param_importances(study, evaluator=PedAnovaImportanceEvaluator()),
            "parallel": pictures.plot_parallel_coordinate(study),
            "slice": pictures.plot_slice(study),
        }
    for name, axes in drawn.items():
        with atomic_path(out / f"{name}.png") as temporary:
            np.ravel(axes)[0].figure.savefig(temporary, format="png", dpi=150, bbox_inches="tight")
