"""Archives in Parquet parts: the rows of the other engine, every film once, whatever is killed on the way."""

import json
import os
import signal
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from clarity_cxr.cli.main import main
from clarity_cxr.cli.predict import predict
from clarity_cxr.errors import ClarityError
from clarity_cxr.findings import FINDINGS
from clarity_cxr.inference.archive import ArchiveRun, PartWorker, part_count, plan_archive
from tests.inference.conftest import make_film


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    """21 films in two folders, two of which cannot be read."""
    folder = tmp_path / "archive"
    for number in range(19):
        path = folder / ("a" if number % 2 else "b") / f"{number:02d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(make_film(number, 40, 40)).save(path)
    (folder / "a" / "empty.png").touch()
    (folder / "b" / "text.jpg").write_text("not an image")
    return folder


def run_of(checkpoint: Path, out: Path, part_films: int = 4) -> ArchiveRun:
    return ArchiveRun(out, checkpoint, decision_threshold=0.3, batch_size=3, part_films=part_films)


def predict_all(run: ArchiveRun, films: list[Path]) -> int:
    """All parts by one worker; the number of films predicted."""
    worker = PartWorker(run)
    return sum(worker.predict_part(k).predicted for k in range(part_count(run, plan_archive(run, films))))


def rows(run: ArchiveRun) -> pd.DataFrame:
    return pd.read_parquet(run.parts)


def test_rows_are_those_of_the_local_engine(checkpoint, archive, tmp_path):
    local, run = tmp_path / "local", run_of(checkpoint, tmp_path / "out")
    predict([archive], checkpoint=checkpoint, out=local, batch_size=3, decision_threshold=0.3, overlays=False)
    predict_all(run, [archive])
    table, parts = pd.read_csv(local / "predictions.csv"), rows(run)
    assert list(parts.columns) == list(table.columns)
    assert list(parts["film"]) == list(table["film"])
    for (_, expected), (_, row) in zip(table.iterrows(), parts.iterrows(), strict=True):
        if not pd.isna(expected["error"]):
            assert row["error"] == expected["error"]
            assert row[["width", "positive", "boxes", "Mass"]].isna().all()
            continue
        assert pd.isna(row["error"])
        result = json.loads((local / expected["film"]).with_suffix(".json").read_text())
        assert (row["width"], row["height"], len(row["boxes"])) == (40, 40, expected["boxes"])
        assert "|".join(row["positive"]) == ("" if pd.isna(expected["positive"]) else expected["positive"])
        assert list(row["warnings"]) == result["warnings"]
        assert row[list(FINDINGS)].to_list() == pytest.approx(expected[list(FINDINGS)].to_list(), abs=2e-6)
        for box, found in zip(result["boxes"], row["boxes"], strict=True):
            assert found == pytest.approx(box, abs=2e-6)
    assert parts["boxes"].dropna().map(len).sum() > 0
    lines = "".join(path.read_text() for path in sorted((run.out / "json").iterdir())).splitlines()
    assert [json.loads(line) for line in lines] == pq.read_table(run.parts).to_pylist()


@pytest.mark.parametrize("kind", ["txt", "parquet"])
def test_lists_name_films_by_their_place_below_a_common_folder(checkpoint, archive, tmp_path, kind):
    paths = sorted(archive.rglob("*.png"))[:5]
    listed = [str(paths[0].relative_to(tmp_path)), f"{paths[1].parent}/../{paths[1].parent.name}/{paths[1].name}"]
    listed += [str(path) for path in paths[2:]] + [str(archive / "gone.png")]
    path = tmp_path / f"films.{kind}"
    if kind == "txt":
        path.write_text("\n".join([*listed, ""]))
    else:
        pq.write_table(pa.table({"path": listed, "patient": range(6)}), path)
    run = run_of(checkpoint, tmp_path / "out")
    assert predict_all(run, [path]) == 5
    parts = rows(run).set_index("film")
    assert list(parts.index) == [film.relative_to(archive).as_posix() for film in paths] + ["gone.png"]
    assert "no such film" in parts.loc["gone.png", "error"]
    assert predict([path], checkpoint=checkpoint, out=tmp_path / "local", overlays=False) == 1
    assert list(pd.read_csv(tmp_path / "local" / "predictions.csv")["film"]) == list(parts.index)


