"""A prediction's heatmaps and masks in the film's own pixels, and masks as COCO's run lengths."""

from typing import Any

import numpy as np

from clarity_cxr.errors import ClarityError
from clarity_cxr.findings import FINDINGS
from clarity_cxr.inference.prediction import FilmPrediction
from clarity_cxr.localization.drawing import resize_map

Rle = dict[str, Any]
"""COCO's compressed run lengths: `size` [height, width] and `counts`, text."""


def film_heatmap(prediction: FilmPrediction, finding: str) -> np.ndarray:
    """(height, width) float32 in [0, 1], a finding's heatmap at the film's size."""
    heat = prediction.heatmaps[FINDINGS.index(finding)]
    return np.clip(resize_map(heat, (prediction.width, prediction.height)), 0, 1)


def film_mask(prediction: FilmPrediction, finding: str) -> np.ndarray:
    """(height, width) bool, the pixels whose heat exceeds the finding's threshold: those that its boxes enclose."""
    return film_heatmap(prediction, finding) > prediction.thresholds[finding]


def encode_mask(mask: np.ndarray) -> Rle:
    """A mask (height, width) bool as run lengths, by pycocotools.

    Raises:
        ClarityError: pycocotools is not installed.
    """
    encoded = pycocotools_mask().encode(np.asfortranarray(mask, dtype=np.uint8))
    return {"size": [int(side) for side in encoded["size"]], "counts": encoded["counts"].decode("ascii")}


def encode_masks(prediction: FilmPrediction) -> dict[str, Rle]:
    """finding -> its mask, of the findings decided positive."""
    return {name: encode_mask(film_mask(prediction, name)) for name in prediction.positives}


def pycocotools_mask() -> Any:
    """The module `pycocotools.mask`.

    Raises:
        ClarityError: it is not installed.
    """
    try:
        from pycocotools import mask
    except ImportError:
        raise ClarityError('run lengths need a further package: pip install "clarity-cxr[coco]"') from None
    return mask
