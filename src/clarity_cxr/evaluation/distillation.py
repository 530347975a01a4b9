"""What distillation changed: the same student with and without a teacher, on the same test films.

A run has both when `undistilled/` in its folder holds the evaluation of the student on labels alone; `teacher/` holds
that of the teacher, if it was evaluated.
"""

import html
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from clarity_cxr.errors import ClarityError
from clarity_cxr.evaluation.intervals import bootstrap_auc, draw_patients, mean_defined, percentile_interval
from clarity_cxr.evaluation.page import DASH, figure, interval, section, table
from clarity_cxr.evaluation.protocols import PROTOCOLS
from clarity_cxr.evaluation.run_files import read_predictions
from clarity_cxr.metrics import macro_auc

REPLICATES = 1000
SEED = 0


@dataclass(frozen=True)
class DistillationEffect:
    """Three evaluations of one store, and the paired change of the macro AUC.

    Attributes:
        teacher: its `evaluation.json`, or None.
        undistilled: of the student on labels.
        distilled: of the student on the teacher's probabilities.
        auc_change: macro AUC with less without distillation.
        auc_change_interval: 95 %, bootstrap over patients, both students on the same replicates.
    """

    teacher: dict[str, Any] | None
    undistilled: dict[str, Any]
    distilled: dict[str, Any]
    auc_change: float
    auc_change_interval: list[float] | None


def distillation_effect(run: Path) -> DistillationEffect | None:
    """Compare the students of a run; None where it holds one alone.

    Raises:
        ClarityError: the students were evaluated on different films, or a file is damaged.
    """
    distilled, undistilled = run / "evaluation.json", run / "undistilled" / "evaluation.json"
    if not (distilled.is_file() and undistilled.is_file()):
        return None
    teacher = run / "teacher" / "evaluation.json"
    evaluations = _read(distilled), _read(undistilled)
    if evaluations[0]["store"]["fingerprint"] != evaluations[1]["store"]["fingerprint"]:
        raise ClarityError(f"{undistilled}: of other films than {distilled}; evaluate both students on one store")
    change, interval = _auc_change(run, run / "undistilled")
    return DistillationEffect(
        _read(teacher) if teacher.is_file() else None, evaluations[1], evaluations[0], change, interval
    )


def distillation_section(run: Path) -> str:
    """The comparison as a section of the report's page; empty where the run has one student alone.

    Raises:
        ClarityError: see `distillation_effect`.
    """
    effect = distillation_effect(run)
    if effect is None:
        return ""
    head = ["", "Macro AUC", *(f"MSLI, {name}" for name in PROTOCOLS), "UDP"]
    rows = [
        _row("Student on labels", effect.undistilled),
        _row("Student on the teacher's probabilities", effect.distilled),
    ]
    if effect.teacher is not None:
        rows.insert(0, _row("Teacher", effect.teacher))
    change = f"{effect.auc_change:+.3f} {interval(effect.auc_change_interval)}"
    lead = (
        "<p>Both students saw the same films, in the same order, with the same augmentation and seed. The macro AUC "
        f"changed by {html.escape(change)}, both scored on the same bootstrap replicates. One training seed: the "
        "spread between seeds is not in this interval.</p>"
    )
    return section("What distillation changed", lead + table(head, rows))


def _row(name: str, result: dict[str, Any]) -> tuple[str, list[str]]:
    """A line of the table; a teacher has no localisation."""
    intervals = result["intervals"]
    cells = [html.escape(name), figure(result["macro_auc"], intervals["macro_auc"])]
    if "msli" not in result:
        return "", [*cells, *[DASH] * (len(PROTOCOLS) + 1)]
    cells += [figure(result["msli"][protocol], intervals["msli"][protocol]) for protocol in PROTOCOLS]
    return "", [*cells, figure(result["udp"], intervals["udp"])]


def _auc_change(with_teacher: Path, without: Path) -> tuple[float, list[float] | None]:
    (scores, labels, labelled, patients), (others, *_) = _test_films(with_teacher), _test_films(without)
    draws = draw_patients(patients, REPLICATES, SEED)
    replicates = [mean_defined(bootstrap_auc(each, labels, patients, draws, labelled)) for each in (scores, others)]
    change = macro_auc(scores, labels, labelled).value - macro_auc(others, labels, labelled).value
    return change, percentile_interval(replicates[0] - replicates[1])


def _test_films(run: Path) -> tuple[NDArray[Any], ...]:
    """Probabilities, labels and which labels are defined (n, 14), and patients (n,)."""
    stored = read_predictions(run / "evaluation_predictions.npz")
    test = stored["split"] == "test"
    return tuple(stored[name][test] for name in ("probabilities", "labels", "labelled", "patient_id"))


def _read(path: Path) -> dict[str, Any]:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ClarityError(f"{path}: cannot be read ({error}); evaluate again") from error
