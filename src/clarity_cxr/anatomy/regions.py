"""Anatomical regions of a film as masks: cleaning them, deriving two of them from the others, packing them as priors.

The patient's left is on the picture's right throughout.
"""

from collections.abc import Mapping

import numpy as np
from scipy import ndimage

from clarity_cxr.data.images import PRIOR_SIZE

REGIONS: tuple[str, ...] = ("left_lung", "right_lung", "heart", "mediastinum", "facies_diaphragmatica")
"""Regions of every segmenter, in the order of its arrays; sides as the patient's."""

ORGANS: tuple[str, ...] = REGIONS[:3]
"""Regions that a network or a reader outlines; the others can be derived from them."""

SMALLEST_REGION = 0.002
"""A lung or heart below this share of the film is taken for a false one and left out."""

# Geometry of the derived regions, as shares of the lungs' height unless said.
_BELOW_APEX = 0.10
_MEDIASTINUM_WIDTH = 0.28
_HEART_MARGIN = 0.02
_BASE_FROM = 0.55
_HEART_SIDES = 0.2
_BAND_ABOVE = 0.03
_BAND_BELOW = 0.07


def largest_component(mask: np.ndarray) -> np.ndarray:
    """The largest 4-connected component of a mask (H, W), its holes filled; empty below `SMALLEST_REGION`."""
    labels, count = ndimage.label(mask)
    if not count:
        return np.zeros_like(mask)
    sizes = np.bincount(labels.ravel())[1:]
    if sizes.max() < SMALLEST_REGION * mask.size:
        return np.zeros_like(mask)
    return ndimage.binary_fill_holes(labels == 1 + sizes.argmax())


def clean_organs(probabilities: np.ndarray, threshold: float = 0.5) -> np.ndarray:
    """Left lung, right lung and heart from their probabilities.

    A pixel claimed by both lungs goes to the likelier; of each organ the largest component stays, its holes filled.

    Args:
        probabilities: (3, H, W).
        threshold: probability above which a pixel belongs to an organ.

    Returns:
        (3, H, W) bool.
    """
    masks = probabilities > threshold
    left_likelier = probabilities[0] >= probabilities[1]
    masks[0] &= left_likelier
    masks[1] &= ~left_likelier
    return np.stack([largest_component(mask) for mask in masks])


def complete_regions(organs: np.ndarray) -> np.ndarray:
    """All five regions from the three organs.

    Args:
        organs: (3, H, W) bool: left lung, right lung, heart.

    Returns:
        (5, H, W) bool in the order of `REGIONS`.
    """
    left, right, heart = organs
    return np.stack([left, right, heart, mediastinum(left, right, heart), facies_diaphragmatica(left, right, heart)])


def mediastinum(left: np.ndarray, right: np.ndarray, heart: np.ndarray) -> np.ndarray:
    """The region between the lungs, heart included, derived from the masks of lungs and heart.

    From the higher apex to the heart's lowest row (without a heart: the mean level of the domes of the diaphragm),
    every row is filled between the medial borders of the lungs. Over the uppermost 10 % of a lung its border runs
    straight up. In the heart's rows the region reaches at most 2 % of the film's width beyond the heart, so that it
    does not follow the lungs' bases outwards. Of a lung that is not seen (white-out) the border is put 28 % of the
    other lung's height from the other's, which is the usual width. With neither lung the region is the heart.

    Args:
        left, right, heart: (H, W) bool.

    Returns:
        (H, W) bool, without the lungs.
    """
    if not (left.any() or right.any()):
        return heart.copy()
    height, width = heart.shape
    rows, columns = np.arange(height), np.arange(width)
    right_border, right_rows = _medial_border(right)
    left_border, left_rows = _medial_border(left[:, ::-1])
    left_border = width - left_border
    tall = max(len(right_rows), len(left_rows))
    if not right.any():
        right_border = left_border - _MEDIASTINUM_WIDTH * tall
    if not left.any():
        left_border = right_border + _MEDIASTINUM_WIDTH * tall
    top = min(seen[0] for seen in (right_rows, left_rows) if len(seen))
    domes = [_dome(lung) for lung in (left, right) if lung.any()]
    bottom = np.flatnonzero(heart.any(axis=1))[-1] if heart.any() else int(np.mean(domes))
    if heart.any():
        here = heart.any(axis=1)
        margin = _HEART_MARGIN * width
        first = np.where(here, heart.argmax(axis=1), 0)
        last = np.where(here, width - heart[:, ::-1].argmax(axis=1), width)
        right_border = np.where(here, np.maximum(right_border, first - margin), right_border)
        left_border = np.where(here, np.minimum(left_border, last + margin), left_border)
    between = (columns >= right_border[:, None]) & (columns < left_border[:, None])
    between &= ((rows >= top) & (rows <= bottom))[:, None]
    return (between | heart) & ~left & ~right


