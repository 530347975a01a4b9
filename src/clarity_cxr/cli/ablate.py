"""`clarity ablate`."""

from pathlib import Path


def ablate(plan: Path, /, *, store: Path, out: Path, jobs: int = 1, device: str = "cpu") -> int:
    """Train and score every variant of a plan with every seed; the same command continues.

    Finished runs are skipped. Several machines that share OUT may be given the same command. Writes OUT/ablations.csv
    and, where the plan has a sweep, OUT/sweep.csv, and prints the table; exit code 1 while runs are missing.

    Args:
        plan: YAML file: `config`, `seeds`, `variants`, and optionally `sweep` and `distill`, see docs/studies.md.
        store: prepared store of the models' size.
        out: folder of all runs and of the tables; `clarity report` takes it as a run.
        jobs: runs at a time.
        device: where runs are scored, e.g. cpu or cuda; training follows `run.accelerator`.
    """
    import sys

    from rich.console import Console
    from rich.table import Table

    from clarity_cxr.models.device import usable_device
    from clarity_cxr.studies.ablate import ablate as carry_out
    from clarity_cxr.studies.ablate import summary
    from clarity_cxr.studies.plan import read_plan

    usable_device(device)
    study = carry_out(read_plan(plan), store, out, jobs, device)
    means = summary(study.ablations)
    headings = ("", "n", "AUC", "MSLI", "UDP", "MSLI top", "UDP difference")
    table = Table(*headings, title="Validation films: mean ± standard deviation over n seeds")
    for row in means.itertuples(index=False):
        table.add_row(*map(str, row))
    Console().print(table)
    for run in study.ended("failed"):
        print(
            f"{run.variant}, seed {run.seed}: failed or was interrupted, see {run.folder / 'log.txt'}", file=sys.stderr
        )
    for run in study.ended("held"):
        print(f"{run.variant}, seed {run.seed}: another process has it in hand", file=sys.stderr)
    return 0 if len(study.ended("finished")) == len(study.outcomes) else 1
