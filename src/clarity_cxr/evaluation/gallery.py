"""Films beside what the model sees in them: film, mask, attention, heatmap and boxes, as in the paper's Figure 9."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import matplotlib
import numpy as np
from PIL import Image, ImageDraw

from clarity_cxr.data.store import FilmStore
from clarity_cxr.findings import BOXED_FINDINGS, FINDINGS
from clarity_cxr.inference.prediction import FilmPrediction
from clarity_cxr.inference.predictor import Predictor
from clarity_cxr.localization.drawing import (
    MUTED_COLOUR,
    STRIP_COLOUR,
    TEXT_COLOUR,
    TRUTH_COLOUR,
    Edges,
    Outline,
    blend,
    draw_outlines,
    resize_map,
    text_font,
)
from clarity_cxr.metrics import box_iou

PANELS = ("Film", "Mask", "Attention", "Heatmap", "Boxes")
PANEL_SIDE = 288
"""Least side of a panel in pixels; larger films are shown as large as they are."""

PREDICTED_COLOUR = (255, 72, 72)
MASK_COLOUR = np.array((88, 166, 255), dtype=np.float32)
MASK_ALPHA = 0.38
MAP_ALPHA = 0.62

_BATCH = 8
_MOST_CANDIDATES = 48
"""Films looked at in search of positives of one finding."""


@dataclass(frozen=True)
class GalleryRow:
    """One film and one finding.

    Attributes:
        image_id: the film.
        finding: what the maps are of.
        probability: the model's probability of it.
        positive: whether the model decides it positive.
        iou: overlap of the component with the most heat and the nearest true box; None without either.
        labelled: whether the film's labels hold the finding.
        panels: one RGB image per entry of `PANELS`.
    """

    image_id: str
    finding: str
    probability: float
    positive: bool
    iou: float | None
    labelled: bool
    panels: tuple[Image.Image, ...]

    @property
    def caption(self) -> str:
        """Probability, decision and overlap in words."""
        words = [f"p {self.probability:.2f}" + ("" if self.positive else ", predicted negative")]
        if self.iou is not None:
            words.append(f"IoU {self.iou:.2f}")
        if not self.labelled:
            words.append("not labelled")
        return ", ".join(words)


def gallery_rows(store: FilmStore, predictor: Predictor, films: int = 2, seed: int = 0) -> Iterator[GalleryRow]:
    """Rows of a gallery, finding by finding.

    Of every boxed finding, films of the localisation-test half (of all boxed films, if the half has none) are drawn in
    an order that only `seed` decides; the first that the model decides positive are shown and, where these are too
    few, the first that it misses. A store without boxes gives random test films, each with its most probable finding.

    Args:
        store: films and truth.
        predictor: the model.
        films: films per finding (of a store without boxes: in all).
        seed: of the draw.
    """
    if store.boxes.empty:
        yield from _random_rows(store, predictor, films, seed)
        return
    half = set(store.localization_rows("test").tolist())
    for finding in BOXED_FINDINGS:
        of_finding = store.boxes.loc[store.boxes["finding"] == finding, "row"].unique()
        candidates = np.array([row for row in of_finding if row in half] or of_finding, dtype=np.int64)
        order = np.random.default_rng([seed, FINDINGS.index(finding)]).permutation(np.sort(candidates))
        for row, prediction in _positives_first(store, predictor, order, finding, films):
            yield _gallery_row(store, row, finding, prediction)


def gallery_page(rows: Sequence[GalleryRow], title: str) -> Image.Image:
    """One picture of several rows under the panels' names."""
    side = rows[0].panels[0].width
    gap, head, text = 8, 56, 170
    font, small, heading = text_font(15), text_font(12.5), text_font(19)
    width = text + len(PANELS) * (side + gap) + gap
    page = Image.new("RGB", (width, head + len(rows) * (side + gap) + 24), STRIP_COLOUR)
    draw = ImageDraw.Draw(page)
    draw.text((gap * 2, head / 2), title, font=heading, fill=TEXT_COLOUR, anchor="lm")
    for column, name in enumerate(PANELS):
        x = text + column * (side + gap)
        draw.text((x + side / 2, head - 14), name, font=font, fill=MUTED_COLOUR, anchor="mm")
    for position, row in enumerate(rows):
        y = head + position * (side + gap)
        lines = [row.finding.replace("_", " "), row.image_id, *row.caption.split(", ")]
        for number, line in enumerate(lines):
            fill = TEXT_COLOUR if number == 0 else MUTED_COLOUR
            draw.text((gap * 2, y + 10 + 19 * number), line, font=font if number == 0 else small, fill=fill)
        for column, panel in enumerate(row.panels):
            page.paste(panel, (text + column * (side + gap), y))
    note = "predicted boxes red, radiologists' boxes green and dashed; research use only"
    draw.text((width - gap, page.height - 13), note, font=small, fill=MUTED_COLOUR, anchor="rm")
    return page


