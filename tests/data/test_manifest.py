"""Manifests: what is read from the tables, what is undefined, and that the store is made as from a release."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from clarity_cxr.cli.check import check as check_command
from clarity_cxr.cli.prepare import prepare as prepare_command
from clarity_cxr.data.check import check_release
from clarity_cxr.data.findings_map import KNOWN_MAPS, load_findings_map
from clarity_cxr.data.images import read_film, resize_film
from clarity_cxr.data.manifest import Manifest, data_set, inspect_manifest
from clarity_cxr.data.prepare import prepare
from clarity_cxr.data.splits import assign_splits
from clarity_cxr.data.store import open_store
from clarity_cxr.errors import ConfigError, ReleaseError
from clarity_cxr.findings import FINDINGS

MASS, EFFUSION, CARDIOMEGALY = (FINDINGS.index(name) for name in ("Mass", "Effusion", "Cardiomegaly"))


def write_film(path: Path, width: int = 40, height: int = 30) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(len(path.name)).integers(0, 256, (height, width), dtype=np.uint8)
    Image.fromarray(pixels).save(path)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("a.png", "b.png", "deep/c.png", "d.jpg"):
        write_film(tmp_path / "films" / name)
    (tmp_path / "films.csv").write_text(
        "image,patient,split,age,sex,view,Mass,Effusion,Cardiomegaly\n"
        "films/a.png,P1,test,061Y,female,PA,1,0,\n"
        "films/b.png,P1,test,,M,AP,0,-1,1.0\n"
        "films/deep/c.png,P2,Validate,30,,,0,1,0\n"
        "films/d.png,P3,,x,U,ap,,,false\n"
    )
    return tmp_path


def inspected(table: Path, text: str, **options):
    table.write_text(text)
    return inspect_manifest(Manifest(table, **options))


def kinds(inspection) -> list[str]:
    return [problem.kind for problem in inspection.problems if problem.severity == "error"]


def labels_of(inspection) -> np.ndarray:
    """(n, 14) 1, 0, or NaN."""
    return inspection.release.films[list(FINDINGS)].astype("Float64").to_numpy(dtype=float, na_value=np.nan)


def test_columns_and_labels(folder: Path) -> None:
    inspection = inspect_manifest(Manifest(folder / "films.csv"))
    films = inspection.release.films
    assert films["image_id"].tolist() == ["films/a.png", "films/b.png", "films/deep/c.png", "films/d.png"]
    assert films["path"].tolist() == ["films/a.png", "films/b.png", "films/deep/c.png", "films/d.jpg"]
    assert films["patient_id"].tolist() == ["P1", "P1", "P2", "P3"]
    assert films["split"].tolist() == ["test", "test", "val", "test"]
    assert films["sex"].tolist() == ["F", "M", "", ""]
    assert films["view"].tolist() == ["PA", "AP", "", "AP"]
    np.testing.assert_array_equal(films["age"], [61, np.nan, 30, np.nan])
    labels = labels_of(inspection)
    np.testing.assert_array_equal(labels[:, MASS], [1, 0, 0, np.nan])
    np.testing.assert_array_equal(labels[:, EFFUSION], [0, np.nan, 1, np.nan])
    np.testing.assert_array_equal(labels[:, CARDIOMEGALY], [np.nan, 1, 0, 0])
    assert np.isnan(np.delete(labels, [MASS, EFFUSION, CARDIOMEGALY], axis=1)).all()
    assert kinds(inspection) == []
    assert "Hernia" in next(p.message for p in inspection.problems if p.kind == "undefined finding")


def test_store_of_a_manifest(folder: Path) -> None:
    table = folder / "boxes.csv"
    table.write_text("image,finding,x,y,w,h\nfilms/a.png,Mass,10,15,20,7.5\nfilms/b.png,Cardiomegaly,0,0,40.5,30\n")
    store = prepare(Manifest(folder / "films.csv", boxes=table), folder / "store", size=16, processes=1)
    assert store.manifest["source"] == "films.csv"
    assert store.manifest["splits"] == {"train": 0, "val": 1, "test": 3}
    np.testing.assert_array_equal(store.patients, ["P1", "P1", "P2", "P3"])
    np.testing.assert_array_equal(store.labels[:, EFFUSION], [False, False, True, False])
    np.testing.assert_array_equal(store.labelled[:, EFFUSION], [True, False, True, False])
    assert not store.labelled[:, FINDINGS.index("Hernia")].any()
    np.testing.assert_array_equal(store.films[2], resize_film(read_film(folder / "films/deep/c.png"), 16))
    assert store.boxes["row"].tolist() == [0, 1]
    np.testing.assert_allclose(store.boxes[["x0", "y0", "x1", "y1"]], [[0.25, 0.5, 0.75, 0.75], [0, 0, 1, 1]])
    assert store.index["localization"].tolist() in (["val", "val", "", ""], ["test", "test", "", ""])
    assert (
        prepare(Manifest(folder / "films.csv", boxes=table), folder / "store", size=16).fingerprint == store.fingerprint
    )


def test_stores_of_whole_labels_are_as_before(phantom_store) -> None:
    assert phantom_store.labelled.all()
    assert phantom_store.index[list(FINDINGS)].dtypes.eq(bool).all()
    assert phantom_store.patients.dtype == np.int64
    np.testing.assert_array_equal(phantom_store.labels, phantom_store.index[list(FINDINGS)].to_numpy())


def test_patients_are_numbers_only_if_all_are(tmp_path: Path) -> None:
    write_film(tmp_path / "a.png")

    def ids(first: str, second: str) -> list:
        text = f"image,patient,Mass\na.png,{first},1\nb.png,{second},0\n"
        return inspected(tmp_path / "films.csv", text).release.films["patient_id"].tolist()

    assert ids("7", "12") == [7, 12]
    assert ids("007", "12") == ["007", "12"]
    assert ids("839860488694292331637988235681460987", "1") == ["839860488694292331637988235681460987", "1"]


def test_a_given_split_is_kept_and_checked(tmp_path: Path) -> None:
    text = "image,patient,split,Mass\na.png,1,train,1\nb.png,2,val,0\nc.png,2,test,0\n"
    films = inspected(tmp_path / "films.csv", text).release.films
    splits = assign_splits(films, pd.DataFrame({"image_id": ["c.png"]}))
    assert splits["split"].tolist() == ["train", "val", "test"]
    assert splits["localization"].tolist()[:2] == ["", ""]
    report = check_release(Manifest(tmp_path / "films.csv"), processes=1)
    assert [p.kind for p in report.problems if p.severity == "error"] == ["missing film"] * 3 + [
        "patient in two splits"
    ]


@pytest.mark.parametrize(
    ("row", "kind"),
    [
        ("a.dcm,1,test,1", "broken row"),
        ("/a.png,1,test,1", "broken row"),
        ("a.png,,test,1", "broken row"),
        ("a.png,1,holdout,1", "broken row"),
        ("a.png,1,test,yes?", "broken label"),
        ("z.jpg,1,test,1", "repeated row"),
    ],
)
def test_each_mistake_is_named_with_its_line(tmp_path: Path, row: str, kind: str) -> None:
    inspection = inspected(tmp_path / "films.csv", f"image,patient,split,Mass\nz.png,9,test,0\n{row}\n")
    assert kinds(inspection) == [kind]
    assert "films.csv, line 3" in next(p.message for p in inspection.problems if p.kind == kind)


def test_tables_that_cannot_be_read(tmp_path: Path) -> None:
    table = tmp_path / "films.csv"
    for text, message in (
        ("image,patient,Mass\n", "no rows"),
        ("film,patient,Mass\na.png,1,0\n", r"no column for image \('image'\); found film, patient, Mass"),
        ("image,patient,Pleural Effusion\na.png,1,0\n", "no column for any finding.*--findings-map"),
        ('image,patient,Mass\n"a.png,1,0\n', "not a readable CSV"),
    ):
        with pytest.raises(ReleaseError, match=message):
            inspected(table, text)
    with pytest.raises(ReleaseError, match=r"gone\.csv: no such file"):
        inspect_manifest(Manifest(tmp_path / "gone.csv"))


def test_boxes_are_checked_against_the_films_own_size(folder: Path) -> None:
    table = folder / "boxes.csv"
    table.write_text(
        "image,finding,x0,y0,x1,y1\n"
        "films/a.png,Mass,1,2,39,31.5\n"
        "films/a.png,Mass,5,5,5,9\n"
        "films/a.png,Mass,,5,6,9\n"
        "films/a.png,Goitre,1,1,2,2\n"
        "films/e.png,Mass,1,1,2,2\n"
        "films/a.jpg,Mass,0,0,20,30\n"
    )
    inspection = inspect_manifest(Manifest(folder / "films.csv", boxes=table))
    assert kinds(inspection) == ["box outside the film"] * 3
    assert "boxes.csv, line 2: 1, 2, 39, 31.5 of films/a.png" in inspection.problems[-3].message
    assert {"box of another finding", "box of a film without a row"} < {p.kind for p in inspection.problems}
    boxes = inspection.release.boxes
    assert boxes["image_id"].tolist() == ["films/a.png"]
    np.testing.assert_allclose(boxes[["x0", "y0", "x1", "y1"]], [[0, 0, 512, 1024]])


def test_boxes_of_resized_films_have_a_frame_of_their_own(folder: Path) -> None:
    (folder / "boxes.csv").write_text("image,finding,x0,y0,x1,y1\nfilms/a.png,Mass,1000,500,2000,1500\n")
    text = "image,patient,Mass,box_width,box_height\nfilms/a.png,1,1,2000,2000\n"
    release = inspected(folder / "films.csv", text, boxes=folder / "boxes.csv").release
    np.testing.assert_allclose(release.boxes[["x0", "y0", "x1", "y1"]], [[512, 256, 1024, 768]])


def test_chexpert(tmp_path: Path) -> None:
    write_film(tmp_path / "valid/patient00002/study1/view1_frontal.jpg")
    text = (
        "Path,Sex,Age,Frontal/Lateral,AP/PA,No Finding,Enlarged Cardiomediastinum,Cardiomegaly,Lung Opacity,"
        "Lung Lesion,Edema,Consolidation,Pneumonia,Atelectasis,Pneumothorax,Pleural Effusion,Pleural Other,"
        "Fracture,Support Devices\n"
        "CheXpert-v1.0-small/valid/patient00002/study1/view1_frontal.jpg,Female,87,Frontal,AP,,,-1.0,1.0,1.0,1.0,,0.0,,,,,,\n"
        "CheXpert-v1.0-small/valid/patient00002/study1/view2_lateral.jpg,Female,87,Lateral,,,,-1.0,1.0,,,,,,,,,,\n"
    )
    inspection = inspected(tmp_path / "valid.csv", text, findings=load_findings_map("chexpert"))
    film = inspection.release.films.iloc[0]
    assert len(inspection.release.films) == 1
    assert (film["path"], film["patient_id"]) == ("valid/patient00002/study1/view1_frontal.jpg", "patient00002")
    assert (film["age"], film["sex"], film["view"], film["split"]) == (87, "F", "AP", "test")
    labels = dict(zip(FINDINGS, labels_of(inspection)[0], strict=True))
    assert labels["Edema"] == 1
    assert [labels[name] for name in ("Pneumonia", "Atelectasis", "Effusion", "Pneumothorax", "Consolidation")] == [
        0
    ] * 5
    assert all(
        np.isnan(labels[name]) for name in ("Cardiomegaly", "Mass", "Nodule", "Pleural_Thickening", "Infiltration")
    )
    assert [p.kind for p in inspection.problems] == ["rows left out", "undefined finding"]


def test_mimic(tmp_path: Path) -> None:
    text = (
        "dicom_id,subject_id,study_id,ViewPosition,split,Atelectasis,Cardiomegaly,Pleural Effusion\n"
        "02aa804e,10000032,50414267,PA,validate,,1.0,-1.0\n"
        "174413ec,10000032,50414267,LATERAL,validate,,1.0,-1.0\n"
    )
    inspection = inspected(tmp_path / "mimic.csv", text, findings=load_findings_map("mimic"))
    film = inspection.release.films.iloc[0]
    assert film["image_id"] == "files/p10/p10000032/s50414267/02aa804e.jpg"
    assert (film["patient_id"], film["split"], film["view"]) == (10000032, "val", "PA")
    labels = dict(zip(FINDINGS, labels_of(inspection)[0], strict=True))
    assert (labels["Atelectasis"], labels["Cardiomegaly"]) == (0, 1)
    assert np.isnan(labels["Effusion"])
    assert np.isnan(labels["Edema"])  # the table has no such column


def test_vindr_by_majority_of_readers(tmp_path: Path) -> None:
    for name in ("x.png", "y.png"):
        write_film(tmp_path / name, 200, 100)
    text = (
        "image_id,rad_id,Atelectasis,Pleural effusion,Nodule/Mass,No finding\n"
        "x,R1,1,1,1,0\nx,R2,1,0,1,0\nx,R3,0,0,1,0\ny,R1,0,1,0,0\ny,R2,0,0,0,1\n"
    )
    (tmp_path / "boxes.csv").write_text(
        "image_id,rad_id,class_name,x_min,y_min,x_max,y_max\n"
        "x,R1,Atelectasis,20,10,100,60\nx,R1,Pleural effusion,1,1,9,9\nx,R1,Nodule/Mass,1,1,9,9\ny,R2,No finding,,,,\n"
    )
    naming = load_findings_map("vindr")
    inspection = inspected(tmp_path / "labels.csv", text, findings=naming, boxes=tmp_path / "boxes.csv")
    assert inspection.release.films["image_id"].tolist() == ["x.png", "y.png"]
    labels = labels_of(inspection)
    np.testing.assert_array_equal(labels[:, FINDINGS.index("Atelectasis")], [1, 0])
    np.testing.assert_array_equal(labels[:, EFFUSION], [0, np.nan])
    assert np.isnan(labels[:, MASS]).all()
    assert kinds(inspection) == []
    boxes = inspection.release.boxes
    assert boxes["finding"].tolist() == ["Atelectasis"]
    np.testing.assert_allclose(boxes[["x0", "y0", "x1", "y1"]].iloc[0] / 1024, [0.1, 0.1, 0.5, 0.6])
    consensus = inspected(tmp_path / "test.csv", "image_id,age,Atelectasis\nx,50,1\ny,60,0\n", findings=naming)
    assert labels_of(consensus)[:, FINDINGS.index("Atelectasis")].tolist() == [1, 0]
    assert consensus.release.films["age"].tolist() == [50, 60]  # what the map does not name goes by its own name


def test_padchest(tmp_path: Path) -> None:
    text = (
        ",ImageID,StudyDate_DICOM,PatientID,PatientBirth,PatientSex_DICOM,Projection,Labels\n"
        "0,a.png,20140915,839860488694292331637988235681460987,1930.0,F,PA,\"['hydropneumothorax', ' pneumonia']\"\n"
        "1,b.png,20140915,2,1930.0,M,AP_horizontal,['normal']\n"
        "2,c.png,20140915,2,1930.0,M,L,['normal']\n"
        "3,d.png,20140915,3,1930.0,M,PA,\n"
        "4,e.png,20140915,3,1930.0,M,PA,\"['unchanged', 'cardiomegaly']\"\n"
    )
    inspection = inspected(tmp_path / "padchest.csv", text, findings=load_findings_map("padchest"))
    films, labels = inspection.release.films, labels_of(inspection)
    assert films["image_id"].tolist() == ["a.png", "b.png", "d.png", "e.png"]
    assert films["view"].tolist() == ["PA", "AP", "PA", "PA"]
    assert [name for name, value in zip(FINDINGS, labels[0], strict=True) if value == 1] == [
        "Effusion",
        "Pneumonia",
        "Pneumothorax",
    ]
    assert not np.isnan(labels[0]).any()
    assert (labels[1] == 0).all()
    assert np.isnan(labels[2]).all()
    assert labels[3, CARDIOMEGALY] == 1
    assert np.isnan(np.delete(labels[3], CARDIOMEGALY)).all()


def test_a_map_of_ones_own(tmp_path: Path) -> None:
    (tmp_path / "map.yaml").write_text(
        "columns: {image: 'films/{id}.png', patient: who}\nlisted: tags\nfindings: {Effusion: [fluid, haemothorax]}\n"
    )
    text = "id,who,tags\n1,ann,fluid|tube\n2,bob,tube\n"
    inspection = inspected(tmp_path / "t.csv", text, findings=load_findings_map(str(tmp_path / "map.yaml")))
    assert inspection.release.films["image_id"].tolist() == ["films/1.png", "films/2.png"]
    assert labels_of(inspection)[:, EFFUSION].tolist() == [1, 0]
    assert np.isnan(labels_of(inspection)[:, MASS]).all()


@pytest.mark.parametrize("name", KNOWN_MAPS)
def test_known_maps_are_whole(name: str) -> None:
    naming = load_findings_map(name)
    assert {"image", "patient"} <= set(naming.columns)
    assert naming.findings_of("no such name") == []


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("columns: {film: Path}", "unknown 'film'"),
        ("findings: {Fluid: [x]}", "unknown 'Fluid'"),
        ("blank: zero", "blank"),
        ("extract: {Path: 'patient'}", "no named group"),
        ("extract: {Path: '(?P<a>'}", "not a regular expression"),
        ("colums: {}", "colums"),
        ("- a list", "expected columns"),
        ("a: [", "not a findings map"),
    ],
)
def test_mistakes_in_a_map(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "map.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=message) as error:
        load_findings_map(str(path))
    assert "map.yaml" in str(error.value)


def test_command_line(folder: Path, capsys: pytest.CaptureFixture) -> None:
    options = {"images": folder, "boxes": None, "findings_map": None}
    assert check_command(folder / "films.csv", fast=True, processes=1, **options) == 0
    assert "undefined finding" in capsys.readouterr().out
    assert (
        prepare_command(folder / "films.csv", out=folder / "store", size=16, processes=1, film_check=False, **options)
        == 0
    )
    assert len(open_store(folder / "store")) == 4
    assert data_set(folder) == folder
    with pytest.raises(ConfigError, match="go with a manifest"):
        data_set(folder, findings_map="chexpert")
    with pytest.raises(ConfigError, match="no such findings map; expected chexpert"):
        data_set(folder / "films.csv", findings_map="chexprt")
