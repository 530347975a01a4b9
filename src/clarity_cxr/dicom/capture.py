"""A prediction drawn on its film as a Secondary Capture, for viewers that read neither reports nor segmentations."""

from typing import TYPE_CHECKING

import numpy as np

from clarity_cxr.dicom.origin import Origin
from clarity_cxr.dicom.view import UPRIGHT_ORIENTATION, main_orientation
from clarity_cxr.inference.overlay import prediction_overlay
from clarity_cxr.inference.prediction import FilmPrediction

if TYPE_CHECKING:
    from highdicom.sc import SCImage
    from pydicom import Dataset


def capture(origin: Origin, pixels: np.ndarray, prediction: FilmPrediction) -> "SCImage":
    """The overlay of `clarity_cxr.inference.overlay` in RGB, its longest side 512 to 1024 pixels.

    Args:
        origin: of the prediction.
        pixels: (H, W) uint8, the film.
        prediction: what is said about it.
    """
    from highdicom.sc import SCImage
    from pydicom.uid import ExplicitVRLittleEndian

    row, column = main_orientation(origin.source) or UPRIGHT_ORIENTATION
    image = SCImage.from_ref_dataset(
        ref_dataset=origin.source,
        pixel_array=np.asarray(prediction_overlay(pixels, prediction)),
        photometric_interpretation="RGB",
        bits_allocated=8,
        coordinate_system="PATIENT",
        patient_orientation=(row, column),
        transfer_syntax_uid=ExplicitVRLittleEndian,
        **origin.object_options("overlay", 9504),
    )
    image.Laterality = ""
    image.BurnedInAnnotation = "NO"
    image.DerivationDescription = "Heat and boxes drawn by software. Research use only."
    image.SourceImageSequence = [_reference(origin.source)]
    return image


def _reference(source: "Dataset") -> "Dataset":
    """The film as the image that the overlay was made from (PS3.3 C.7.6.1.1.4)."""
    from highdicom.sr import CodedConcept
    from pydicom import Dataset
    from pydicom.sr.codedict import codes

    reference = Dataset()
    reference.ReferencedSOPClassUID = source.SOPClassUID
    reference.ReferencedSOPInstanceUID = source.SOPInstanceUID
    purpose = codes.DCM.SourceImageForImageProcessingOperation
    reference.PurposeOfReferenceCodeSequence = [CodedConcept.from_code(purpose)]
    return reference
