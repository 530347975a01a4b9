"""Answers of the service: the library's own, and one sentence for every mistake."""

import struct
import zlib
from base64 import b64decode
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from starlette.testclient import TestClient

from clarity_cxr.errors import ClarityError
from clarity_cxr.findings import FINDINGS
from clarity_cxr.serve.answers import NOTICE
from clarity_cxr.serve.app import create_app
from clarity_cxr.serve.limits import Limits
from clarity_cxr.serve.work import BoundedWork, Busy
from tests.inference.conftest import make_film
from tests.serve.conftest import png

DICOM = Path("../shared/data/dicom/cr_monochrome2_jpeg.dcm")


def test_json_is_what_the_library_says(client, model):
    film = make_film(0, 120, 100)
    response = client.post("/v1/predict", content=png(film))
    assert response.status_code == 200
    said = response.json()
    expected = model.predictor.predict(film).to_json()
    assert {key: said[key] for key in expected} == expected
    assert said["notice"] == NOTICE
    assert said["model"]["name"] == "clarity_t8_64"
    assert said["warnings"]  # noise is no chest film


def test_jpeg_and_deep_png_are_taken(client):
    buffer = BytesIO()
    Image.fromarray(make_film(1)).save(buffer, format="JPEG")
    assert client.post("/v1/predict", content=buffer.getvalue()).json()["width"] == 80
    deep = make_film(1).astype(np.uint16) * 257
    said = client.post("/v1/predict", content=png(deep)).json()
    assert said["probabilities"] == client.post("/v1/predict", content=png(make_film(1))).json()["probabilities"]


def test_overlay_is_a_picture(client):
    response = client.post("/v1/predict?answer=overlay", content=png(make_film(2, 300, 300)))
    assert response.headers["content-type"] == "image/png"
    assert Image.open(BytesIO(response.content)).width == 512


def test_maps_are_the_predictions_maps(client, model):
    film = make_film(3, 130, 90)
    said = client.post("/v1/predict?answer=maps", content=png(film)).json()
    prediction = model.predictor.predict(film)
    heat = np.frombuffer(b64decode(said["heatmaps"]), dtype="<u2").reshape(14, said["side"], said["side"])
    np.testing.assert_allclose(heat / 65535, prediction.heatmaps, atol=1 / 65535)
    masks = np.frombuffer(b64decode(said["masks"]), dtype=np.uint8).reshape(14, said["grid"], said["grid"])
    np.testing.assert_array_equal(masks, prediction.masks)
    np.testing.assert_array_equal(np.asarray(Image.open(BytesIO(b64decode(said["film"])))), film)
    assert tuple(said["findings"]) == FINDINGS
    assert said["dicom"] is False


@pytest.mark.skipif(not DICOM.is_file(), reason="no DICOM films in ../shared/data/dicom")
def test_a_dicom_film_has_a_report(model):
    pydicom = pytest.importorskip("pydicom")
    with TestClient(create_app(model, Limits(seconds=60.0))) as client:
        said = client.post("/v1/predict", content=DICOM.read_bytes())
        report = client.post("/v1/predict?answer=report", content=DICOM.read_bytes())
    source = pydicom.dcmread(DICOM)
    assert (said.json()["width"], said.json()["height"]) == (source.Columns, source.Rows)
    assert report.headers["content-type"] == "application/dicom"
    assert pydicom.dcmread(BytesIO(report.content)).StudyInstanceUID == source.StudyInstanceUID


def bomb() -> bytes:
    """A small PNG that claims 60,000 x 60,000 pixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 0, 0, 0, 0)
    body = chunk(b"IDAT", zlib.compress(bytes(100_000)))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + body + chunk(b"IEND", b"")


@pytest.mark.parametrize(
    ("body", "query", "status", "complaint"),
    [
        (b"", "", 422, "empty"),
        (b"PK\x03\x04 a zip", "", 415, "neither PNG nor JPEG nor DICOM"),
        (png(make_film(0))[:200], "", 422, "cannot be decoded"),
        (bomb(), "", 422, "decompression bomb"),
        (bytes(128) + b"DICM" + bytes(60), "", 422, "DICOM"),
        (bytes(2 << 20), "", 413, "larger than 1 MB"),
        (png(make_film(0)), "?answer=report", 422, "structured report refers to a DICOM film"),
    ],
)
def test_mistakes_have_one_sentence(client, body, query, status, complaint):
    response = client.post(f"/v1/predict{query}", content=body)
    assert response.status_code == status
    assert complaint in response.json()["detail"]


def test_unknown_answers_are_refused(client):
    assert client.post("/v1/predict?answer=poem", content=png(make_film(0))).status_code == 422


def test_an_upload_without_a_length_is_cut_off(client):
    response = client.post("/v1/predict", content=iter([bytes(1 << 19)] * 100))
    assert response.status_code == 413


def test_too_many_at_once_are_told_to_come_back(client, monkeypatch):
    def full(self: BoundedWork) -> None:
        raise Busy

    monkeypatch.setattr(BoundedWork, "place", full)
    response = client.post("/v1/predict", content=png(make_film(0)))
    assert response.status_code == 503
    assert response.headers["retry-after"] == "1"


@pytest.mark.parametrize("wrong", [{"megabytes": 0}, {"seconds": 0.0}, {"workers": 0}, {"waiting": -1}])
def test_bounds_that_leave_nothing_are_refused(wrong):
    with pytest.raises(ClarityError, match="expected positive numbers"):
        Limits(**wrong)


def test_a_slow_prediction_is_given_up(model):
    with TestClient(create_app(model, Limits(seconds=0.0001))) as client:
        assert client.post("/v1/predict", content=png(make_film(0))).status_code in (408, 504)


def test_health_and_description(client):
    health = client.get("/health").json()
    assert health["status"] == "ok"
    assert len(health["model"]["checkpoint_sha256"]) == 64
    description = client.get("/openapi.json").json()
    body = description["paths"]["/v1/predict"]["post"]["requestBody"]["content"]
    assert {"image/png", "image/jpeg", "application/dicom"} <= set(body)


def test_pages_ask_nobody_else(client):
    page = client.get("/")
    assert "default-src 'none'" in page.headers["content-security-policy"]
    assert NOTICE in page.text
    assert "http" not in page.text.replace("http-equiv", "")
    docs = client.get("/docs").text
    assert "https://" not in docs
    for address in ("/docs/assets/swagger-ui-bundle.js", "/docs/assets/swagger-ui.css"):
        assert address in docs
        assert client.get(address).status_code == 200


def test_nothing_is_written_to_disk(client, tmp_path, monkeypatch):
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    big = png(np.random.default_rng(0).integers(0, 256, (900, 900), dtype=np.uint8))
    assert client.post("/v1/predict?answer=maps", content=big).status_code == 200
    assert list(tmp_path.iterdir()) == []
