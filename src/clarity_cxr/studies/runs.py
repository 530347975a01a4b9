"""One run of a study: trained and scored in processes of its own, by whoever gets to it first."""

import fcntl
import json
import os
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from clarity_cxr.errors import ConfigError
from clarity_cxr.files import output_errors, write_json

SCORES = "scores.csv"
LOG = "log.txt"
SETTINGS = "settings.json"

Outcome = Literal["finished", "held", "failed"]


@dataclass(frozen=True)
class StudyRun:
    """A training run and what it is scored on.

    Attributes:
        variant: its name in the table.
        seed: run seed.
        folder: of the run: `train/`, `scores.csv`, `log.txt`, `settings.json`.
        store: prepared films.
        options: of `clarity train`, without store and folder.
        settings: what decides the result; a folder with others is refused.
        every_p: score every number of fused blocks, not only the model's own.
    """

    variant: str
    seed: int
    folder: Path
    store: Path
    options: tuple[str, ...]
    settings: dict[str, Any] = field(compare=False)
    every_p: bool = False

    @property
    def scores(self) -> Path:
        """Its scores; a run that has them is finished."""
        return self.folder / SCORES


def claim_settings(run: StudyRun) -> None:
    """Note what the run is made with.

    Raises:
        ConfigError: its folder holds a run made with something else.
        ClarityError: the folder cannot be written to.
    """
    path = run.folder / SETTINGS
    if not path.exists():
        write_json(path, run.settings)
    elif json.loads(path.read_text(encoding="utf-8")) != json.loads(json.dumps(run.settings)):
        raise ConfigError(
            f"{run.folder}: holds a run with other configs, store or seed ({SETTINGS}); "
            "choose another --out, or remove the folder to run it again"
        )


def carry_out(run: StudyRun, threads: int, device: str = "cpu") -> Outcome:
    """Train and score a run, or go on where it was left; a finished one is not touched.

    Whoever writes the log holds the run: the lock is on the open log, which the working process inherits, so that it is
    free again at the moment when that process ends, however it ends.

    Args:
        run: whose settings are claimed.
        threads: for torch, unless OMP_NUM_THREADS says otherwise.
        device: where it is scored; training follows its config.

    Raises:
        ClarityError: the folder cannot be written to.
    """
    with output_errors(run.folder), (run.folder / LOG).open("ab") as log:
        try:
            fcntl.flock(log, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return "held"
        train = ["clarity_cxr.cli.main", "train", *run.options, "--store", run.store, "--out", run.folder / "train"]
        score = ["clarity_cxr.studies.scores", run.folder, run.store, "--device", device]
        score += ["--every-p"] if run.every_p else []
        for words in () if run.scores.exists() else (train, score):
            process = subprocess.run(
                [sys.executable, "-m", *map(str, words)],
                stdout=log,
                stderr=log,
                env={"OMP_NUM_THREADS": str(threads)} | os.environ,
            )
            if process.returncode:
                return "failed"
    return "finished"
