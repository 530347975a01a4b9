import fcntl
import sys
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml

from clarity_cxr.cli.main import main
from clarity_cxr.data.store import FilmStore
from clarity_cxr.evaluation.run_files import read_run
from clarity_cxr.evaluation.validation import validation_scores
from clarity_cxr.models import load_checkpoint, read_metadata
from clarity_cxr.studies import scores
from clarity_cxr.studies.ablate import summary

BASE = {
    "model": {"name": "clarity_t8_64"},
    "optimization": {"epochs": 1, "batch_size": 25, "learning_rate": 1e-3, "warmup_epochs": 0},
    "run": {"precision": "32-true", "accelerator": "cpu"},
}


@pytest.fixture(scope="module")
def study(phantom_store: FilmStore, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A plan of two variants and one further q, carried out."""
    folder = tmp_path_factory.mktemp("study")
    (folder / "base.yaml").write_text(yaml.safe_dump(BASE))
    (folder / "gap.yaml").write_text(yaml.safe_dump({"model": {"pooling": "mean"}}))
    plan = {"config": "base.yaml", "seeds": [3], "variants": {"full": [], "GAP pooling": "gap.yaml"}, "sweep": [2]}
    (folder / "plan.yaml").write_text(yaml.safe_dump(plan, sort_keys=False))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("clarity_cxr.studies.runs.subprocess.run", in_this_process)
        assert run(folder, phantom_store) == 0
    return folder


def in_this_process(words: list[str], **options: Any) -> CompletedProcess[str]:
    """What a child would do, without the seconds that starting it takes."""
    module, arguments = words[2], words[3:]
    if module == "clarity_cxr.cli.main":
        return CompletedProcess(words, main(arguments))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", [module, *arguments])
        scores.main()
    return CompletedProcess(words, 0)


def run(study: Path, store: FilmStore) -> int:
    return main(["ablate", str(study / "plan.yaml"), "--store", str(store.path), "--out", str(study / "out")])


def test_runs_differ_as_planned_and_their_scores_are_those_of_training(study: Path) -> None:
    table = pd.read_csv(study / "out/ablations.csv").set_index("row")
    assert table.index.tolist() == ["full", "GAP pooling"]
    for row, folder, pooling in (("full", "full", "attention"), ("GAP pooling", "gap_pooling", "mean")):
        metadata = read_metadata(study / "out" / folder / "3/train/best.safetensors")
        assert metadata.config.pooling == pooling
        assert metadata.provenance["run"]["seed"] == 3
        for name, value in metadata.provenance["validation"].items():
            assert table.at[row, name] == pytest.approx(value, abs=1e-9)


def test_every_p_is_what_a_model_built_with_that_p_scores(study: Path, phantom_store: FilmStore) -> None:
    sweep = pd.read_csv(study / "out/sweep.csv")
    assert sweep.groupby("q")["p"].apply(list).to_dict() == {q: [1, 2, 3, 4, 5, 6] for q in (2, 4)}
    model = load_checkpoint(study / "out/q_2/3/train/best.safetensors").model
    for config in (model, model.backbone):
        config.config = type(model.config)(**{**vars(model.config), "attention_blocks": 1})
    expected = validation_scores(model, phantom_store)
    row = sweep[(sweep["q"] == 2) & (sweep["p"] == 1)].iloc[0]
    np.testing.assert_allclose(row["msli_top"], expected["msli_by_protocol"]["top"], atol=1e-9)
    np.testing.assert_allclose(row["macro_auc"], expected["macro_auc"], atol=1e-9)


def test_the_report_reads_both_tables(study: Path) -> None:
    files = read_run(study / "out")
    assert files.ablations is not None
    assert files.sweep is not None
    assert {"row", "seed", "macro_auc", "msli", "udp"} <= {*files.ablations}
    assert {"q", "p", "seed", "udp"} <= {*files.sweep}


def test_finished_runs_are_skipped_unfinished_ones_continued_held_ones_left(
    study: Path, phantom_store: FilmStore, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    full, gap = study / "out/full/3", study / "out/gap_pooling/3"
    before = (full / "scores.csv").read_bytes(), (full / "log.txt").read_bytes()
    (gap / "scores.csv").unlink()
    trained = (gap / "train/best.safetensors").read_bytes()
    with (gap / "log.txt").open("ab") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        assert run(study, phantom_store) == 1
    assert "GAP pooling, seed 3: another process has it in hand" in capsys.readouterr().err
    assert pd.read_csv(study / "out/ablations.csv")["row"].tolist() == ["full"]
    monkeypatch.setattr("clarity_cxr.studies.runs.subprocess.run", in_this_process)
    assert run(study, phantom_store) == 0
    assert (gap / "train/best.safetensors").read_bytes() == trained
    assert pd.read_csv(study / "out/ablations.csv")["row"].tolist() == ["full", "GAP pooling"]
    assert ((full / "scores.csv").read_bytes(), (full / "log.txt").read_bytes()) == before


def test_a_run_with_other_settings_is_refused(
    study: Path, phantom_store: FilmStore, capsys: pytest.CaptureFixture[str]
) -> None:
    (study / "gap.yaml").write_text(yaml.safe_dump({"model": {"pooling": "mean", "mask_threshold": 0.4}}))
    assert run(study, phantom_store) == 2
    assert "gap_pooling/3: holds a run with other configs" in capsys.readouterr().err
    (study / "gap.yaml").write_text(yaml.safe_dump({"model": {"pooling": "mean"}}))


def test_a_failing_run_is_named_and_the_others_go_on(
    study: Path, phantom_store: FilmStore, capsys: pytest.CaptureFixture[str]
) -> None:
    """In processes of their own, whose output is in the log."""
    (study / "wrong.yaml").write_text(yaml.safe_dump({"model": {"mask_threshold": 7.0}}))
    plan = {"config": "base.yaml", "seeds": [3], "variants": {"wrong": "wrong.yaml", "full": []}}
    (study / "wrong_plan.yaml").write_text(yaml.safe_dump(plan, sort_keys=False))
    words = ["ablate", str(study / "wrong_plan.yaml"), "--store", str(phantom_store.path), "--out", str(study / "out")]
    assert main(words) == 1
    assert "wrong, seed 3: failed or was interrupted, see" in capsys.readouterr().err
    assert "mask_threshold is 7.0" in (study / "out/wrong/3/log.txt").read_text()
    assert pd.read_csv(study / "out/ablations.csv")["row"].tolist() == ["full"]


def test_summary_pairs_seeds_and_says_what_is_within_the_spread() -> None:
    udp = {"full": (0.5, 0.6), "worse": (0.4, 0.49), "same": (0.52, 0.57)}
    table = pd.DataFrame(
        [
            {"row": row, "seed": seed, "macro_auc": 0.8, "msli": 0.3, "udp": value, "msli_top": 0.2, "udp_top": 0.5}
            for row, values in udp.items()
            for seed, value in enumerate(values)
        ]
    )
    rows = summary(table).set_index("row")
    assert rows["udp"].tolist() == ["0.550 ± 0.071", "0.445 ± 0.064", "0.545 ± 0.035"]
    assert rows["udp_difference"].tolist() == ["", "-0.105 ± 0.007", "-0.005 ± 0.035, within the spread"]
    assert summary(table[table["seed"] == 0]).set_index("row").at["worse", "udp_difference"] == "-0.100"
