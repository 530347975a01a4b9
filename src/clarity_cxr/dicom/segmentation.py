"""A prediction as two Segmentations at the film's size: the masks that the boxes enclose, and the heatmaps."""

from typing import TYPE_CHECKING

import numpy as np

from clarity_cxr.dicom.codes import finding_code
from clarity_cxr.dicom.origin import Origin
from clarity_cxr.dicom.view import main_orientation
from clarity_cxr.inference.film_masks import film_heatmap, film_mask
from clarity_cxr.inference.prediction import FilmPrediction

if TYPE_CHECKING:
    from highdicom.seg import Segmentation, SegmentDescription


def mask_segmentation(origin: Origin, prediction: FilmPrediction) -> "Segmentation | None":
    """BINARY: one segment per finding decided positive, the pixels whose heat exceeds the finding's threshold.

    None if no pixel does.
    """
    above = {name: film_mask(prediction, name) for name in prediction.positives}
    masks = {name: mask for name, mask in above.items() if mask.any()}
    return _segmentation(origin, masks, "masks", 9501, "BINARY") if masks else None


def heatmap_segmentation(origin: Origin, prediction: FilmPrediction) -> "Segmentation | None":
    """FRACTIONAL, of type PROBABILITY in 255 steps: one segment per finding decided positive, its heatmap.

    The heat is scaled to [0, 1] within each finding, so that it orders pixels and is no probability of the finding.
    None if there is no heat.
    """
    maps = {name: film_heatmap(prediction, name) for name in prediction.positives}
    maps = {name: heat for name, heat in maps.items() if np.round(255 * heat).any()}
    return _segmentation(origin, maps, "heatmaps", 9502, "FRACTIONAL") if maps else None


def _segmentation(
    origin: Origin, maps: dict[str, np.ndarray], kind: str, series_number: int, encoding: str
) -> "Segmentation":
    from highdicom.seg import Segmentation
    from pydicom.uid import ExplicitVRLittleEndian

    segmentation = Segmentation(
        source_images=[origin.source],
        pixel_array=np.stack(list(maps.values()), axis=-1)[None],
        segmentation_type=encoding,
        segment_descriptions=[_segment(number, name, origin) for number, name in enumerate(maps, start=1)],
        transfer_syntax_uid=ExplicitVRLittleEndian,
        content_label=kind.upper(),
        **origin.object_options(kind, series_number),
    )
    segmentation.PatientOrientation = main_orientation(origin.source)
    return segmentation


def _segment(number: int, finding: str, origin: Origin) -> "SegmentDescription":
    from highdicom.seg import SegmentAlgorithmTypeValues, SegmentDescription
    from pydicom.sr.codedict import codes

    return SegmentDescription(
        segment_number=number,
        segment_label=finding.replace("_", " "),
        segmented_property_category=codes.SCT.MorphologicallyAbnormalStructure,
        segmented_property_type=finding_code(finding),
        algorithm_type=SegmentAlgorithmTypeValues.AUTOMATIC,
        algorithm_identification=origin.algorithm(),
    )
