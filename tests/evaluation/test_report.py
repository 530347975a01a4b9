"""Report: a whole page for a whole run, and plain words for what is missing."""

import base64
import io
import json
import re
from html.parser import HTMLParser
from pathlib import Path

import pandas as pd
import pytest
import torch
from PIL import Image

from clarity_cxr.cli.report import report
from clarity_cxr.data.store import FilmStore
from clarity_cxr.errors import ClarityError
from clarity_cxr.evaluation.compare import compare_runs
from clarity_cxr.evaluation.evaluate import evaluate
from clarity_cxr.evaluation.report import build_report
from clarity_cxr.evaluation.run_files import read_run
from clarity_cxr.evaluation.score import EvaluationOptions
from clarity_cxr.findings import BOXED_FINDINGS, FINDINGS
from clarity_cxr.models import create_model, save_checkpoint

METRICS = pd.DataFrame(
    {"epoch": [0, 1, 2], "step": [5, 10, 15], "train/L_total": [3.0, 2.0, 1.0], "val/udp": [0.3, 0.4, 0.5]}
)


class Balance(HTMLParser):
    """Finds tags that are not closed in order."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []

    def handle_starttag(self, tag, attrs):
        if tag not in ("meta", "img"):
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        pass

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, phantom_store: FilmStore) -> Path:
    root = tmp_path_factory.mktemp("report") / "a <run>"
    (root / "train").mkdir(parents=True)
    (root / "store").symlink_to(phantom_store.path)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        save_checkpoint(root / "train" / "best.safetensors", create_model("clarity_t8_64"), provenance={"epoch": 2})
    METRICS.to_csv(root / "train" / "metrics.csv", index=False)
    evaluate(root / "train" / "best.safetensors", root / "store", root, EvaluationOptions(replicates=10))
    return root


@pytest.fixture(scope="module")
def page(run: Path) -> str:
    return build_report([run], run).read_text(encoding="utf-8")


def test_page_is_well_formed_and_has_every_section(page):
    parser = Balance()
    parser.feed(page)
    assert parser.open == []
    titles = re.findall(r"<h2>(.*?)</h2>", page)
    assert titles == [
        "Summary",
        "Localisation",
        "Each finding",
        "Beside the paper",
        "Protocols",
        "Probabilities",
        "Subgroups",
        "Do the maps explain?",
        "Learning curves",
        "ROC curves",
        "Gallery (Figure 9)",
        "Where the numbers come from",
    ]
    assert re.findall(r'class="missing">(.*?)<', page) == ["explain.json is not there yet; clarity explain makes it."]
    for finding in FINDINGS:
        assert finding.replace("_", " ") in page
    for name in ("Random map", "Anatomical prior alone", "mean heatmap", "L_total", "research use only"):
        assert name in page


def test_page_is_self_contained(page):
    assert "<script" not in page
    assert "<link" not in page
    assert "@import" not in page
    assert all(source.startswith("data:image/jpeg;base64,") for source in re.findall(r'src="([^"]*)"', page))
    addresses = set(re.findall(r"https?://[^\s\"'<)]+", page))
    assert addresses <= {"http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"}


def test_every_picture_can_be_decoded(page):
    sources = re.findall(r'src="data:image/jpeg;base64,([^"]*)"', page)
    assert sources
    for source in sources:
        Image.open(io.BytesIO(base64.b64decode(source))).load()


def test_names_are_escaped(page):
    assert "a &lt;run&gt;" in page
    assert "a <run>" not in page


def test_command_prints_the_path(run, tmp_path, capsys):
    report([run], out=tmp_path / "new")
    assert capsys.readouterr().out.strip() == str(tmp_path / "new" / "report.html")


@pytest.mark.parametrize("part", ["evaluation.json", "evaluation_predictions.npz", "train", "store"])
def test_missing_parts_are_said(run, tmp_path, part):
    for name in {"evaluation.json", "evaluation_predictions.npz", "train", "store"} - {part}:
        (tmp_path / name).symlink_to(run / name)
    text = build_report([tmp_path], tmp_path / "out").read_text(encoding="utf-8")
    assert f"{part}" in text
    assert "is not there yet" in text


def test_run_without_boxes_says_so(run, tmp_path):
    for name in ("train", "store"):
        (tmp_path / name).symlink_to(run / name)
    text = (run / "evaluation.json").read_text()
    result = json.loads(text)
    nothing = {"paper": None, "all": None, "top": None}
    result["localization"] = {"scored": False, "reason": "the store has no boxes"}
    for key in ("msli", "best_control"):
        result[key] = nothing
    result["udp"] = None
    result["intervals"] |= {"msli": nothing, "udp": None}
    for values in result["per_finding"].values():
        values["localization"] = None
    (tmp_path / "evaluation.json").write_text(json.dumps(result))
    page = build_report([tmp_path], tmp_path / "out").read_text(encoding="utf-8")
    assert "Localisation is not scored: the store has no boxes." in page


def test_mistakes_are_named(tmp_path):
    with pytest.raises(ClarityError, match=r"absent: no such folder"):
        build_report([tmp_path / "absent"], tmp_path)
    with pytest.raises(ClarityError, match="nothing of a run"):
        build_report([tmp_path], tmp_path)
    (tmp_path / "evaluation.json").write_text("{ half")
    with pytest.raises(ClarityError, match=r"evaluation\.json: cannot be read"):
        build_report([tmp_path], tmp_path)


def test_the_reports_numbers_are_those_of_the_json(run, page):
    result = json.loads((run / "evaluation.json").read_text())
    table = pd.read_csv(run / "tables" / "table4.csv")
    ours = table[table["ours"] == 1].iloc[0]
    for finding in FINDINGS:
        expected = result["per_finding"][finding]
        column = finding.replace("_", " ")
        if expected["auc"] is None:
            assert pd.isna(ours[column])
            continue
        assert ours[column] == pytest.approx(expected["auc"], rel=1e-5)
        assert ours[f"{column} low"] == pytest.approx(expected["auc_interval"][0], rel=1e-5)
        assert f"{expected['auc']:.3f}" in page
    summary = pd.read_csv(run / "tables" / "table3.csv").query("ours == 1").set_index("Protocol")
    for protocol in ("paper", "all", "top"):
        for level in ("0.1", "0.5"):
            expected = result["iou_accuracy"][protocol][level]
            found = summary.loc[protocol, f"IoU > {level}"]
            assert pd.isna(found) if expected is None else found == pytest.approx(expected, rel=1e-5, abs=1e-9)
    by_finding = pd.read_csv(run / "tables" / "table5.csv").query("ours == 1")
    mine = by_finding[(by_finding["Protocol"] == "all") & (by_finding["T(IoU)"] == 0.3)].iloc[0]
    for finding in BOXED_FINDINGS:
        expected = result["per_finding"][finding]["localization"]["all"]["iou_accuracy"]["0.3"]
        assert pd.isna(mine[finding]) if expected is None else mine[finding] == pytest.approx(expected, abs=1e-6)


def test_every_table_and_figure_is_a_file(run, page):
    for number in (3, 4, 5, 6, 7):
        for suffix in ("csv", "md", "tex"):
            assert (run / "tables" / f"table{number}.{suffix}").stat().st_size > 100
    names = {path.name for path in (run / "figures").iterdir()}
    assert names == {"figure9.png", "figure10.png", "figure10.svg", "figure11.png", "figure11.svg"}
    text = (run / "report.md").read_text()
    for number in (9, 10, 11):
        assert f"figures/figure{number}.png" in text
    assert "Table 7" in text


def test_ablations_and_sweeps_fill_table_6_and_the_figures(run, tmp_path):
    scores = {"macro_auc": [0.8, 0.9], "msli": [0.3, 0.3], "udp": [0.55, 0.6]}
    pd.DataFrame({"row": ["full", "full"], "seed": [0, 1], **scores}).to_csv(tmp_path / "ablations.csv", index=False)
    sweep = pd.DataFrame(
        {"q": [8, 8, 2], "p": [1, 2, 1], "seed": 0, "macro_auc": 0.8, "msli": 0.3, "udp": [0.5, 0.6, 0.4]}
    )
    sweep.to_csv(tmp_path / "sweep.csv", index=False)
    build_report([run, tmp_path], tmp_path / "out")
    table = pd.read_csv(tmp_path / "out" / "tables" / "table6.csv").query("ours == 1").iloc[0]
    assert table["Row"] == "full"
    assert table["Macro AUC"] == pytest.approx(0.85)
    assert table["Macro AUC remark"] == "± 0.071"
    assert "no evaluation_predictions.npz" in (tmp_path / "out" / "report.html").read_text()


def test_a_run_against_itself_differs_by_nothing(run, tmp_path):
    page = build_report([run, run], tmp_path).read_text(encoding="utf-8")
    assert "Runs compared" in page
    found = compare_runs(read_run(run), read_run(run), replicates=20)
    result = json.loads((run / "evaluation.json").read_text())
    assert found["macro_auc"]["first"] == pytest.approx(result["macro_auc"])
    for protocol in ("paper", "all", "top"):
        if result["msli"][protocol] is not None:
            assert found[f"msli {protocol}"]["second"] == pytest.approx(result["msli"][protocol])
    assert all(of["difference"] == 0 for of in found.values() if of["first"] == of["first"])
