import json
from pathlib import Path

import numpy as np
import pytest

from clarity_cxr.errors import ClarityError
from clarity_cxr.evaluation.distillation import distillation_effect, distillation_section
from clarity_cxr.metrics import macro_auc

RNG = np.random.default_rng(0)
LABELS = RNG.random((60, 14)) < 0.4
PATIENTS = np.repeat(np.arange(30), 2)


def write_student(folder: Path, probabilities: np.ndarray, fingerprint: str = "films") -> None:
    folder.mkdir(parents=True, exist_ok=True)
    msli = dict.fromkeys(("paper", "all", "top"), 0.3)
    content = {
        "macro_auc": macro_auc(probabilities[20:], LABELS[20:]).value,
        "msli": msli,
        "udp": 0.5,
        "intervals": {"macro_auc": [0.1, 0.9], "msli": {name: [0.2, 0.4] for name in msli}, "udp": [0.4, 0.6]},
        "store": {"fingerprint": fingerprint},
    }
    (folder / "evaluation.json").write_text(json.dumps(content))
    split = np.array(["val"] * 20 + ["test"] * 40)
    np.savez(
        folder / "evaluation_predictions.npz",
        probabilities=probabilities,
        labels=LABELS,
        patient_id=PATIENTS,
        image_id=PATIENTS.astype(str),
        split=split,
    )


@pytest.fixture
def run(tmp_path: Path) -> Path:
    noise = RNG.random((60, 14)).astype(np.float32)
    write_student(tmp_path, 0.3 * LABELS + 0.7 * noise)
    write_student(tmp_path / "undistilled", noise)
    return tmp_path


def test_change_is_of_the_test_films_and_paired(run: Path) -> None:
    effect = distillation_effect(run)
    assert effect is not None
    assert effect.auc_change == pytest.approx(effect.distilled["macro_auc"] - effect.undistilled["macro_auc"])
    assert effect.auc_change_interval is not None
    low, high = effect.auc_change_interval
    assert 0 < low < effect.auc_change < high


def test_a_student_changes_nothing_against_itself(run: Path) -> None:
    (run / "evaluation_predictions.npz").write_bytes((run / "undistilled/evaluation_predictions.npz").read_bytes())
    effect = distillation_effect(run)
    assert effect is not None
    assert effect.auc_change == 0
    assert effect.auc_change_interval == [0, 0]


def test_the_section_names_all_three(run: Path) -> None:
    (run / "teacher").mkdir()
    teacher = {"macro_auc": 0.8765, "intervals": {"macro_auc": [0.8, 0.9]}}
    (run / "teacher" / "evaluation.json").write_text(json.dumps(teacher))
    page = distillation_section(run)
    for text in ("What distillation changed", "Teacher", "0.876", "Student on labels", "Student on the teacher"):
        assert text in page


def test_without_a_second_student_there_is_no_section(run: Path) -> None:
    (run / "undistilled" / "evaluation.json").unlink()
    assert distillation_section(run) == ""


def test_students_of_other_films_are_refused(run: Path) -> None:
    write_student(run / "undistilled", np.zeros((60, 14), np.float32), fingerprint="others")
    with pytest.raises(ClarityError, match="evaluate both students on one store"):
        distillation_effect(run)
