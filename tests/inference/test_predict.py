"""Folder runs: what is written where, what is reported, and how a run continues."""

import json
import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from clarity_cxr.cli.predict import predict
from clarity_cxr.errors import CheckpointError, ClarityError
from clarity_cxr.files import file_digest
from clarity_cxr.findings import FINDINGS
from clarity_cxr.inference.film_jobs import plan_films
from clarity_cxr.inference.overlay import TruthBox, prediction_overlay
from clarity_cxr.inference.predictor import load
from clarity_cxr.localization.drawing import TRUTH_COLOUR
from clarity_cxr.models import create_model, save_checkpoint
from tests.inference.conftest import make_film


def written(out: Path) -> set[str]:
    return {path.relative_to(out).as_posix() for path in out.rglob("*") if path.is_file()}


def result(out: Path, stem: str) -> dict:
    return json.loads((out / f"{stem}.json").read_text())


def test_folder_keeps_its_subfolders(checkpoint, films, tmp_path):
    out = tmp_path / "out"
    assert predict([films], checkpoint=checkpoint, out=out, batch_size=3) == 0
    stems = ("one", "two", "three", "deep/one")
    assert written(out) == {"predictions.csv"} | {f"{stem}{end}" for stem in stems for end in (".json", ".png")}
    table = pd.read_csv(out / "predictions.csv")
    assert list(table["film"]) == ["deep/one.png", "one.png", "three.jpg", "two.png"]
    assert list(table.columns) == ["film", "width", "height", "positive", "boxes", *FINDINGS, "warnings", "error"]
    one = result(out, "one")
    assert (one["film"], one["width"], one["height"]) == ("one.png", 80, 96)
    assert one["run"]["checkpoint_sha256"] == file_digest(checkpoint)
    expected = load(checkpoint).predict(films / "one.png").to_json()
    assert one["probabilities"] == pytest.approx(expected["probabilities"], abs=1e-5)
    assert table.set_index("film").loc["one.png", "Mass"] == one["probabilities"]["Mass"]
    assert result(out, "deep/one")["probabilities"] != one["probabilities"]