def _positives_first(
    store: FilmStore, predictor: Predictor, order: np.ndarray, finding: str, films: int
) -> list[tuple[int, FilmPrediction]]:
    positive: list[tuple[int, FilmPrediction]] = []
    missed: list[tuple[int, FilmPrediction]] = []
    for start in range(0, min(len(order), max(films, _MOST_CANDIDATES)), _BATCH):
        batch = order[start : start + _BATCH].tolist()
        for row, prediction in zip(batch, predictor.predict_batch([store.films[row] for row in batch]), strict=True):
            (positive if prediction.decisions[finding] else missed).append((row, prediction))
        if len(positive) >= films:
            break
    return (positive + missed)[:films]


def _random_rows(store: FilmStore, predictor: Predictor, films: int, seed: int) -> Iterator[GalleryRow]:
    rows = store.rows("test")
    rows = rows if len(rows) else np.arange(len(store))
    chosen = np.random.default_rng(seed).permutation(rows)[:films].tolist()
    for start in range(0, len(chosen), _BATCH):
        batch = chosen[start : start + _BATCH]
        for row, prediction in zip(batch, predictor.predict_batch([store.films[row] for row in batch]), strict=True):
            finding = max(prediction.probabilities, key=lambda name: prediction.probabilities[name])
            yield _gallery_row(store, row, finding, prediction)


def _gallery_row(store: FilmStore, row: int, finding: str, prediction: FilmPrediction) -> GalleryRow:
    of_film = store.boxes[(store.boxes["row"] == row) & (store.boxes["finding"] == finding)]
    truth = of_film[["x0", "y0", "x1", "y1"]].to_numpy(dtype=float) * store.size
    predicted = np.array([(box.x0, box.y0, box.x1, box.y1) for box in prediction.boxes if box.finding == finding])
    iou = float(box_iou(predicted[:1], truth).max()) if len(predicted) and len(truth) else None
    index = FINDINGS.index(finding)
    return GalleryRow(
        image_id=str(store.index["image_id"].iloc[row]),
        finding=finding,
        probability=prediction.probabilities[finding],
        positive=prediction.decisions[finding],
        iou=iou,
        labelled=bool(store.labels[row, index]),
        panels=_panels(np.asarray(store.films[row]), prediction, index, predicted, truth),
    )


def _panels(
    film: np.ndarray, prediction: FilmPrediction, index: int, predicted: np.ndarray, truth: np.ndarray
) -> tuple[Image.Image, ...]:
    side = max(PANEL_SIDE, len(film))
    grey = Image.fromarray(film).resize((side, side), Image.Resampling.BICUBIC).convert("RGB")
    canvas = np.asarray(grey)
    mask = Image.fromarray(prediction.masks[index]).resize((side, side), Image.Resampling.NEAREST)
    boxes = grey.copy()
    scale = side / len(film)
    outlines = [Outline(_edges(box * scale), "", PREDICTED_COLOUR) for box in predicted]
    outlines += [Outline(_edges(box * scale), "", TRUTH_COLOUR, truth=True) for box in truth]
    draw_outlines(boxes, outlines)
    return (
        grey,
        Image.fromarray(blend(canvas, MASK_COLOUR, MASK_ALPHA * np.asarray(mask, dtype=np.float32))),
        _map_panel(canvas, prediction.attention[index]),
        _map_panel(canvas, prediction.heatmaps[index]),
        boxes,
    )


def _map_panel(canvas: np.ndarray, values: np.ndarray) -> Image.Image:
    """A map, scaled to its own range, in colour over the film: where it is lowest the film stays as it is."""
    heat = resize_map(values, (canvas.shape[1], canvas.shape[0]))
    span = float(heat.max() - heat.min())
    heat = (heat - heat.min()) / span if span > 0 else np.zeros_like(heat)
    table = matplotlib.colormaps["inferno"](np.linspace(0.15, 1, 256))[:, :3].astype(np.float32) * 255
    colours = table[np.round(heat * 255).astype(np.intp)]
    return Image.fromarray(blend(canvas, colours, MAP_ALPHA * heat**0.8))


def _edges(box: np.ndarray) -> Edges:
    x0, y0, x1, y1 = box.tolist()
    return x0, y0, x1, y1
