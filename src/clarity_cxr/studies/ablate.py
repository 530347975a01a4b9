"""A plan carried out: every variant with every seed, several at a time, ending in the table over the seeds."""

import re
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import yaml

from clarity_cxr.data.store import open_store
from clarity_cxr.data.workers import available_processors
from clarity_cxr.errors import ConfigError
from clarity_cxr.files import atomic_path
from clarity_cxr.progress import progress_bar
from clarity_cxr.studies.plan import Plan
from clarity_cxr.studies.runs import Outcome, StudyRun, carry_out, claim_settings

ABLATIONS = "ablations.csv"
SWEEP = "sweep.csv"
SCORES = ("macro_auc", "msli", "udp", "msli_top")
"""Scores in the printed summary; the files hold all of them."""


@dataclass(frozen=True)
class Study:
    """What has become of a plan's runs.

    Attributes:
        ablations: one row per finished run: `row` (the variant), `seed` and the columns of `scores.csv` at its own p.
        outcomes: how each run ended here.
    """

    ablations: pd.DataFrame
    outcomes: dict[StudyRun, Outcome]

    def ended(self, outcome: Outcome) -> list[StudyRun]:
        """The runs that ended so."""
        return [run for run, how in self.outcomes.items() if how == outcome]


def ablate(plan: Plan, store: Path, out: Path, jobs: int = 1, device: str = "cpu") -> Study:
    """Carry out a plan; finished runs are skipped, interrupted ones continued.

    Several machines that see the same folder may be given the same plan: each takes the next run that nobody holds, and
    ends when none is left to take. The last to end writes the whole table.

    Args:
        plan: what to run.
        store: a prepared store of the models' size.
        out: folder of all runs, of `ablations.csv` and, with a sweep, of `sweep.csv`, which `clarity report` reads.
        jobs: runs at a time on this machine.
        device: where runs are scored.

    Raises:
        ConfigError: a run's folder holds a run with other settings, or `jobs` is below 1.
        StoreError: the store cannot be used.
        ClarityError: the folder cannot be written to.
    """
    if jobs < 1:
        raise ConfigError(f"jobs is {jobs}; expected at least 1")
    runs = planned_runs(plan, store, out)
    for run in runs:
        claim_settings(run)
    outcomes = _carry_out_all(runs, jobs, device)
    study = Study(_collect((run for run in runs if run.variant in plan.variants), own=True), outcomes)
    _write(out / ABLATIONS, study.ablations)
    if plan.sweep is not None:
        _write(out / SWEEP, _collect((run for run in runs if run.every_p), own=False))
    return study


def planned_runs(plan: Plan, store: Path, out: Path) -> list[StudyRun]:
    """All runs of a plan, seed by seed, so that an unfinished study has whole rounds.

    Raises:
        StoreError: the store cannot be used.
        ConfigError: two variants would share a folder.
    """
    fingerprint = open_store(store).fingerprint
    first = next(iter(plan.variants))
    variants = [(name, files, ()) for name, files in plan.variants.items()]
    swept = [(f"q = {q}", plan.variants[first], ("--model.token_blocks", str(q))) for q in plan.sweep or ()]
    folders = [re.sub(r"[^a-z0-9]+", "_", name.lower()).strip("_") for name, _, _ in [*variants, *swept]]
    if len({*folders}) < len(folders):
        raise ConfigError(f"variants {', '.join(plan.variants)}: two of them share a folder name; rename one")
    runs = []
    for seed in plan.seeds:
        for folder, (name, files, extra) in zip(folders, [*variants, *swept], strict=True):
            options = [*_configs([plan.config, *files]), "--run.seed", str(seed), *extra]
            if plan.distill is not None:
                options += ["--distill", plan.distill.replace("{seed}", str(seed))]
            contents = [yaml.safe_load(file.read_text(encoding="utf-8")) for file in (plan.config, *files)]
            settings = {"store": fingerprint, "configs": contents, "options": options[2 * len(contents) :]}
            every_p = plan.sweep is not None and name in (first, *(each for each, _, _ in swept))
            runs.append(StudyRun(name, seed, out / folder / str(seed), store, tuple(options), settings, every_p))
    return runs


def summary(ablations: pd.DataFrame) -> pd.DataFrame:
    """Mean and standard deviation over the seeds, and the difference of each variant to the first, seed by seed.

    Args:
        ablations: as `Study.ablations`.

    Returns:
        One row per variant, in order: `row`, `seeds`, each of `SCORES` as "mean ± deviation", and `udp_difference`,
        which says where it is no larger than its own deviation. A single seed has no deviation.
    """
    first = ablations[ablations["row"] == ablations["row"].iloc[0]].set_index("seed") if len(ablations) else ablations
    rows = []
    for name, runs in ablations.groupby("row", sort=False):
        scores = {score: _mean_and_deviation(runs[score]) for score in SCORES}
        paired = (runs.set_index("seed")["udp"] - first["udp"]).dropna()
        rows.append({"row": name, "seeds": len(runs), **scores, "udp_difference": _difference(paired)})
    return pd.DataFrame(rows)


def _carry_out_all(runs: Sequence[StudyRun], jobs: int, device: str) -> dict[StudyRun, Outcome]:
    threads = max(1, available_processors() // jobs)
    pool = ThreadPoolExecutor(jobs)
    try:
        futures = {pool.submit(carry_out, run, threads, device): run for run in runs}
        outcomes: dict[StudyRun, Outcome] = {}
        with progress_bar("Runs", len(runs)) as advance:
            for future in as_completed(futures):
                outcomes[futures[future]] = future.result()
                advance(1)
        return outcomes
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


def _configs(files: Iterable[Path]) -> list[str]:
    return [word for file in files for word in ("--config", str(file))]


def _collect(runs: Iterable[StudyRun], own: bool) -> pd.DataFrame:
    """The scores of the finished runs, of a model's own p or of every one."""
    tables = []
    for run in runs:
        if run.scores.exists():
            scores = pd.read_csv(run.scores)
            scores = scores[scores["own"]] if own else scores
            tables.append(scores.drop(columns="own").assign(row=run.variant, seed=run.seed))
    if not tables:
        return pd.DataFrame(columns=["row", "seed", "q", "p", *SCORES])
    table = pd.concat(tables, ignore_index=True)
    return table[["row", "seed", *(name for name in table if name not in ("row", "seed"))]]


def _write(path: Path, table: pd.DataFrame) -> None:
    with atomic_path(path) as temporary:
        table.to_csv(temporary, index=False)


def _mean_and_deviation(values: pd.Series) -> str:
    if values.isna().all():
        return "undefined"
    return f"{values.mean():.3f}" + (f" ± {values.std():.3f}" if len(values) > 1 else "")


def _difference(paired: pd.Series) -> str:
    if not paired.any():
        return ""
    if len(paired) == 1:
        return f"{paired.mean():+.3f}"
    within = ", within the spread" if abs(paired.mean()) <= paired.std() else ""
    return f"{paired.mean():+.3f} ± {paired.std():.3f}{within}"
