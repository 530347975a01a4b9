"""Checking a release: every problem is listed, counts are right, and the exit code follows the errors."""

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from rich.console import Console

from clarity_cxr.cli.check import check as check_command
from clarity_cxr.data.check import CheckReport, check_release, print_report
from clarity_cxr.data.release import read_release
from clarity_cxr.data.splits import assign_splits
from clarity_cxr.findings import FINDINGS
from tests.data.conftest import REAL_RELEASE, SmallRelease


def _kinds(report: CheckReport, severity: str = "error") -> list[str]:
    return sorted(problem.kind for problem in report.problems if problem.severity == severity)


def _text(report: CheckReport) -> str:
    console = Console(width=200, file=io.StringIO(), record=True)
    print_report(report, console)
    return console.export_text()


def test_a_sound_release_passes_with_its_counts(small_release: SmallRelease) -> None:
    root = small_release.write()
    release = read_release(root)
    films = assign_splits(release.films, release.boxes)

    report = check_release(root, processes=1)

    assert report.problems == []
    assert report.passed
    assert (report.films, len(report.paths), report.orphans, report.unused_entries) == (60, 60, 0, 0)
    for split in ("train", "val", "test"):
        here = films[films["split"] == split]
        assert report.counts.at["Films", split] == len(here)
        assert report.counts.at["Patients", split] == here["patient_id"].nunique()
        assert report.counts.at["Mass", split] == here["Mass"].sum()
        assert report.counts.at["No Finding", split] == (~here[list(FINDINGS)].any(axis=1)).sum()
    assert report.counts.at["Mass", "boxes"] == (release.boxes["finding"] == "Mass").sum()
    assert report.counts.at["Films", "boxes"] == len(release.boxes)
    assert "pass" in _text(report)


def test_all_problems_are_collected_and_grouped(small_release: SmallRelease) -> None:
    ids = small_release.ids
    small_release.rows[0] = small_release.rows[0].replace("Effusion", "Broken Rib")
    small_release.boxes.append(f"{small_release.test[0]},Hernia,1,1,5,5,,,")
    small_release.boxes.append(f"{small_release.test[0]},Mass,1000,1,50,5,,,")
    root = small_release.write()
    for image_id in ids[10:18]:
        small_release.film_path(image_id).unlink()
    (root / "images_001/images/99999999_000.png").write_bytes(small_release.film_path(ids[1]).read_bytes())
    small_release.film_path(ids[2]).write_bytes(b"")
    Image.new("L", (20, 40)).save(small_release.film_path(ids[3]))  # its original was 2500 x 2048
    Image.new("L", (40, 40)).save(small_release.film_path(ids[4]))

    report = check_release(root, processes=2)

    assert _kinds(report) == [
        "box outside the frame",
        "film without a row",
        *["missing film"] * 8,
        "rotated film",
        "unknown finding",
        "unreadable film",
    ]
    assert _kinds(report, "warning") == ["box without a label", "film of another size"]
    assert not report.passed
    text = _text(report)
    assert "error missing film: 8" in text
    assert "... and 3 more" in text
    assert f"{ids[3]}: 20 x 40, but its original was 2500 x 2048" in text
    assert f"{ids[4]}: 40 x 40, most films are 48 x 48" in text
    assert "fail" in text


def test_skip_missing_turns_unmatched_films_into_warnings(small_release: SmallRelease) -> None:
    orphan = small_release.rows.pop(0)
    root = small_release.write()
    small_release.film_path(small_release.ids[0]).unlink()

    assert _kinds(check_release(root, processes=1)) == ["film without a row", "missing film"]
    report = check_release(root, skip_missing=True, processes=1)
    assert report.passed
    assert _kinds(report, "warning") == ["film without a row", "missing film"]
    assert orphan.split(",")[0] in _text(report)


def test_fast_reads_headers_only(small_release: SmallRelease) -> None:
    root = small_release.write()
    cut, empty = (small_release.film_path(image_id) for image_id in small_release.ids[:2])
    cut.write_bytes(cut.read_bytes()[:200])
    empty.write_bytes(b"")

    fast = check_release(root, fast=True, processes=1)

    assert _kinds(fast) == ["unreadable film"]
    assert empty.name in fast.problems[0].message
    assert "headers only" in _text(fast)
    assert _kinds(check_release(root, processes=1)) == ["unreadable film"] * 2


def test_patients_in_both_official_lists(small_release: SmallRelease) -> None:
    moved = small_release.train_val.pop(1)  # the second film of patient 1
    small_release.test.append(moved)

    report = check_release(small_release.write(), processes=1)

    assert "patient in both official lists" in _kinds(report)
    assert any("patient 1: " in problem.message and moved in problem.message for problem in report.problems)


def test_priors_that_are_missing_or_wrong(small_release: SmallRelease) -> None:
    root = small_release.write()
    (root / "priors").mkdir()
    for image_id in small_release.ids[2:]:
        Image.fromarray(np.zeros((128, 128), np.uint8)).save(root / "priors" / image_id)
    Image.new("L", (128, 128), 255).save(root / "priors" / small_release.ids[5])

    report = check_release(root, processes=1)

    assert _kinds(report) == ["unreadable film"]
    assert _kinds(report, "warning") == ["film without priors"]
    assert "2 films have no file in priors/" in _text(report)


def test_the_command_gives_an_exit_code(
    small_release: SmallRelease, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = small_release.write()

    assert check_command(root, fast=True, processes=1) == 0
    (root / "test_list.txt").unlink()
    assert check_command(root, fast=True, processes=1) == 1
    assert "test_list.txt: no such file" in capsys.readouterr().out.replace("\n", " ")
    assert check_command(tmp_path / "nowhere", fast=True) == 1


@pytest.mark.skipif(not REAL_RELEASE.is_dir(), reason="the NIH subset is not beside the project")
def test_the_real_subset_passes() -> None:
    report = check_release(REAL_RELEASE, fast=True, processes=1)

    assert report.problems == []
    assert report.counts.loc["Films"].tolist() == [1413, 193, 321, 63]
    assert report.counts.at["Pneumonia", "test"] == 157
