"""`clarity predict` on DICOM: files, folders and DICOMDIRs, DICOM results, and what is said about the films."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pydicom import Dataset, dcmread
from pydicom.dataset import FileMetaDataset
from pydicom.uid import UID, ExplicitVRLittleEndian, generate_uid

import clarity_cxr
from clarity_cxr.cli.predict import predict
from clarity_cxr.dicom import RESULT_SUFFIXES
from clarity_cxr.errors import ClarityError
from clarity_cxr.inference.film_jobs import plan_films
from clarity_cxr.models import create_model, save_checkpoint
from tests.dicom.films import make_film, save, smooth


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("checkpoint") / "tiny.safetensors"
    save_checkpoint(path, create_model("clarity_t8_64"))
    return path


PIXELS = smooth(96, 80, 0, 255, dtype=np.uint8)


def make_directory(path: Path, names: list[list[str]]) -> None:
    directory = Dataset()
    directory.file_meta = FileMetaDataset()
    directory.file_meta.MediaStorageSOPClassUID = UID("1.2.840.10008.1.3.10")
    directory.file_meta.MediaStorageSOPInstanceUID = generate_uid()
    directory.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    records = []
    for kind, name in [("PATIENT", None), *(("IMAGE", name) for name in names), ("SR DOCUMENT", ["SR1"])]:
        record = Dataset()
        record.DirectoryRecordType = kind
        if name:
            record.ReferencedFileID = name
        records.append(record)
    directory.DirectoryRecordSequence = records
    directory.save_as(path, enforce_file_format=True)


def test_same_film_as_png_and_as_dicom_gives_the_same_result(checkpoint, tmp_path):
    Image.fromarray(PIXELS).save(tmp_path / "film.png")
    save(make_film(PIXELS), tmp_path / "film.dcm")
    predictor = clarity_cxr.load(checkpoint, decision_threshold=0.0)
    from_png, from_dicom = predictor.predict(tmp_path / "film.png"), predictor.predict(str(tmp_path / "film.dcm"))
    assert from_dicom.to_json() == from_png.to_json()
    assert from_dicom.boxes


def test_dicom_results_stand_beside_the_json(checkpoint, tmp_path):
    films, out = tmp_path / "films", tmp_path / "out"
    films.mkdir()
    film = make_film(PIXELS)
    save(film, films / "a.dcm")
    Image.fromarray(PIXELS).save(films / "b.png")
    options = {"checkpoint": checkpoint, "out": out, "decision_threshold": 0.0}
    assert predict([films], **options) == 0
    assert not list(out.glob("*.dcm"))
    assert predict([films], **options, dicom=True) == 0
    written = {path.name for path in out.glob("*.dcm")}
    assert (
        {f"a{suffix}" for suffix in (".sr.dcm", ".sc.dcm")} <= written <= {f"a{suffix}" for suffix in RESULT_SUFFIXES}
    )
    report = dcmread(out / "a.sr.dcm")
    assert report.StudyInstanceUID == film.StudyInstanceUID
    assert json.loads((out / "a.json").read_text())["run"]["dicom_results"] is True
    (films / "a.dcm").write_bytes(b"")
    assert predict([films], **options, dicom=True) == 1
    assert not list(out.glob("a.*")), "a film that turned bad loses its results"


def test_header_speaks_against_a_film(checkpoint, tmp_path, capsys):
    save(make_film(PIXELS, ViewPosition="LL", BodyPartExamined="HAND"), tmp_path / "film.dcm")
    out = tmp_path / "out"
    assert predict([tmp_path / "film.dcm"], checkpoint=checkpoint, out=out) == 0
    assert "View Position is LL" in capsys.readouterr().err
    warnings = json.loads((out / "film.json").read_text())["warnings"]
    assert any("View Position is LL" in warning for warning in warnings)
    assert any("Body Part Examined is HAND" in warning for warning in warnings)
    assert predict([tmp_path / "film.dcm"], checkpoint=checkpoint, out=out, strict=True) == 1
    assert "View Position is LL" in capsys.readouterr().err
    assert not (out / "film.json").exists()


def test_folders_hold_films_without_suffix_and_other_objects(tmp_path):
    folder = tmp_path / "study"
    (folder / "series").mkdir(parents=True)
    save(make_film(PIXELS), folder / "series" / "1.2.840.5")
    save(make_film(PIXELS), folder / "series" / "1.2.840.6")
    save(make_film(PIXELS, SOPClassUID=UID("1.2.840.10008.5.1.4.1.1.88.33")), folder / "series" / "SR1")
    (folder / "notes.txt").write_text("not a film")
    make_directory(folder / "DICOMDIR", [["SERIES", "1"]])
    jobs = plan_films([folder], tmp_path / "out")
    assert [job.relative for job in jobs] == ["series/1.2.840.5", "series/1.2.840.6"]
    assert [job.json.name for job in jobs] == ["1.2.840.5.json", "1.2.840.6.json"]


def test_dicomdir_lists_the_films(checkpoint, tmp_path, capsys):
    disc = tmp_path / "disc"
    (disc / "IMAGES").mkdir(parents=True)
    save(make_film(PIXELS), disc / "IMAGES" / "IM1")
    save(make_film(PIXELS), disc / "IMAGES" / "UNLISTED")
    make_directory(disc / "DICOMDIR", [["IMAGES", "IM1"], ["IMAGES", "LOST"]])
    assert predict([disc / "DICOMDIR"], checkpoint=checkpoint, out=tmp_path / "out") == 1
    assert "LOST: no such film" in capsys.readouterr().err
    assert (tmp_path / "out" / "IMAGES" / "IM1.json").is_file()
    assert not (tmp_path / "out" / "IMAGES" / "UNLISTED.json").exists()


def test_bad_dicomdirs_are_refused(tmp_path):
    make_directory(tmp_path / "DICOMDIR", [["..", "SECRET"]])
    with pytest.raises(ClarityError, match="outside its folder"):
        plan_films([tmp_path / "DICOMDIR"], tmp_path / "out")
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "DICOMDIR").write_bytes(b"nothing")
    with pytest.raises(ClarityError, match="not a DICOMDIR"):
        plan_films([tmp_path / "broken" / "DICOMDIR"], tmp_path / "out")
