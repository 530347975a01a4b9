"""Findings drawn on a film: heat above threshold, thin boxes with labels, truth in green. PIL and numpy only."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from clarity_cxr.findings import FINDINGS

Colour = tuple[int, int, int]
Edges = tuple[float, float, float, float]

FINDING_COLOURS: dict[str, Colour] = {
    "Atelectasis": (86, 180, 233),
    "Cardiomegaly": (240, 164, 20),
    "Consolidation": (170, 214, 255),
    "Edema": (255, 214, 150),
    "Effusion": (92, 140, 255),
    "Emphysema": (222, 222, 222),
    "Fibrosis": (214, 196, 120),
    "Hernia": (176, 140, 110),
    "Infiltration": (240, 228, 66),
    "Mass": (255, 106, 48),
    "Nodule": (240, 140, 195),
    "Pleural_Thickening": (190, 200, 235),
    "Pneumonia": (184, 140, 255),
    "Pneumothorax": (120, 240, 250),
}
"""One colour per finding, the same on every film. Hues of Okabe and Ito's colour-blind-safe palette, lightened for
a dark film and without its green, which is the truth's; every box is also named in words."""

TRUTH_COLOUR: Colour = (64, 222, 96)
STRIP_COLOUR: Colour = (18, 19, 22)
TEXT_COLOUR: Colour = (226, 228, 232)
MUTED_COLOUR: Colour = (150, 154, 162)

LONGEST_SIDE = 1024
"""Films with a longer side are drawn smaller."""
SHORTEST_LONGEST_SIDE = 512
"""Films with no longer side are drawn larger, so that text stays small beside them."""
STRIP_MIN_WIDTH = 320
PEAK_ALPHA = 0.38
"""Share of colour where a heatmap is 1; the film always shows through."""


@dataclass(frozen=True)
class HeatLayer:
    """One finding's heatmap (h, w) in [0, 1], of any size, shown where it exceeds `threshold`."""

    heatmap: np.ndarray
    threshold: float
    colour: Colour


@dataclass(frozen=True)
class Outline:
    """A box (x0, y0, x1, y1), half-open in pixels of the film, with its label; truth is drawn dashed."""

    edges: Edges
    label: str
    colour: Colour
    truth: bool = False


@dataclass(frozen=True)
class Entry:
    """A line of the strip below the film: a colour and what it stands for."""

    text: str
    colour: Colour


def finding_colour(finding: str) -> Colour:
    """The colour of a finding on every film."""
    return FINDING_COLOURS[finding] if finding in FINDINGS else TEXT_COLOUR


def truth_outline(finding: str, edges: Edges) -> Outline:
    """A radiologist's box."""
    return Outline(edges, f"truth: {finding}", TRUTH_COLOUR, truth=True)


def draw_overlay(
    film: np.ndarray, layers: Sequence[HeatLayer], outlines: Sequence[Outline], entries: Sequence[Entry], note: str
) -> Image.Image:
    """Draw a film with its heat and boxes, and a strip below that lists findings.

    Args:
        film: (H, W) uint8, grey.
        layers: heat, drawn in this order.
        outlines: boxes in the film's pixels, most important first: labels are placed in this order. A label that
            cannot but cover a box or another label is left out if the same label stands at another box already.
        entries: findings listed in the strip.
        note: last line of the strip.

    Returns:
        An RGB image whose upper part is the film, its longest side brought to 512..1024 pixels.
    """
    height, width = film.shape
    scale = canvas_scale(width, height)
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    canvas = np.asarray(Image.fromarray(film).resize(size, Image.Resampling.BICUBIC).convert("RGB"))
    for layer in layers:
        canvas = blend_heat(canvas, layer)
    image = Image.fromarray(canvas)
    ratio = (size[0] / width, size[1] / height) * 2
    scaled = [
        Outline(_scaled(outline.edges, ratio), outline.label, outline.colour, outline.truth) for outline in outlines
    ]
    draw_outlines(image, scaled)
    return _with_strip(image, entries, note)


def canvas_scale(width: int, height: int) -> float:
    """Factor that brings a film's longest side into 512..1024 pixels."""
    longest = max(width, height)
    return min(max(longest, SHORTEST_LONGEST_SIDE), LONGEST_SIDE) / longest


