import csv
import io

import numpy as np
import pandas as pd
import pytest

from clarity_cxr.evaluation.cost import component_costs
from clarity_cxr.evaluation.published import notes, published_table
from clarity_cxr.evaluation.table_formats import Figure, PaperTable, Row, as_csv, as_html, as_latex, as_markdown
from clarity_cxr.findings import BOXED_FINDINGS, FINDINGS
from clarity_cxr.models.registry import clarity_s16_224, clarity_s16_512

TABLE = PaperTable(
    "table9",
    "A & B",
    ("Model", "AUC", "n_of"),
    [Row(("first", Figure(0.8), "1")), Row(("ours <x>", Figure(0.9, (0.85, 0.95), "n = 7"), "2|3"), ours=True)],
    ["A caveat."],
)


def test_contradictions_of_the_paper_are_kept_and_noted():
    summary, by_finding = published_table(3), published_table(5)
    ours = summary.set_index("model").loc["CLARiTy-S-16-224"]
    row = by_finding[(by_finding["model"] == "CLARiTy-S-16-224") & (by_finding["iou_threshold"] == 0.1)].iloc[0]
    assert (ours["iou_0.1"], row["Mean"]) == (0.773, 0.774)
    assert row[list(BOXED_FINDINGS)].mean() == pytest.approx(0.7735)
    pcan = by_finding[(by_finding["model"] == "PCAN") & (by_finding["iou_threshold"] == 0.1)].iloc[0]
    assert pcan["Mean"] == 0.778
    assert pcan[list(BOXED_FINDINGS)].mean() == pytest.approx(0.740, abs=5e-4)
    text = " ".join(notes()["tables"][3] + notes()["tables"][5])
    for value in ("0.773", "0.774", "0.7735", "0.281", "0.283", "0.778", "0.740"):
        assert value in text


def test_published_means_are_those_of_their_rows_but_for_the_noted_ones():
    table = published_table(4)
    off = np.abs(table[list(FINDINGS)].mean(axis=1, skipna=True) - table["Mean"]) > 6e-4
    named = set(table.loc[off, "model"])
    assert named == {"Yao et al. (2017)", "HydraViT", "Ouyang et al. (2021)", "RGT", "MLRFNet"}
    assert all(name in notes()["tables"][4][2] for name in named)


def test_the_captions_extremes_agree_with_table_6():
    assert notes()["figures"][10]["stated"][8] == published_table(6).set_index("row").loc["full", "udp"]
    assert min(notes()["figures"][11]["stated"].values()) == 0.558


@pytest.mark.parametrize("config", [clarity_s16_224(), clarity_s16_512()], ids=lambda config: config.name)
def test_counted_costs_are_the_published_ones(config):
    printed = published_table(7).query("image_size == @config.image_size").set_index("component")
    for cost in component_costs(config):
        row = printed.loc[cost.component]
        assert cost.parameters / 1e6 == pytest.approx(row["parameters_million"], rel=1e-3)
        assert cost.multiply_adds / 1e9 == pytest.approx(row["multiply_adds_giga"], rel=0.01)


def test_a_table_as_csv_keeps_all_numbers():
    header, first, ours = csv.reader(io.StringIO(as_csv(TABLE)))
    assert header == ["ours", "Model", "AUC", "AUC low", "AUC high", "AUC remark", "n_of"]
    assert first == ["0", "first", "0.8", "", "", "", "1"]
    assert ours == ["1", "ours <x>", "0.9", "0.85", "0.95", "n = 7", "2|3"]
    assert len(pd.read_csv(io.StringIO(as_csv(TABLE)))) == 2


def test_a_table_as_markdown_latex_and_html():
    markdown, latex, page = as_markdown(TABLE), as_latex(TABLE), as_html(TABLE)
    assert "| **ours <x>** | 0.900 (0.850–0.950, n = 7) | 2\\|3 |" in markdown
    assert "- A caveat." in markdown
    assert "ours $<$x$>$ & 0.900 (0.850--0.950, n = 7) & 2|3 \\\\" in latex
    assert "n\\_of" in latex
    assert latex.count("\\midrule") == 2
    assert "ours &lt;x&gt;" in page
    assert "<li>A caveat.</li>" in page
