"""A prediction as a Structured Report: TID 1500, Measurement Report."""

from typing import TYPE_CHECKING

import numpy as np

from clarity_cxr import __version__
from clarity_cxr.dicom.codes import CHEST_RADIOGRAPHY, DECIDED_POSITIVE, PROBABILITY, code, finding_code
from clarity_cxr.dicom.origin import MANUFACTURER, MODEL_NAME, Origin
from clarity_cxr.inference.prediction import Box, FilmPrediction

if TYPE_CHECKING:
    from highdicom.sr import (
        AlgorithmIdentification,
        ComprehensiveSR,
        ImageRegion,
        Measurement,
        MeasurementsAndQualitativeEvaluations,
        ObservationContext,
        PlanarROIMeasurementsAndQualitativeEvaluations,
        TrackingIdentifier,
    )


def report(origin: Origin, prediction: FilmPrediction) -> "ComprehensiveSR":
    """Every finding with its probability and decision (TID 1501), every box as a region of the film (TID 1410).

    The report is complete but neither final nor verified: a preliminary one, until a person has read the film.

    Args:
        origin: of the prediction.
        prediction: what is said about the film.
    """
    from highdicom.sr import ComprehensiveSR, MeasurementReport

    groups = [_finding_group(origin, prediction, name) for name in prediction.probabilities]
    boxes = [_box_group(origin, prediction, box, number) for number, box in enumerate(prediction.boxes, start=1)]
    content = MeasurementReport(
        observation_context=_observer(origin),
        procedure_reported=code(CHEST_RADIOGRAPHY),
        imaging_measurements=[*groups, *boxes],
    )
    options = origin.object_options("report", 9503)
    return ComprehensiveSR(evidence=[origin.source], content=content[0], is_complete=True, **options)


def _observer(origin: Origin) -> "ObservationContext":
    from highdicom.sr import DeviceObserverIdentifyingAttributes, ObservationContext, ObserverContext
    from pydicom.sr.codedict import codes

    device = DeviceObserverIdentifyingAttributes(
        uid=origin.uid("observer"),
        name=MANUFACTURER,
        manufacturer_name=MANUFACTURER,
        model_name=MODEL_NAME,
        serial_number=origin.checkpoint_sha256[:16],
    )
    return ObservationContext(observer_device_context=ObserverContext(codes.DCM.Device, device))


def _finding_group(origin: Origin, prediction: FilmPrediction, finding: str) -> "MeasurementsAndQualitativeEvaluations":
    from highdicom.sr import (
        MeasurementsAndQualitativeEvaluations,
        QualitativeEvaluation,
        SourceImageForMeasurementGroup,
    )
    from pydicom.sr.codedict import codes

    decision = codes.SCT.Yes if prediction.decisions[finding] else codes.SCT.No
    return MeasurementsAndQualitativeEvaluations(
        tracking_identifier=_tracking(origin, finding),
        finding_type=finding_code(finding),
        algorithm_id=_algorithm(origin),
        measurements=[_probability(prediction, finding)],
        qualitative_evaluations=[QualitativeEvaluation(code(DECIDED_POSITIVE), decision)],
        source_images=[SourceImageForMeasurementGroup.from_source_image(origin.source)],
    )


def _box_group(
    origin: Origin, prediction: FilmPrediction, box: Box, number: int
) -> "PlanarROIMeasurementsAndQualitativeEvaluations":
    from highdicom.sr import PlanarROIMeasurementsAndQualitativeEvaluations

    return PlanarROIMeasurementsAndQualitativeEvaluations(
        tracking_identifier=_tracking(origin, f"{box.finding} box {number}"),
        referenced_region=_region(origin, box),
        finding_type=finding_code(box.finding),
        algorithm_id=_algorithm(origin),
        measurements=[_probability(prediction, box.finding)],
    )


def _region(origin: Origin, box: Box) -> "ImageRegion":
    """The box's outline, closed; (0, 0) is the corner of the first pixel (PS3.3 C.18.6.1.1), as for boxes."""
    from highdicom.sr import GraphicTypeValues, ImageRegion, SourceImageForRegion

    corners = [(box.x0, box.y0), (box.x1, box.y0), (box.x1, box.y1), (box.x0, box.y1), (box.x0, box.y0)]
    return ImageRegion(
        graphic_type=GraphicTypeValues.POLYLINE,
        graphic_data=np.array(corners, dtype=np.float64),
        source_image=SourceImageForRegion.from_source_image(origin.source),
    )


def _probability(prediction: FilmPrediction, finding: str) -> "Measurement":
    from highdicom.sr import Measurement
    from pydicom.sr.codedict import codes

    percent = round(100 * prediction.probabilities[finding], 3)
    return Measurement(name=code(PROBABILITY), value=percent, unit=codes.UCUM.Percent)


def _tracking(origin: Origin, name: str) -> "TrackingIdentifier":
    from highdicom.sr import TrackingIdentifier

    return TrackingIdentifier(uid=origin.uid(name), identifier=name)


def _algorithm(origin: Origin) -> "AlgorithmIdentification":
    from highdicom.sr import AlgorithmIdentification

    settings = [f"{name}={value}" for name, value in origin.parameters().items()]
    return AlgorithmIdentification(name=MANUFACTURER, version=__version__, parameters=settings)
