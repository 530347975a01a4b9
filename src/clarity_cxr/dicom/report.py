"""A prediction as a Structured Report: TID 1500, Measurement Report."""

from typing import TYPE_CHECKING

import numpy as np

from clarity_cxr import __version__
from clarity_cxr.dicom.codes import CHEST_RADIOGRAPHY, DECIDED_POSITIVE, PROBABILITY, code, finding_code
from clarity_cxr.dicom.origin import MANUFACTURER, MODEL_NAME, ModelIdentity, object_options, parameters, result_uid
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
    from pydicom import Dataset


def report(source: "Dataset", prediction: FilmPrediction, model: ModelIdentity) -> "ComprehensiveSR":
    """Every finding with its probability and decision (TID 1501), every box as a region of the film (TID 1410).

    The report is complete but neither final nor verified: a preliminary one, until a person has read the film.

    Args:
        source: from `clarity_cxr.dicom.origin.source_header`.
        prediction: the film's prediction.
        model: what made it.
    """
    from highdicom.sr import ComprehensiveSR, MeasurementReport

    groups = [_finding_group(source, prediction, name, model) for name in prediction.probabilities]
    boxes = [_box_group(source, prediction, box, number, model) for number, box in enumerate(prediction.boxes, start=1)]
    content = MeasurementReport(
        observation_context=_observer(source, model),
        procedure_reported=code(CHEST_RADIOGRAPHY),
        imaging_measurements=[*groups, *boxes],
    )
    options = object_options(source, model, "report", 9503)
    return ComprehensiveSR(evidence=[source], content=content[0], is_complete=True, **options)


def _observer(source: "Dataset", model: ModelIdentity) -> "ObservationContext":
    from highdicom.sr import DeviceObserverIdentifyingAttributes, ObservationContext, ObserverContext
    from pydicom.sr.codedict import codes

    device = DeviceObserverIdentifyingAttributes(
        uid=result_uid(source, model, "observer"),
        name=MANUFACTURER,
        manufacturer_name=MANUFACTURER,
        model_name=MODEL_NAME,
        serial_number=model.checkpoint_sha256[:16],
    )
    return ObservationContext(observer_device_context=ObserverContext(codes.DCM.Device, device))


def _finding_group(
    source: "Dataset", prediction: FilmPrediction, finding: str, model: ModelIdentity
) -> "MeasurementsAndQualitativeEvaluations":
    from highdicom.sr import (
        MeasurementsAndQualitativeEvaluations,
        QualitativeEvaluation,
        SourceImageForMeasurementGroup,
    )
    from pydicom.sr.codedict import codes

    decision = codes.SCT.Yes if prediction.decisions[finding] else codes.SCT.No
    return MeasurementsAndQualitativeEvaluations(
        tracking_identifier=_tracking(source, model, finding),
        finding_type=finding_code(finding),
        algorithm_id=_algorithm(model),
        measurements=[_probability(prediction, finding)],
        qualitative_evaluations=[QualitativeEvaluation(code(DECIDED_POSITIVE), decision)],
        source_images=[SourceImageForMeasurementGroup.from_source_image(source)],
    )


def _box_group(
    source: "Dataset", prediction: FilmPrediction, box: Box, number: int, model: ModelIdentity
) -> "PlanarROIMeasurementsAndQualitativeEvaluations":
    from highdicom.sr import PlanarROIMeasurementsAndQualitativeEvaluations

    return PlanarROIMeasurementsAndQualitativeEvaluations(
        tracking_identifier=_tracking(source, model, f"{box.finding} box {number}"),
        referenced_region=_region(source, box),
        finding_type=finding_code(box.finding),
        algorithm_id=_algorithm(model),
        measurements=[_probability(prediction, box.finding)],
    )


def _region(source: "Dataset", box: Box) -> "ImageRegion":
    """The box's outline, closed; (0, 0) is the corner of the first pixel (PS3.3 C.18.6.1.1), as for boxes."""
    from highdicom.sr import GraphicTypeValues, ImageRegion, SourceImageForRegion

    corners = [(box.x0, box.y0), (box.x1, box.y0), (box.x1, box.y1), (box.x0, box.y1), (box.x0, box.y0)]
    return ImageRegion(
        graphic_type=GraphicTypeValues.POLYLINE,
        graphic_data=np.array(corners, dtype=np.float64),
        source_image=SourceImageForRegion.from_source_image(source),
    )


def _probability(prediction: FilmPrediction, finding: str) -> "Measurement":
    from highdicom.sr import Measurement
    from pydicom.sr.codedict import codes

    percent = round(100 * prediction.probabilities[finding], 3)
    return Measurement(name=code(PROBABILITY), value=percent, unit=codes.UCUM.Percent)


def _tracking(source: "Dataset", model: ModelIdentity, name: str) -> "TrackingIdentifier":
    from highdicom.sr import TrackingIdentifier

    return TrackingIdentifier(uid=result_uid(source, model, name), identifier=name)


def _algorithm(model: ModelIdentity) -> "AlgorithmIdentification":
    from highdicom.sr import AlgorithmIdentification

    settings = [f"{name}={value}" for name, value in parameters(model).items()]
    return AlgorithmIdentification(name=MANUFACTURER, version=__version__, parameters=settings)
