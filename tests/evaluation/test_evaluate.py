import io
import json

import numpy as np
import pytest
import torch
from rich.console import Console

from clarity_cxr.cli.evaluate import evaluate as command
from clarity_cxr.errors import CheckpointError, ClarityError, ConfigError, StoreError
from clarity_cxr.evaluation.evaluate import PREDICTIONS_FILE, RESULT_FILE, evaluate
from clarity_cxr.evaluation.predictions import predict_store
from clarity_cxr.evaluation.score import EvaluationOptions, score
from clarity_cxr.evaluation.summary import plain
from clarity_cxr.evaluation.table import print_tables
from clarity_cxr.findings import BOXED_FINDINGS, BOXED_INDICES, FINDINGS
from clarity_cxr.metrics import auc_per_finding
from clarity_cxr.models import create_model, save_checkpoint
from tests.evaluation.readable_store import GRID, ReadingModel, make_content

FAST = EvaluationOptions(replicates=40, batch_size=32)


@pytest.fixture
def store(tmp_path):
    return make_content().write(tmp_path / "store")


def figures(store, model=None, options=FAST):
    predictions = predict_store(
        model or ReadingModel(),
        store,
        np.concatenate([store.rows("val"), store.rows("test")]),
        map_rows=store.rows("test"),
        mean_rows=np.union1d(store.rows("val"), store.localization_rows("val")),
        progress=False,
    )
    return plain(score(predictions, store, GRID, options).figures)


def printed(result):
    console = Console(file=io.StringIO(), width=80)
    print_tables(result, console)
    return " ".join(console.file.getvalue().split())


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("weights") / "tiny.safetensors"
    model = create_model("clarity_t8_64", width=32, depth=2, heads=2, attention_blocks=2, token_blocks=2)
    save_checkpoint(path, model, thresholds={"Mass": 0.3}, provenance={"epoch": 3})
    return path


def test_a_model_that_reads_the_truth(store):
    result = figures(store)
    assert result["macro_auc"] == 1
    assert result["findings_in_mean"] == 8
    assert result["msli"] == {"paper": 1, "all": 1, "top": 1}
    assert result["msli_without_cardiomegaly"] == result["msli"]
    assert result["udp"] == 1
    assert result["intervals"]["msli"]["top"] == [1, 1]
    assert result["best_control"]["top"]["ratio"] > 1.4
    for name in ("random", "prior", "mean"):
        assert 0 <= result["controls"][name]["msli"]["top"] <= result["controls"][name]["msli"]["all"] < 1
    mass = result["per_finding"]["Mass"]["localization"]["all"]
    assert (mass["n"], mass["n_missed"], mass["msli"]) == (2, 0, 1)
    assert result["per_finding"]["Hernia"]["localization"] is None
    assert result["per_finding"]["Hernia"]["auc"] is None
    assert result["validation"]["udp"] == 1
    assert result["splits"]["localization_val"] == {"films": 16, "patients": 8, "boxes": 16}


def test_a_finding_never_predicted_is_missed_or_left_out(store):
    blind = BOXED_INDICES[:2]
    result = figures(store, ReadingModel(blind_to=blind))
    assert result["msli"] == pytest.approx({"paper": 1, "all": 6 / 8, "top": 6 / 8})
    assert result["msli_findings_in_mean"] == {"paper": 6, "all": 8, "top": 8}
    entry = result["per_finding"][FINDINGS[blind[0]]]["localization"]
    assert (entry["paper"]["n"], entry["paper"]["msli"]) == (0, None)
    assert (entry["all"]["n"], entry["all"]["n_missed"], entry["all"]["msli"]) == (4, 4, 0)
    assert entry["all"]["threshold_source"] == "unconditioned"
    control = result["per_finding"][FINDINGS[blind[0]]]["controls"]["mean"]
    assert control["all"]["msli"] == 0  # conditioned by the same probabilities
    text = printed(result)
    assert "Macro (6 of 8)" in text
    assert "threshold chosen on all validation boxes" in text


def test_decision_threshold_and_udp_protocol_are_options(store):
    strict = figures(store, options=EvaluationOptions(replicates=5, decision_threshold=0.95, udp_protocol="all"))
    assert strict["msli"] == {"paper": None, "all": 0, "top": 0}
    assert strict["udp"] == strict["udp_by_protocol"]["all"] == 0.5
    assert strict["udp_by_protocol"]["paper"] is None


def test_without_priors_the_control_is_null_with_the_reason(tmp_path):
    content = make_content()
    content.priors = None
    result = figures(content.write(tmp_path / "store"))
    prior = result["controls"]["prior"]
    assert prior["msli"] == {"paper": None, "all": None, "top": None}
    assert "no anatomical priors" in prior["reason"]
    assert result["controls"]["mean"]["reason"] is None
    assert "no anatomical priors" in printed(result)