def test_a_second_run_predicts_only_what_has_no_row_or_an_error(checkpoint, archive, tmp_path):
    run = run_of(checkpoint, tmp_path / "out")
    assert predict_all(run, [archive]) == 19
    before = {path.name: path.stat().st_mtime_ns for path in run.parts.iterdir()}
    run.part(1).unlink()
    Image.fromarray(make_film(99, 30, 30)).save(archive / "b" / "text.jpg", format="JPEG")
    assert predict_all(run, [archive]) == 4 + 1
    parts = rows(run)
    assert list(parts["film"]) == sorted(path.relative_to(archive).as_posix() for path in archive.rglob("*.*"))
    assert list(parts.loc[parts["error"].notna(), "film"]) == ["a/empty.png"]
    assert before[run.part(0).name] == run.part(0).stat().st_mtime_ns


def test_another_run_into_the_folder_is_refused(checkpoint, archive, tmp_path):
    run = run_of(checkpoint, tmp_path / "out")
    predict_all(run, [archive])
    with pytest.raises(ClarityError, match=r"out: holds another run, which differs in part_films \(see run.json\)"):
        plan_archive(run_of(checkpoint, tmp_path / "out", part_films=5), [archive])
    with pytest.raises(ClarityError, match="differs in films, films_sha256"):
        plan_archive(run, [archive / "a"])
    with pytest.raises(ClarityError, match=r"00\.png: several films of this name"):
        plan_archive(run_of(checkpoint, tmp_path / "other"), [archive / "b", archive / "b" / "00.png"])
    assert pq.read_metadata(run.films).num_rows == 21, "the list is still that of the first run"
    assert not (tmp_path / "other" / "films.parquet").exists()


def test_lists_that_are_none(checkpoint, tmp_path):
    run = run_of(checkpoint, tmp_path / "out")
    pq.write_table(pa.table({"image": ["x.png"]}), tmp_path / "a.parquet")
    (tmp_path / "b.parquet").write_text("text")
    (tmp_path / "c.txt").write_bytes(b"\xff\xfe\x00")
    (tmp_path / "d.txt").write_text("\n")
    for name, problem in (
        ("a.parquet", "no column `path`.*has image"),
        ("b.parquet", "not a Parquet table"),
        ("c.txt", "not a list of films"),
        ("d.txt", "no films found"),
    ):
        with pytest.raises(ClarityError, match=problem):
            plan_archive(run, [tmp_path / name])


def test_a_worker_without_the_shared_folder_says_so(checkpoint, archive, tmp_path):
    run = run_of(checkpoint, tmp_path / "out")
    plan_archive(run, [archive])
    with pytest.raises(ClarityError, match="must be on a file system that all machines share"):
        PartWorker(run_of(checkpoint, tmp_path / "elsewhere")).predict_part(0)


def test_every_film_once_though_a_ray_worker_is_killed(checkpoint, archive, tmp_path):
    """Two workers on this machine; the one that answers first is killed at once, with parts in hand."""
    pytest.importorskip("ray", reason="the extra `ray` is not installed")
    from clarity_cxr.inference.ray_engine import predict_parts

    run = run_of(checkpoint, tmp_path / "out", part_films=1)
    count = plan_archive(run, [archive])
    workers = []
    try:
        for result in predict_parts(run, part_count(run, count), actors=2):
            if not workers:
                os.kill(int(result.worker.rpartition(":")[2]), signal.SIGKILL)
            workers.append(result.worker)
    except ClarityError as error:
        if "Ray did not start" in str(error):  # it gives its own processes 15 seconds
            pytest.skip("this machine is too busy to start Ray")
        raise
    assert len(workers) == part_count(run, count) == 21
    assert workers[-1] != workers[0]
    parts = rows(run)
    assert list(parts["film"]) == sorted(path.relative_to(archive).as_posix() for path in archive.rglob("*.*"))
    assert list(parts.loc[parts["error"].notna(), "film"]) == ["a/empty.png", "b/text.jpg"]


def test_options_that_belong_to_one_engine(checkpoint, archive, tmp_path, capsys):
    words = ["predict", str(archive), "--checkpoint", str(checkpoint), "--out", str(tmp_path / "out")]
    assert main([*words, "--engine", "ray", "--shard", "1/2"]) == 2
    assert "leave out --release, --dicom, --export and --shard" in capsys.readouterr().err
    assert main([*words, "--ray-actors", "2"]) == 2
    assert "are for --engine ray" in capsys.readouterr().err