def _medial_border(lung: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """For every row, the column just right of a lung that lies on the picture's left, continued beyond its ends.

    Returns:
        The border (H,) float, and the lung's rows.
    """
    seen = np.flatnonzero(lung.any(axis=1))
    if not len(seen):
        return np.zeros(len(lung)), seen
    border = lung.shape[1] - lung[:, ::-1].argmax(axis=1).astype(float)
    begin = seen[0] + int(_BELOW_APEX * len(seen))
    known = seen[seen >= begin]
    return np.interp(np.arange(len(lung)), known, border[known]), seen


def _dome(lung: np.ndarray) -> int:
    """The row of the top of the diaphragm under a lung: the highest base among the columns of its middle third."""
    columns = np.flatnonzero(lung.any(axis=0))
    third = len(columns) // 3
    middle = columns[third : len(columns) - third]
    return int(_lowest(lung, middle).min())


def facies_diaphragmatica(left: np.ndarray, right: np.ndarray, heart: np.ndarray) -> np.ndarray:
    """The band along and under the bases of the lungs, and between them under the heart.

    Its line is the lowest lung pixel of every column beside the heart, where that is in the lower 45 % of its lung;
    the lowest heart pixel over the middle 60 % of the heart's columns; and straight in between. The band reaches from
    3 % of the lungs' height above the line to 7 % below.

    Args:
        left, right, heart: (H, W) bool.

    Returns:
        (H, W) bool; empty without lungs.
    """
    height = len(heart)
    heart_columns = np.flatnonzero(heart.any(axis=0))
    columns, rows, tall = [], [], 0
    for lung in (right, left):
        seen = np.flatnonzero(lung.any(axis=1))
        if not len(seen):
            continue
        tall = max(tall, len(seen))
        beside = np.flatnonzero(lung.any(axis=0) & ~heart.any(axis=0))
        base = _lowest(lung, beside)
        low = base >= seen[0] + _BASE_FROM * len(seen)
        columns.append(beside[low])
        rows.append(base[low])
    if not sum(map(len, columns)):
        return np.zeros_like(heart)
    margin = round(_HEART_SIDES * len(heart_columns))
    middle = heart_columns[margin : len(heart_columns) - margin]
    known, level = np.concatenate([*columns, middle]), np.concatenate([*rows, _lowest(heart, middle)])
    order = known.argsort(kind="stable")
    span = np.arange(known.min(), known.max() + 1)
    line = np.interp(span, known[order], level[order])
    down = np.arange(height)[:, None]
    band = np.zeros_like(heart)
    band[:, span] = (down > line - _BAND_ABOVE * tall) & (down <= line + _BAND_BELOW * tall)
    return band


def _lowest(mask: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """Row of the lowest pixel of a mask in each of these columns."""
    return len(mask) - 1 - mask[::-1, columns].argmax(axis=0)


def region_masks(regions: np.ndarray) -> Mapping[str, np.ndarray]:
    """Name the masks (5, H, W) of one film."""
    return dict(zip(REGIONS, regions, strict=True))


def pack_priors(regions: np.ndarray) -> np.ndarray:
    """The four priors of a store from the five regions.

    Args:
        regions: (B, 5, 128, 128) bool in the order of `REGIONS`.

    Returns:
        (B, 4, 128, 16) uint8 in the order of `clarity_cxr.findings.PRIORS`: lungs, heart, lungs and mediastinum, facies
        diaphragmatica and mediastinum; eight pixels to a byte, most significant bit leftmost.
    """
    if regions.shape[1:] != (len(REGIONS), PRIOR_SIZE, PRIOR_SIZE):
        raise ValueError(f"expected (B, 5, 128, 128), not {regions.shape}")
    left, right, heart, middle, diaphragm = regions.swapaxes(0, 1)
    lungs = left | right
    priors = np.stack([lungs, heart, lungs | middle, diaphragm | middle], axis=1)
    return np.packbits(priors, axis=-1, bitorder="big")
