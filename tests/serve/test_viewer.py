"""The viewer, end to end in headless Chromium: a film in, what is seen and downloaded out."""

import json
import shutil
import socket
import threading
from base64 import b64encode
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import uvicorn

from clarity_cxr.data.images import read_film
from clarity_cxr.findings import FINDINGS
from clarity_cxr.serve.answers import NOTICE, ServedModel
from clarity_cxr.serve.app import create_app
from clarity_cxr.serve.limits import Limits

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
PATIENCE = 120_000
"""Milliseconds for a step; long, for machines that do much else."""
REAL_FILM = Path("../shared/data/dicom/cr_monochrome2_jpeg.dcm")

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed (Debian package chromium)")


@pytest.fixture(scope="module")
def address(model: ServedModel) -> Iterator[str]:
    server = uvicorn.Server(uvicorn.Config(create_app(model, Limits(seconds=120.0)), log_level="warning"))
    with socket.create_server(("127.0.0.1", 0)) as listening:
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
        thread.start()
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"
        server.should_exit = True
        thread.join()


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    sync_api = pytest.importorskip("playwright.sync_api")
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"], timeout=PATIENCE)
        yield browser
        browser.close()


@pytest.fixture
def page(browser: Any, address: str) -> Iterator[Any]:
    """The viewer's page; at the end, it has asked nobody else and said nothing on the console."""
    page = browser.new_page(viewport={"width": 1280, "height": 860})
    page.set_default_timeout(PATIENCE)
    said: list[str] = []
    asked: set[str] = set()
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.on("request", lambda request: asked.add(request.url))
    page.goto(address)
    yield page
    page.close()
    assert said == []
    assert {url for url in asked if not url.startswith((address, "data:", "blob:"))} == set()


def show(page: Any, film: Path) -> None:
    page.set_input_files("#file", film)
    page.wait_for_selector(f'body[data-film="{film.name}"]')


def drop(page: Any, film: Path) -> None:
    """Drop the film on the page, as from a folder of the desktop."""
    carried = page.evaluate_handle(
        """([name, content]) => {
          const transfer = new DataTransfer();
          transfer.items.add(new File([Uint8Array.from(atob(content), (letter) => letter.charCodeAt(0))], name));
          return transfer;
        }""",
        [film.name, b64encode(film.read_bytes()).decode()],
    )
    page.dispatch_event("#stage", "drop", {"dataTransfer": carried})
    page.wait_for_selector(f'body[data-film="{film.name}"]')


def select(page: Any, finding: str) -> None:
    if page.get_attribute(f"#finding-{finding}", "aria-selected") != "true":
        page.click(f"#finding-{finding}")


def listed_boxes(page: Any) -> list[str]:
    return page.locator("#boxes li").all_inner_texts()


def film_colours(page: Any) -> dict[str, int]:
    """How many of the canvas's pixels are grey, and how many have a colour."""
    return page.evaluate(
        """() => new Promise((resolve) => requestAnimationFrame(() => requestAnimationFrame(() => {
          const canvas = document.getElementById("view");
          const copy = new OffscreenCanvas(canvas.width, canvas.height).getContext("2d", { willReadFrequently: true });
          copy.drawImage(canvas, 0, 0);
          const { data } = copy.getImageData(0, 0, canvas.width, canvas.height);
          let coloured = 0, total = 0;
          for (let at = 0; at < data.length; at += 4) {
            const [red, green, blue] = data.subarray(at, at + 3);
            total += red;
            if (Math.max(red, green, blue) - Math.min(red, green, blue) > 8) coloured++;
          }
          resolve({ coloured, mean: Math.round((4 * total) / data.length) });
        })))"""
    )


def test_findings_are_sorted_and_boxes_are_the_librarys(page, model, phantom_film):
    assert page.locator("#notice").inner_text() == NOTICE
    show(page, phantom_film)
    prediction = model.predictor.predict(read_film(phantom_film))
    expected = sorted(FINDINGS, key=lambda name: -prediction.probabilities[name])
    rows = page.locator("#findings li")
    assert [row.replace(" ", "_") for row in rows.locator(".name").all_inner_texts()] == expected
    numbers = rows.locator(".number").all_inner_texts()
    assert numbers == [f"{prediction.probabilities[name]:.2f}" for name in expected]
    for name in (expected[0], "Mass"):
        select(page, name)
        assert listed_boxes(page) == [
            f"x {round(box.x0)}–{round(box.x1)}, y {round(box.y0)}–{round(box.y1)}, score {box.score:.2f}"
            for box in prediction.boxes
            if box.finding == name
        ]


