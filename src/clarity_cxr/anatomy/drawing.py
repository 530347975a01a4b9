"""Outlines of regions on films, and sheets of such films. PIL and numpy only."""

import numpy as np
from PIL import Image, ImageDraw, ImageFont
from scipy import ndimage

Colour = tuple[int, int, int]

COLOURS: tuple[Colour, ...] = ((230, 97, 92), (86, 180, 233), (240, 200, 60), (170, 120, 220), (90, 200, 110))
"""Outline of each region, in the order of `REGIONS`."""

TRUTH_COLOUR: Colour = (255, 255, 255)
FILM_SIDE = 320
_STRIP = 34


def draw_outlines(film: np.ndarray, masks: np.ndarray, caption: str, truth: np.ndarray | None = None) -> Image.Image:
    """One film with the outlines of its regions and a caption below.

    Args:
        film: (H, W) uint8.
        masks: (K, H, W) bool, K up to 5, in the order of `REGIONS`.
        caption: one or two lines.
        truth: (K, H, W) bool drawn in white beneath.
    """
    side = (FILM_SIDE, FILM_SIDE)
    canvas = np.array(Image.fromarray(film).convert("L").resize(side, Image.Resampling.BOX).convert("RGB"))
    for mask in truth if truth is not None else ():
        canvas[_edge(mask)] = TRUTH_COLOUR
    for mask, colour in reversed(list(zip(masks, COLOURS, strict=False))):
        canvas[_edge(mask)] = colour
    picture = Image.new("RGB", (FILM_SIDE, FILM_SIDE + _STRIP), (18, 19, 22))
    picture.paste(Image.fromarray(canvas))
    font = ImageFont.load_default(12)
    ImageDraw.Draw(picture).multiline_text((4, FILM_SIDE + 2), caption, fill=(226, 228, 232), font=font, spacing=1)
    return picture


def tile(pictures: list[Image.Image], columns: int) -> Image.Image:
    """Pictures of one size, row by row on one sheet."""
    width, height = pictures[0].size
    sheet = Image.new("RGB", (width * columns, height * -(-len(pictures) // columns)))
    for number, picture in enumerate(pictures):
        sheet.paste(picture, (number % columns * width, number // columns * height))
    return sheet


def _edge(mask: np.ndarray) -> np.ndarray:
    small = Image.fromarray(mask.astype(np.uint8) * 255).resize((FILM_SIDE, FILM_SIDE), Image.Resampling.BILINEAR)
    inside = np.asarray(small) > 127
    return inside & ~ndimage.binary_erosion(inside)