def test_bad_films_are_reported_and_the_rest_go_on(checkpoint, films, tmp_path, capsys):
    (films / "empty.png").touch()
    (films / "text.jpg").write_text("not an image")
    whole = (films / "two.png").read_bytes()
    (films / "truncated.png").write_bytes(whole[: len(whole) // 2])
    out = tmp_path / "out"
    assert predict([films], checkpoint=checkpoint, out=out, batch_size=2) == 1
    report = capsys.readouterr().err
    assert "3 of 7 films failed" in report
    for name in ("empty.png", "text.jpg", "truncated.png"):
        assert sum(f"{films / name}:" in line for line in report.splitlines()) == 1
        assert not (out / name).with_suffix(".json").exists()
    table = pd.read_csv(out / "predictions.csv").set_index("film")
    assert len(table) == 7
    assert "empty" in table.loc["empty.png", "error"]
    assert np.isnan(table.loc["empty.png", "Mass"])
    assert table["error"].notna().sum() == 3


def test_second_run_predicts_only_what_is_missing(checkpoint, films, tmp_path, capsys):
    out = tmp_path / "out"
    predict([films], checkpoint=checkpoint, out=out)
    table = (out / "predictions.csv").read_bytes()
    before = {name: (out / name).stat().st_mtime_ns for name in written(out)}
    (out / "two.json").unlink()
    (out / "three.json").write_text("{ half")
    (out / "deep" / "one.png").unlink()
    assert predict([films], checkpoint=checkpoint, out=out) == 0
    assert "3 films predicted, 1 were there already" in capsys.readouterr().out
    assert (out / "predictions.csv").read_bytes() == table
    assert (out / "one.json").stat().st_mtime_ns == before["one.json"]
    assert set(before) == written(out)


def test_another_checkpoint_threshold_or_film_is_predicted_again(checkpoint, films, tmp_path, capsys):
    out = tmp_path / "out"
    predict([films / "one.png"], checkpoint=checkpoint, out=out)
    other = tmp_path / "other.safetensors"
    save_checkpoint(other, create_model("clarity_t8_64"))
    predict([films / "one.png"], checkpoint=other, out=out)
    assert result(out, "one")["run"]["checkpoint_sha256"] == file_digest(other)
    predict([films / "one.png"], checkpoint=other, out=out, decision_threshold=0.0)
    assert all(result(out, "one")["decisions"].values())
    Image.fromarray(make_film(9, 40, 40)).save(films / "one.png")
    predict([films / "one.png"], checkpoint=other, out=out, decision_threshold=0.0)
    assert result(out, "one")["width"] == 40
    assert "already" not in capsys.readouterr().out


def test_film_that_turned_bad_loses_its_old_results(checkpoint, films, tmp_path):
    out = tmp_path / "out"
    predict([films], checkpoint=checkpoint, out=out)
    (films / "two.png").write_bytes(b"")
    assert predict([films], checkpoint=checkpoint, out=out) == 1
    assert not {"two.json", "two.png"} & written(out)


def test_overlays_can_be_left_out(checkpoint, films, tmp_path):
    out = tmp_path / "out"
    predict([films / "one.png"], checkpoint=checkpoint, out=out, overlays=False)
    assert written(out) == {"one.json", "predictions.csv"}


def test_files_of_the_same_stem_must_not_overwrite_one_another(films, tmp_path):
    with pytest.raises(ClarityError, match=r"one\.png.*one\.png.*would both be written"):
        plan_films([films / "one.png", films / "deep" / "one.png"], tmp_path / "out")
    Image.fromarray(make_film(0)).save(films / "one.jpg")
    with pytest.raises(ClarityError, match=r"one\.jpg.*one\.png"):
        plan_films([films], tmp_path / "out")


def test_results_never_lie_among_the_films(checkpoint, films):
    with pytest.raises(ClarityError, match="folder of the films"):
        plan_films([films], films)
    with pytest.raises(ClarityError, match="would replace a film"):
        plan_films([films / "one.png"], films)
    out = films / "results"
    predict([films], checkpoint=checkpoint, out=out)
    assert len(plan_films([films], out)) == 4, "overlays of an earlier run are not films"


def test_paths_without_films_are_refused(tmp_path):
    with pytest.raises(ClarityError, match=r"absent: no such file"):
        plan_films([tmp_path / "absent"], tmp_path / "out")
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "._hidden.png").touch()
    with pytest.raises(ClarityError, match="no films found"):
        plan_films([tmp_path / "empty"], tmp_path / "out")


def test_nothing_is_written_for_a_wrong_checkpoint_or_output(checkpoint, films, tmp_path):
    with pytest.raises(CheckpointError):
        predict([films], checkpoint=films / "one.png", out=tmp_path / "out")
    assert not (tmp_path / "out").exists()
    (tmp_path / "file").touch()
    with pytest.raises(ClarityError, match=r"file.*cannot be written"):
        predict([films], checkpoint=checkpoint, out=tmp_path / "file")
    with pytest.raises(ClarityError, match="batch size 0"):
        predict([films], checkpoint=checkpoint, out=tmp_path / "out", batch_size=0)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_forbidden_output_is_one_clear_error(checkpoint, films, tmp_path):
    (tmp_path / "locked").mkdir(mode=0o500)
    with pytest.raises(ClarityError, match="permission denied"):
        predict([films], checkpoint=checkpoint, out=tmp_path / "locked" / "out")


def write_release(root: Path) -> None:
    (root / "images").mkdir(parents=True)
    columns = (
        "Image Index,Finding Labels,Follow-up #,Patient ID,Patient Age,Patient Gender,View Position,"
        "OriginalImage[Width,Height],OriginalImagePixelSpacing[x,y],"
    )
    rows = ["one.png,Mass,0,1,50,M,PA,2000,2000,0.1,0.1,", "two.png,No Finding,0,2,50,F,PA,2000,2000,0.1,0.1,"]
    (root / "Data_Entry_2017.csv").write_text("\n".join([columns, *rows]) + "\n")
    (root / "BBox_List_2017.csv").write_text(
        "Image Index,Finding Label,Bbox [x,y,w,h],,,,,,\none.png,Mass,256,512,256,128,,,\n"
    )
    (root / "train_val_list.txt").write_text("two.png\n")
    (root / "test_list.txt").write_text("one.png\n")
    for number, name in enumerate(("one.png", "two.png")):
        Image.fromarray(make_film(number)).save(root / "images" / name)


def test_truth_of_a_release_is_written_in_the_films_pixels(checkpoint, films, tmp_path):
    release, out = tmp_path / "release", tmp_path / "out"
    write_release(release)
    predict([films / "one.png", films / "two.png"], checkpoint=checkpoint, out=out, decision_threshold=1.0)
    plain = (out / "one.png").read_bytes()
    predict(
        [films / "one.png", films / "two.png"], checkpoint=checkpoint, out=out, release=release, decision_threshold=1.0
    )
    assert result(out, "one")["truth"] == [{"finding": "Mass", "x0": 20.0, "y0": 48.0, "x1": 40.0, "y1": 60.0}]
    assert result(out, "two")["truth"] == []
    assert (out / "one.png").read_bytes() != plain


def test_overlay_shows_truth_in_green_and_is_grey_without_positives(checkpoint):
    film = make_film(1, 512, 512)
    prediction = load(checkpoint, decision_threshold=1.0).predict(film)
    plain = np.asarray(prediction_overlay(film, prediction))[:512]
    assert np.array_equal(plain[..., 0], film)
    assert (plain.max(axis=-1) == plain.min(axis=-1)).all()
    truth = [TruthBox("Mass", 100, 100, 300, 300)]
    marked = np.asarray(prediction_overlay(film, prediction, truth))[:512]
    assert (marked == TRUTH_COLOUR).all(axis=-1).sum() > 200


def test_films_that_are_no_chest_films_are_warned_of_and_fail_if_strict(checkpoint, films, tmp_path, capsys):
    out = tmp_path / "out"
    Image.fromarray(np.full((60, 50), 7, dtype=np.uint8)).save(films / "blank.png")
    assert predict([films / "blank.png"], checkpoint=checkpoint, out=out) == 0
    assert "warning: blank.png: may not be a whole upright frontal chest film: blank" in capsys.readouterr().err
    assert result(out, "blank")["warnings"] == ["blank: all pixels are equal"]
    assert pd.read_csv(out / "predictions.csv").loc[0, "warnings"] == "blank: all pixels are equal"
    assert predict([films / "blank.png"], checkpoint=checkpoint, out=out, strict=True) == 1
    assert f"{films / 'blank.png'}: may not be a whole" in capsys.readouterr().err
    assert written(out) == {"predictions.csv"}


def test_shards_in_any_order_end_as_one_process(checkpoint, films, tmp_path, capsys):
    (films / "empty.png").touch()
    whole, out = tmp_path / "whole", tmp_path / "out"
    predict([films], checkpoint=checkpoint, out=whole, batch_size=1)
    codes = [predict([films], checkpoint=checkpoint, out=out, batch_size=1, shard=shard) for shard in ("3/3", "1/3")]
    assert not (out / "predictions.csv").exists()
    codes.append(predict([films], checkpoint=checkpoint, out=out, batch_size=1, shard="2/3"))
    assert sorted(codes) == [0, 0, 1]
    assert "1 of 2 films failed" in capsys.readouterr().err
    assert written(out) == written(whole) | {f"predictions.{k}-of-3.csv" for k in (1, 2, 3)}
    for name in written(whole):
        assert (out / name).read_bytes() == (whole / name).read_bytes()