def test_the_threshold_is_live(page, phantom_film):
    show(page, phantom_film)
    select(page, "Mass")
    before = listed_boxes(page)
    page.fill("#threshold", "0.95")
    assert page.inner_text("#thresholdValue") == "0.95"
    after = listed_boxes(page)
    assert after != before
    page.keyboard.press("[")
    assert page.inner_text("#thresholdValue") == "0.94"


def test_layers_are_seen_and_hidden(page, phantom_film):
    show(page, phantom_film)
    page.keyboard.press("Escape")
    assert film_colours(page)["coloured"] == 0
    assert page.locator("#detail").is_hidden()
    page.keyboard.press("ArrowDown")
    everything = film_colours(page)["coloured"]
    page.keyboard.press("h")
    boxes_only = film_colours(page)["coloured"]
    page.keyboard.press("b")
    assert everything > boxes_only > film_colours(page)["coloured"] == 0
    for key in ("m", "a"):
        page.keyboard.press(key)
        assert film_colours(page)["coloured"] > 0
        page.keyboard.press(key)
        assert film_colours(page)["coloured"] == 0


def test_zoom_window_and_invert(page, phantom_film):
    show(page, phantom_film)
    page.keyboard.press("Escape")
    assert "512 × 512" in page.inner_text("#readout")
    plain = film_colours(page)["mean"]
    page.keyboard.press("i")
    assert film_colours(page)["mean"] != plain
    page.keyboard.press("r")
    assert film_colours(page)["mean"] == plain
    page.keyboard.press("1")
    film_colours(page)
    assert "zoom 100 %" in page.inner_text("#readout")
    page.mouse.move(400, 400)
    page.mouse.wheel(0, -400)
    film_colours(page)
    assert "zoom 272 %" in page.inner_text("#readout")
    page.mouse.down(button="right")
    page.mouse.move(300, 400, steps=4)
    page.mouse.up(button="right")
    film_colours(page)
    assert "W 215" in page.inner_text("#readout")


def test_downloads(page, phantom_film, model, tmp_path):
    show(page, phantom_film)
    with page.expect_download() as download:
        page.click('[data-save="json"]')
    said = json.loads(Path(download.value.path()).read_text())
    assert download.value.suggested_filename == f"{phantom_film.stem}.json"
    assert set(said["probabilities"]) == set(FINDINGS)
    assert "heatmaps" not in said
    with page.expect_download() as download:
        page.click('[data-save="overlay"]')
    assert Path(download.value.path()).read_bytes().startswith(b"\x89PNG")
    assert page.locator('[data-save="report"]').is_disabled()


def test_a_bad_film_is_named_and_the_good_one_stays(browser, address, phantom_film, tmp_path):
    page = browser.new_page()
    page.set_default_timeout(PATIENCE)
    page.goto(address)
    show(page, phantom_film)
    (tmp_path / "letter.png").write_text("no film")
    page.set_input_files("#file", tmp_path / "letter.png")
    page.wait_for_selector("#warning:visible")
    page.wait_for_function("document.getElementById('warning').textContent.includes('letter.png')")
    assert "neither PNG nor JPEG nor DICOM" in page.inner_text("#warning")
    assert page.inner_text("#filmname") == phantom_film.name
    page.close()


def test_it_fits_a_tablet(page, phantom_film):
    page.set_viewport_size({"width": 820, "height": 1180})
    show(page, phantom_film)
    assert page.evaluate("document.documentElement.scrollWidth") <= 820
    for part in ("#view", "#findings", "#threshold", '[data-save="json"]', "#notice"):
        box = page.locator(part).bounding_box()
        assert box["y"] + box["height"] <= 1180


@pytest.mark.skipif(not REAL_FILM.is_file(), reason="no DICOM films in ../shared/data/dicom")
def test_a_real_dicom_film_from_drop_to_report(page):
    pydicom = pytest.importorskip("pydicom")
    drop(page, REAL_FILM)
    source = pydicom.dcmread(REAL_FILM)
    assert page.inner_text("#readout").startswith(f"{source.Columns} × {source.Rows}")
    with page.expect_download() as download:
        page.click('[data-save="report"]')
    report = pydicom.dcmread(download.value.path())
    assert report.Modality == "SR"
    assert report.StudyInstanceUID == source.StudyInstanceUID
