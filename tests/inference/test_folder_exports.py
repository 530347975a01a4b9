"""Exports: COCO's own tools read them, masks are those of the heatmaps, and unions and IoU are pycocotools'."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO

from clarity_cxr.cli.predict import predict
from clarity_cxr.errors import ClarityError
from clarity_cxr.findings import FINDINGS
from clarity_cxr.inference.film_masks import encode_mask, film_heatmap, film_mask
from clarity_cxr.inference.folder_exports import CHEXLOCALIZE_TASKS, chexlocalize_masks, cxr_id
from clarity_cxr.inference.predictor import load
from clarity_cxr.metrics import mask_iou
from tests.inference.conftest import make_film


@pytest.fixture
def chexpert_films(tmp_path: Path) -> Path:
    folder = tmp_path / "valid"
    for number, name in enumerate(("patient1/study1/view1_frontal", "patient2/study1/view1_frontal")):
        path = folder / f"{name}.png"
        path.parent.mkdir(parents=True)
        Image.fromarray(make_film(number, 70 + number, 50)).save(path)
    return folder


def test_coco_reads_the_boxes(checkpoint, films, tmp_path):
    out = tmp_path / "out"
    assert predict([films], checkpoint=checkpoint, out=out, decision_threshold=0.0, overlays=False, export="coco") == 0
    coco = COCO(out / "coco.json")
    assert [category["name"] for category in coco.loadCats(coco.getCatIds())] == list(FINDINGS)
    images = {image["file_name"]: image for image in coco.loadImgs(coco.getImgIds())}
    assert sorted(images) == ["deep/one.png", "one.png", "three.jpg", "two.png"]
    film = json.loads((out / "deep" / "one.json").read_text())
    assert (images["deep/one.png"]["width"], images["deep/one.png"]["height"]) == (film["width"], film["height"])
    mine = coco.loadAnns(coco.getAnnIds(imgIds=images["deep/one.png"]["id"]))
    assert len(mine) == len(film["boxes"]) > 0
    for annotation, box in zip(mine, film["boxes"], strict=True):
        x, y, width, height = annotation["bbox"]
        assert [x, y, x + width, y + height] == pytest.approx([box[edge] for edge in ("x0", "y0", "x1", "y1")])
        assert annotation["score"] == box["score"]
        assert coco.cats[annotation["category_id"]]["name"] == box["finding"]
        assert annotation["area"] == pytest.approx(width * height)
    results = coco.loadRes(json.loads((out / "coco.json").read_text())["annotations"])
    assert len(results.getAnnIds()) == len(coco.getAnnIds())


def test_films_that_failed_are_not_in_the_export(checkpoint, films, tmp_path):
    (films / "empty.png").touch()
    assert predict([films], checkpoint=checkpoint, out=tmp_path / "out", overlays=False, export="coco") == 1
    images = json.loads((tmp_path / "out" / "coco.json").read_text())["images"]
    assert [image["id"] for image in images] == [1, 2, 3, 4]


def test_chexlocalize_holds_every_task_of_every_film(checkpoint, chexpert_films, tmp_path):
    out = tmp_path / "out"
    options = {"checkpoint": checkpoint, "out": out, "overlays": False, "decision_threshold": 0.0}
    assert predict([chexpert_films], export="chexlocalize", **options) == 0
    segmentations = json.loads((out / "chexlocalize.json").read_text())
    assert list(segmentations) == ["patient1_study1_view1_frontal", "patient2_study1_view1_frontal"]
    film = segmentations["patient2_study1_view1_frontal"]
    assert list(film) == list(CHEXLOCALIZE_TASKS)
    prediction = load(checkpoint, decision_threshold=0.0).predict(chexpert_films / "patient2/study1/view1_frontal.png")
    masks = {task: coco_mask.decode(rle) for task, rle in film.items()}
    assert {mask.shape for mask in masks.values()} == {(71, 50)}
    np.testing.assert_array_equal(masks["Pleural Effusion"], film_mask(prediction, "Effusion"))
    either = film_mask(prediction, "Mass") | film_mask(prediction, "Nodule")
    np.testing.assert_array_equal(masks["Lung Lesion"], either)
    assert masks["Edema"].any()
    assert not masks["Support Devices"].any()
    before = (out / "chexlocalize.json").read_bytes()
    predict([chexpert_films], export="chexlocalize", **options)
    assert (out / "chexlocalize.json").read_bytes() == before


def test_findings_decided_negative_have_an_empty_mask(checkpoint, chexpert_films, tmp_path):
    options = {"checkpoint": checkpoint, "overlays": False, "decision_threshold": 1.0}
    predict([chexpert_films], out=tmp_path / "out", export="chexlocalize", **options)
    segmentations = json.loads((tmp_path / "out" / "chexlocalize.json").read_text())
    assert all(coco_mask.area(rle) == 0 for film in segmentations.values() for rle in film.values())


def test_results_without_masks_are_predicted_again_for_them(checkpoint, chexpert_films, tmp_path, capsys):
    options = {"checkpoint": checkpoint, "out": tmp_path / "out", "overlays": False}
    predict([chexpert_films], **options)
    predict([chexpert_films], export="coco", **options)
    assert "0 films predicted, 2 were there already" in capsys.readouterr().out
    predict([chexpert_films], export="chexlocalize", **options)
    assert "2 films predicted:" in capsys.readouterr().out


def test_mask_iou_is_that_of_pycocotools(checkpoint, films):
    prediction = load(checkpoint).predict(films / "one.png")
    boxes = np.array([[10, 20, 60, 70], [30, 5, 75, 40]])
    truth = np.zeros((prediction.height, prediction.width), dtype=bool)
    for x0, y0, x1, y1 in boxes:
        truth[y0:y1, x0:x1] = True
    for finding in ("Mass", "Effusion", "Hernia"):
        mask = film_mask(prediction, finding)
        np.testing.assert_array_equal(mask, film_heatmap(prediction, finding) > prediction.thresholds[finding])
        np.testing.assert_array_equal(coco_mask.decode(encode_mask(mask)), mask)
        expected = coco_mask.iou([encode_mask(mask)], [encode_mask(truth)], [0])[0, 0]
        assert mask_iou(mask, boxes) == pytest.approx(expected, abs=1e-12)


def test_ids_of_chexlocalize():
    assert cxr_id("CheXpert-v1.0/valid/patient64541/study1/view1_frontal.jpg") == "patient64541_study1_view1_frontal"
    assert cxr_id("patient7/study2/view2_lateral.png") == "patient7_study2_view2_lateral"
    assert cxr_id("a/b.png") == "a_b"
    film = {"height": 4, "width": 3, "masks": {}}
    with pytest.raises(ClarityError, match=r"a/b\.png and a_b\.png: both would be a_b"):
        chexlocalize_masks([film | {"film": "a/b.png"}, film | {"film": "a_b.png"}])


def test_missing_pycocotools_is_named_before_any_film_is_predicted(checkpoint, films, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pycocotools", None)
    with pytest.raises(ClarityError, match=r'pip install "clarity-cxr\[coco\]"'):
        predict([films], checkpoint=checkpoint, out=tmp_path / "out", export="chexlocalize")
    assert not (tmp_path / "out").exists()