def blend_heat(canvas: np.ndarray, layer: HeatLayer) -> np.ndarray:
    """Tint an RGB image (H, W, 3) uint8 where the layer's heat exceeds its threshold, softly from there to 1."""
    height, width = canvas.shape[:2]
    heat = resize_map(layer.heatmap, (width, height))
    tinted = canvas.copy()
    if box := Image.fromarray(heat > layer.threshold).getbbox():
        left, top, right, bottom = box
        warm = (slice(top, bottom), slice(left, right))
        above = np.clip((heat[warm] - layer.threshold) / max(1 - layer.threshold, 1e-6), 0, 1)
        tinted[warm] = blend(canvas[warm], np.array(layer.colour, dtype=np.float32), PEAK_ALPHA * above**0.7)
    return tinted


def blend(canvas: np.ndarray, colours: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    """Mix colours, (3,) or (H, W, 3), into an RGB image (H, W, 3) uint8 by `alpha` (H, W) in [0, 1]."""
    share = alpha[..., None].astype(np.float32)
    return np.round(canvas * (1 - share) + colours * share).astype(np.uint8)


def resize_map(values: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Resample a map (h, w) bilinearly to `size` = (width, height), float32."""
    image = Image.fromarray(np.ascontiguousarray(values, dtype=np.float32))
    return np.asarray(image.resize(size, Image.Resampling.BILINEAR))


def draw_outlines(image: Image.Image, outlines: Sequence[Outline]) -> None:
    """Draw boxes, given in the image's pixels, on an RGB image in place; the first is drawn last, on top.

    Lines are 1 to 2 pixels wide, as the image is large; an outline without a label is drawn 2 pixels wide.
    """
    longest = max(image.size)
    draw = ImageDraw.Draw(image, "RGBA")
    for outline in reversed(outlines):
        line = max(1 if outline.label else 2, round(longest / 600))
        edges = _pixel_edges(outline.edges, image.size)
        halo = (edges[0] - 1, edges[1] - 1, edges[2] + 1, edges[3] + 1)
        draw.rectangle(halo, outline=(0, 0, 0, 110), width=line + 2)
        if outline.truth:
            _dashed_rectangle(draw, edges, outline.colour, line, dash=max(5, longest // 70))
        else:
            draw.rectangle(edges, outline=(*outline.colour, 255), width=line)
    _draw_labels(draw, outlines, image.size)


def text_font(size: float) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    """Pillow's built-in font at `size` pixels."""
    return ImageFont.load_default(size)


def _draw_labels(draw: ImageDraw.ImageDraw, outlines: Sequence[Outline], frame: tuple[int, int]) -> None:
    font = text_font(max(11.0, max(frame) / 68))
    boxes = [outline.edges for outline in outlines]
    placed: list[Edges] = []
    named: set[str] = set()
    for outline in outlines:
        if not outline.label:
            continue
        left, top, right, bottom = draw.textbbox((0, 0), outline.label, font=font)
        plate = (right - left + 6, bottom - top + 6)
        spot, covered = place_label(outline.edges, plate, frame, boxes, placed)
        if covered > 0 and outline.label in named:
            continue
        named.add(outline.label)
        placed.append(spot)
        draw.rectangle(spot, fill=(0, 0, 0, 150))
        draw.text((spot[0] + 3 - left, spot[1] + 3 - top), outline.label, font=font, fill=(*outline.colour, 255))


def place_label(
    box: Edges, plate: tuple[float, float], frame: tuple[int, int], boxes: Sequence[Edges], placed: Sequence[Edges]
) -> tuple[Edges, float]:
    """Find where a label hides least: above or below its box, else beside it, always inside the frame.

    Args:
        box: the box the label belongs to.
        plate: the label's width and height.
        frame: the image's width and height.
        boxes: all boxes of the image, which labels should not cover.
        placed: labels that have their place already, which weigh more.

    Returns:
        The label's edges, and the weighted area that it covers (0 if it hides nothing).
    """
    x0, y0, x1, y1 = box
    width, height = plate
    gap = 3.0
    corners = [
        (x0, y0 - height - gap),
        (x0, y1 + gap),
        (x1 - width, y0 - height - gap),
        (x1 - width, y1 + gap),
        (x1 + gap, y0),
        (x0 - width - gap, y0),
        (x1 + gap, y1 - height),
        (x0 - width - gap, y1 - height),
        (x0, y0 - 2 * (height + gap)),
        (x0, y1 + height + 2 * gap),
    ]
    best: tuple[Edges, float] | None = None
    for x, y in corners:
        left = min(max(x, 0.0), max(frame[0] - 1 - width, 0.0))
        top = min(max(y, 0.0), max(frame[1] - 1 - height, 0.0))
        spot = (left, top, left + width, top + height)
        covered = sum(_common_area(spot, other) for other in boxes)
        covered += 4 * sum(_common_area(spot, other) for other in placed)
        if best is None or covered < best[1]:
            best = (spot, covered)
    assert best is not None
    return best


def _common_area(a: Edges, b: Edges) -> float:
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    return max(width, 0.0) * max(height, 0.0)


def _scaled(edges: Edges, ratio: Sequence[float]) -> Edges:
    x0, y0, x1, y1 = (value * factor for value, factor in zip(edges, ratio, strict=True))
    return x0, y0, x1, y1


def _pixel_edges(edges: Edges, frame: tuple[int, int]) -> tuple[int, int, int, int]:
    """First and last pixel, inclusive, of a half-open box, inside the frame."""
    x0 = min(max(round(edges[0]), 0), frame[0] - 1)
    y0 = min(max(round(edges[1]), 0), frame[1] - 1)
    x1 = min(max(round(edges[2]) - 1, x0), frame[0] - 1)
    y1 = min(max(round(edges[3]) - 1, y0), frame[1] - 1)
    return x0, y0, x1, y1


def _dashed_rectangle(
    draw: ImageDraw.ImageDraw, edges: tuple[int, int, int, int], colour: Colour, line: int, dash: int
) -> None:
    x0, y0, x1, y1 = edges
    period = dash + max(2, dash // 2)
    for start in range(x0, x1 + 1, period):
        end = min(start + dash - 1, x1)
        draw.rectangle((start, y0, end, min(y0 + line - 1, y1)), fill=colour)
        draw.rectangle((start, max(y1 - line + 1, y0), end, y1), fill=colour)
    for start in range(y0, y1 + 1, period):
        end = min(start + dash - 1, y1)
        draw.rectangle((x0, start, min(x0 + line - 1, x1), end), fill=colour)
        draw.rectangle((max(x1 - line + 1, x0), start, x1, end), fill=colour)


def _with_strip(image: Image.Image, entries: Sequence[Entry], note: str) -> Image.Image:
    """Add the strip: entries wrapped into lines, then the note."""
    width = max(image.width, STRIP_MIN_WIDTH)
    size = max(12.0, max(image.size) / 60)
    font, small = text_font(size), text_font(max(10.0, size * 0.78))
    margin, row = round(size * 0.8), round(size * 1.6)
    rows = _wrapped(entries, font, size, width - 2 * margin)
    note_width = small.getlength(note)
    last_width = sum(extent for _, extent in rows[-1]) if rows else width
    shares_row = last_width + note_width + size <= width - 2 * margin
    height = margin + row * (len(rows) + (0 if shares_row else 1))
    sheet = Image.new("RGB", (width, image.height + height), STRIP_COLOUR)
    sheet.paste(image, ((width - image.width) // 2, 0))
    draw = ImageDraw.Draw(sheet)
    middle = image.height + margin / 2 + row / 2
    for entries_of_row in rows:
        x = float(margin)
        for entry, extent in entries_of_row:
            half = size * 0.36
            draw.rectangle((x, middle - half, x + 2 * half, middle + half), fill=entry.colour)
            draw.text((x + size, middle), entry.text, font=font, fill=TEXT_COLOUR, anchor="lm")
            x += extent
        middle += row
    if shares_row:
        middle -= row
    draw.text((width - margin, middle), note, font=small, fill=MUTED_COLOUR, anchor="rm")
    return sheet


def _wrapped(
    entries: Sequence[Entry], font: ImageFont.FreeTypeFont | ImageFont.ImageFont, size: float, width: float
) -> list[list[tuple[Entry, float]]]:
    """Entries in lines no wider than `width`, each with its extent in pixels."""
    rows: list[list[tuple[Entry, float]]] = []
    for entry in entries:
        extent = size + font.getlength(entry.text) + size * 1.2
        if not rows or sum(used for _, used in rows[-1]) + extent > width:
            rows.append([])
        rows[-1].append((entry, extent))
    return rows