@pytest.mark.parametrize("missing", ["val", "test"])
def test_without_boxes_in_a_half_localisation_is_null_and_auc_stays(tmp_path, missing):
    content = make_content()
    halves = content.index["localization"].to_numpy()
    content.boxes = content.boxes[halves[content.boxes["row"]] != missing]
    result = figures(content.write(tmp_path / "store"))
    assert result["localization"]["scored"] is False
    assert f"localisation-{missing}" in result["localization"]["reason"]
    assert result["msli"] == {"paper": None, "all": None, "top": None}
    assert result["udp"] is None
    assert result["controls"]["mean"]["msli"]["top"] is None
    assert result["macro_auc"] == 1
    assert "Localisation is not scored" in printed(result)


def test_a_finding_without_validation_boxes_is_marked(tmp_path):
    content = make_content()
    halves = content.index["localization"].to_numpy()[content.boxes["row"]]
    content.boxes = content.boxes[(content.boxes["finding"] != "Mass") | (halves == "test")]
    result = figures(content.write(tmp_path / "store"))
    entry = result["per_finding"]["Mass"]["localization"]["top"]
    assert entry["threshold_source"] == "macro"
    assert entry["n"] == 2
    assert "macro threshold" in printed(result)


def test_files_of_a_real_model(store, checkpoint, tmp_path, capsys):
    out = tmp_path / "out"
    command(checkpoint=checkpoint, store=store.path, out=out, replicates=20, batch_size=50)
    result = json.loads((out / RESULT_FILE).read_text())
    with np.load(out / PREDICTIONS_FILE) as saved:
        np.testing.assert_array_equal(saved["rows"], np.arange(40, 120))
        np.testing.assert_array_equal(saved["labels"], store.labels[40:])
        np.testing.assert_array_equal(saved["split"], ["val"] * 40 + ["test"] * 40)
        assert saved["image_id"][0] == "00000040_000.png"
        test = saved["split"] == "test"
        auc = auc_per_finding(saved["probabilities"][test], saved["labels"][test])
    assert result["macro_auc"] == pytest.approx(np.nanmean(auc))
    assert result["checkpoint"]["provenance"] == {"epoch": 3}
    assert result["store"]["fingerprint"] == store.fingerprint
    assert set(result["thresholds"]["top"]) == set(FINDINGS)
    assert set(result["controls"]) == {"random", "prior", "mean"}
    counts = {name: result["per_finding"][name]["localization"]["all"]["n"] for name in BOXED_FINDINGS}
    halves = store.index["localization"].to_numpy()[store.boxes["row"]]
    assert counts == store.boxes.loc[halves == "test", "finding"].value_counts().to_dict()
    text = capsys.readouterr().out
    assert "Macro without" in text
    assert RESULT_FILE in text.replace("\n", "")
    assert max(map(len, text.splitlines()[:20])) <= 80


def test_the_same_seed_gives_the_same_figures(store, checkpoint, tmp_path):
    first = evaluate(checkpoint, store.path, tmp_path / "a", FAST)
    again = evaluate(checkpoint, store.path, tmp_path / "b", EvaluationOptions(replicates=40, batch_size=32))
    assert first == again
    other = evaluate(checkpoint, store.path, tmp_path / "c", EvaluationOptions(replicates=40, batch_size=32, seed=1))
    assert other["intervals"]["macro_auc"] != first["intervals"]["macro_auc"]
    assert other["macro_auc"] == first["macro_auc"]


def test_a_store_of_another_size_names_both(checkpoint, tmp_path):
    content = make_content()
    content.films = content.films[:, ::2, ::2]
    path = content.write(tmp_path / "store32", size=32).path
    with pytest.raises(StoreError, match=r"store32.* 32 px.*tiny\.safetensors.* 64 px.*--size 64"):
        evaluate(checkpoint, path, tmp_path / "out", FAST)
    assert not (tmp_path / "out").exists()


def test_priors_of_other_films_are_refused(store, checkpoint, tmp_path):
    manifest = store.manifest | {"priors": store.manifest["priors"] | {"film_digest": "1" * 64}}
    (store.path / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(StoreError, match=r"its priors were made from other films.*clarity anatomy .* --replace"):
        evaluate(checkpoint, store.path, tmp_path / "out", FAST)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("kind", ["missing", "pickle"])
def test_a_checkpoint_that_is_none(store, tmp_path, kind):
    path = tmp_path / "weights.ckpt"
    if kind == "pickle":
        torch.save({"a": 1}, path)
    with pytest.raises(CheckpointError, match=r"weights\.ckpt"):
        evaluate(path, store.path, tmp_path / "out", FAST)


def test_an_unknown_device(store, checkpoint, tmp_path):
    with pytest.raises(ClarityError, match="not usable here"):
        evaluate(checkpoint, store.path, tmp_path / "out", EvaluationOptions(device="abacus"))


def test_an_output_that_is_a_file_is_told_before_any_prediction(store, checkpoint, tmp_path, monkeypatch):
    monkeypatch.delattr("clarity_cxr.evaluation.evaluate.predict_store")
    (tmp_path / "out").write_text("in the way")
    with pytest.raises(ClarityError, match=r"out.*cannot be written"):
        evaluate(checkpoint, store.path, tmp_path / "out", FAST)


def test_impossible_options_are_reported_together():
    with pytest.raises(ConfigError, match=r"batch_size is 0.*replicates is -1.*decision_threshold is 2"):
        EvaluationOptions(batch_size=0, replicates=-1, decision_threshold=2)
