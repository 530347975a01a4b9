"""The page of benchmarks comes from recorded results, says whether goals were reached, and names no machine's paths."""

import importlib
import json
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[2]
OLD = {
    "name": "model",
    "date": "2026-11-23T00:42:53+00:00",
    "command": "python model.py --store /srv/x/store --checkpoint ../up/best.safetensors --out runs/here",
    "machine": {"platform": "Linux-6.1-build-x86_64", "python": "3.11.7", "processor": "CPU", "cores": 2},
    "versions": {"torch": "2.15.0", "openvino": None},
    "context": {"store": "/srv/x/store", "rounds": 3},
    "rows": [
        {"what": "forward, float32", "ratio": 1.25, "films": 3},
        {"what": "training step", "ratio": 1.5},
        {"what": "a | b"},
    ],
}
BOUNDS = [{"row": "forward", "column": "ratio", "at_most": 1.3}, {"row": "training", "column": "ratio", "at_most": 1.3}]


@pytest.fixture
def page(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    return importlib.import_module("page")


def test_results_are_cleaned(page: ModuleType) -> None:
    cleaned = page.cleaned(OLD)
    assert cleaned["command"] == (
        "python benchmarks/model.py --store store --checkpoint best.safetensors --out runs/here"
    )
    assert cleaned["machine"]["platform"] == "Linux"
    assert cleaned["versions"] == {"torch": "2.15.0"}
    assert cleaned["context"] == {"store": "store", "rounds": 3}
    assert page.cleaned(cleaned) == cleaned


def test_sections_say_command_machine_date_and_goals(page: ModuleType) -> None:
    text = page.section(page.cleaned(OLD), BOUNDS)
    assert "## model\n\nCLARiTy against plain ViT-S, and against DenseNet-121 with 14 Grad-CAMs" in text
    assert (
        "--out runs/here`, 2026-11-23, CPU, 2 cores, Python 3.11.7; torch 2.15.0. Settings: store store, rounds 3."
        in text
    )
    assert text.splitlines()[-5:] == [
        "| what | ratio | films | goal |",
        "| --- | --: | --: | --- |",
        "| forward, float32 | 1.25 | 3 | ratio ≤ 1.3: reached |",
        "| training step | 1.5 |  | ratio ≤ 1.3: **not reached** |",
        "| a \\| b |  |  |  |",
    ]


def test_committed_page_is_what_the_results_give(page: ModuleType) -> None:
    assert page.PAGE.read_text(encoding="utf-8") == page.page(page.RESULTS, page.GOALS)
    for path in page.RESULTS.glob("*.json"):
        result = json.loads(path.read_text(encoding="utf-8"))
        assert page.cleaned(result) == result
