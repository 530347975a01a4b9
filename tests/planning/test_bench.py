"""Every constant is measured, small and once, and a plan follows from the file through the command line."""

from dataclasses import asdict
from pathlib import Path

import pytest
import torch

from clarity_cxr.cli.main import main
from clarity_cxr.errors import ConfigError
from clarity_cxr.models import create_model
from clarity_cxr.planning.bench import QUICK, Subject, measure
from clarity_cxr.planning.constants import read_constants
from clarity_cxr.planning.decoding import decoding_rates
from clarity_cxr.planning.model_rates import peak_growth
from clarity_cxr.planning.rates import disk_rates, matmul_rate, timings

TINY = ("--model", "clarity_t8_64", "--teacher", "test_convnext", "--size", "64", "--batch-size", "4")
STEPS = ("check", "prepare", "anatomy", "teacher", "dump", "student", "evaluate", "predict")
CPU = torch.device("cpu")


def test_bench_then_plan(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "machine" / "constants.json"
    assert main(["bench", "--out", str(path), *TINY, "--processes", "1", "--quick"]) == 0
    measured = read_constants(path)
    assert [entry.name for entry in path.parent.iterdir()] == ["constants.json"]
    assert measured.model_parameters == sum(weights.numel() for weights in create_model("clarity_t8_64").parameters())
    assert (measured.size, measured.batch_size, measured.device, measured.processes) == (64, 4, "cpu", 1)
    assert not measured.compiled
    assert all(value > 0 for value in asdict(measured).values() if type(value) in (int, float))
    capsys.readouterr()
    assert main(["plan", "--constants", str(path), "--size", "64"]) == 0
    table = capsys.readouterr().out
    lines = [[cell.strip() for cell in line.split("|")[1:-1]] for line in table.splitlines() if line.startswith("|")]
    assert lines[0] == ["films", "10,000", "100,000", "1,000,000", "10,000,000"]
    assert [line[0] for line in lines[2:]] == [*STEPS, "all", "longest", "it waits for", "disk", "memory"]
    assert main(["plan", "--constants", str(path), "--size", "64", "--films", "1000", "--epochs", "3"]) == 0
    steps = [line.split("|")[1].strip() for line in capsys.readouterr().out.splitlines() if line.startswith("|")]
    assert steps[2:] == [*STEPS, "all"]


def test_own_films_are_measured(phantom_release: Path, tmp_path: Path) -> None:
    films = sorted(phantom_release.glob("images_*/images/*.png"))[:2]
    rates = decoding_rates(films, 32, processes=2, seconds=0.0)
    assert rates.decoded > rates.resized > 0
    assert rates.peak_bytes > 10**7
    with pytest.raises(ConfigError, match="no PNG or JPEG films"):
        measure(Subject("clarity_t8_64", "test_convnext", 64, 4, processes=1, films=tmp_path), tmp_path / "out", QUICK)


def test_timings_leave_out_the_first_call() -> None:
    calls = []
    assert len(timings(lambda: calls.append(1), 0.0, CPU)) == 1
    assert len(calls) == 2


def test_hardware_rates_leave_nothing_behind(tmp_path: Path) -> None:
    assert all(rate > 0 for rate in disk_rates(tmp_path, 1 << 20))
    assert list(tmp_path.iterdir()) == []
    assert matmul_rate(CPU, torch.bfloat16, 32, 0.0) > 0


def test_peak_growth_sees_an_allocation_whatever_was_held_earlier() -> None:
    torch.ones(1 << 27)  # 537 MB, freed again: a mark that the next ones stay below
    held = peak_growth(lambda: torch.ones(1 << 25), CPU)  # 134 MB
    freed = peak_growth(lambda: float(torch.ones(1 << 25).sum()), CPU)
    if not Path("/proc/self/status").exists():
        pytest.skip("this system says only the most that was ever held")
    assert 100e6 < held < 300e6
    assert 50e6 < freed < 300e6
