"""A real archive: Orthanc takes a film and its results, and gives back what was sent."""

import json
import shutil
import socket
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydicom import Dataset, dcmread

from clarity_cxr.dicom.peer import Outcome, Peer
from clarity_cxr.dicom.reading import read_film
from clarity_cxr.dicom.spool import IN_DOUBT
from clarity_cxr.dicom.writing import write_results
from tests.dicom.films import make_film, predict_with, save, smooth
from tests.dicom.network import send

ORTHANC = shutil.which("Orthanc") or shutil.which("Orthanc", path="/usr/sbin")
DICOMWEB = Path("/usr/share/orthanc/plugins/libOrthancDicomWeb.so")
pytestmark = pytest.mark.skipif(ORTHANC is None, reason="Orthanc (Debian package orthanc) is not installed")


class Orthanc:
    """An archive on loopback: its DICOM port, and its REST interface."""

    def __init__(self, dicom_port: int, http_port: int) -> None:
        self.peer = Peer("ORTHANC", "127.0.0.1", dicom_port)
        self.url = f"http://127.0.0.1:{http_port}"

    def get(self, path: str) -> bytes:
        with urllib.request.urlopen(f"{self.url}/{path}", timeout=30) as answer:
            return answer.read()

    def find(self, query: dict[str, str]) -> list[str]:
        body = json.dumps({"Level": "Instance", "Query": query}).encode()
        with urllib.request.urlopen(f"{self.url}/tools/find", body, timeout=30) as answer:
            return json.load(answer)

    def fetch(self, uid: str) -> Dataset:
        (instance,) = self.find({"SOPInstanceUID": uid})
        return dcmread(BytesIO(self.get(f"instances/{instance}/file")))


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.fixture(scope="module")
def orthanc(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Orthanc]:
    assert ORTHANC is not None
    folder = tmp_path_factory.mktemp("orthanc")
    archive = Orthanc(free_port(), free_port())
    settings: dict[str, Any] = {
        "StorageDirectory": str(folder),
        "IndexDirectory": str(folder),
        "DicomPort": archive.peer.port,
        "DicomAet": archive.peer.title,
        "DicomAlwaysAllowFind": True,
        "HttpPort": int(archive.url.rsplit(":", 1)[1]),
        "RemoteAccessAllowed": False,
        "AuthenticationEnabled": False,
        "Plugins": [str(DICOMWEB)] if DICOMWEB.exists() else [],
    }
    (folder / "orthanc.json").write_text(json.dumps(settings))
    with (folder / "log").open("w") as log:
        process = subprocess.Popen([ORTHANC, folder / "orthanc.json"], stdout=log, stderr=log)
    try:
        for _ in range(600):
            try:
                archive.get("system")
                break
            except OSError:
                assert process.poll() is None, (folder / "log").read_text()
                time.sleep(0.1)
        yield archive
    finally:
        process.terminate()
        process.wait(30)


@pytest.fixture(scope="module")
def stored(orthanc: Orthanc, tmp_path_factory: pytest.TempPathFactory) -> tuple[Dataset, list[Path], list[Dataset]]:
    """A film that the archive holds, its results' files, and what they were when they were sent."""
    folder = tmp_path_factory.mktemp("results")
    made = make_film(smooth(120, 100, 0, 4095), 12)
    assert send(made, orthanc.peer.port) == 0
    film = read_film(save(made, folder / "film.dcm"))
    results = write_results(film, predict_with("Mass", "Effusion")(film.pixels), "ab" * 32, folder / "out")
    sent = [dcmread(result) for result in results]
    outcomes = dict(orthanc.peer.send(results, "NODE"))
    assert list(outcomes.values()) == [Outcome.TAKEN] * 4
    assert all(path.name.endswith(IN_DOUBT) for path in outcomes)
    return made, list(outcomes), sent


def test_archive_returns_what_it_was_sent(orthanc, stored):
    made, _, sent = stored
    film = orthanc.fetch(made.SOPInstanceUID)
    assert np.array_equal(film.pixel_array, made.pixel_array)
    for result in sent:
        assert orthanc.fetch(result.SOPInstanceUID) == result


def test_archive_files_film_and_results_in_one_study(orthanc, stored):
    made, _, sent = stored
    assert len(orthanc.find({"StudyInstanceUID": str(made.StudyInstanceUID)})) == 1 + len(sent)
    assert len(json.loads(orthanc.get("patients"))) == 1


def test_archive_says_what_it_has_so_that_nothing_is_sent_twice(orthanc, stored):
    _, files, sent = stored
    (instance,) = orthanc.find({"SOPInstanceUID": str(sent[0].SOPInstanceUID)})
    before = orthanc.get(f"instances/{instance}/metadata/ReceptionDate"), orthanc.get("changes?last")
    assert [outcome for _, outcome in orthanc.peer.send(files, "NODE")] == [Outcome.TAKEN] * 4
    assert (orthanc.get(f"instances/{instance}/metadata/ReceptionDate"), orthanc.get("changes?last")) == before


@pytest.mark.skipif(not DICOMWEB.exists(), reason="Debian package orthanc-dicomweb is not installed")
def test_results_are_found_by_dicomweb(orthanc, stored):
    made, _, _ = stored
    found = json.loads(orthanc.get(f"dicom-web/studies/{made.StudyInstanceUID}/series"))
    modalities = sorted(series["00080060"]["Value"][0] for series in found)
    assert modalities == ["DX", "OT", "SEG", "SEG", "SR"]
