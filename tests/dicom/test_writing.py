"""Results as DICOM: what they say, what they refer to, and that the standard's validator finds no error."""

import shutil
import subprocess
from io import BytesIO

import highdicom
import numpy as np
import pytest
from highdicom.sr import srread
from pydicom import Dataset, dcmread

from clarity_cxr.dicom import RESULT_SUFFIXES
from clarity_cxr.dicom.reading import DicomFilm, read_film
from clarity_cxr.dicom.writing import encode, results, structured_report, write_results
from clarity_cxr.errors import FilmError
from clarity_cxr.findings import FINDINGS
from clarity_cxr.inference.overlay import prediction_overlay
from clarity_cxr.inference.prediction import FilmPrediction
from clarity_cxr.localization.drawing import resize_map
from tests.dicom.films import THRESHOLDS, make_film, predict_with, save, smooth

DIGEST = "ab" * 32
predict = predict_with("Effusion", "Pleural_Thickening")


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> DicomFilm:
    path = tmp_path_factory.mktemp("film") / "film.dcm"
    return read_film(save(make_film(smooth(90, 70, 0, 4095), 12), path))


@pytest.fixture(scope="module")
def prediction(film: DicomFilm) -> FilmPrediction:
    return predict(film.pixels)


@pytest.fixture(scope="module")
def made(film: DicomFilm, prediction: FilmPrediction) -> dict[str, Dataset]:
    return results(film, prediction, DIGEST)


def read_report(report: Dataset) -> highdicom.sr.MeasurementReport:
    return srread(BytesIO(encode(report))).content


def test_every_result_belongs_to_the_patient_and_study_of_the_film(film, made):
    assert tuple(made) == RESULT_SUFFIXES
    for result in made.values():
        for keyword in ("PatientName", "PatientID", "PatientBirthDate", "StudyInstanceUID", "AccessionNumber"):
            assert str(result[keyword].value) == str(film.header[keyword].value)
        assert result.SeriesInstanceUID != film.header.SeriesInstanceUID
        assert "research use only" in result.SeriesDescription
    assert len({result.SOPInstanceUID for result in made.values()}) == len(made)


def test_report_gives_every_finding_its_code_probability_and_decision(prediction, made):
    groups = read_report(made[".sr.dcm"]).get_image_measurement_groups()
    assert [group.tracking_identifier for group in groups] == list(FINDINGS)
    for group, name in zip(groups, FINDINGS, strict=True):
        (measurement,) = group.get_measurements()
        assert (measurement.name.value, measurement.unit.value) == ("111012", "%")
        assert measurement.value == pytest.approx(100 * prediction.probabilities[name])
        (evaluation,) = group.get_qualitative_evaluations()
        assert evaluation.value.meaning == ("Yes" if prediction.decisions[name] else "No")
    codes = {group.tracking_identifier: group.finding_type for group in groups}
    assert codes["Effusion"] == highdicom.sr.CodedConcept("60046008", "SCT", "Pleural effusion")
    assert codes["Pleural_Thickening"].scheme_designator == "99CLARITY"


def test_report_outlines_the_boxes_on_the_film(film, prediction, made):
    groups = read_report(made[".sr.dcm"]).get_planar_roi_measurement_groups()
    assert len(groups) == len(prediction.boxes) == 2
    for group, box in zip(groups, prediction.boxes, strict=True):
        assert group.tracking_identifier.startswith(box.finding)
        corners = group.roi.value
        assert group.roi.graphic_type.value == "POLYLINE"
        assert corners.min(axis=0) == pytest.approx([box.x0, box.y0], abs=1e-3)
        assert corners.max(axis=0) == pytest.approx([box.x1, box.y1], abs=1e-3)
        assert len(corners) == 5
        assert (corners[0] == corners[-1]).all()
        (image,) = [item for item in group.roi.ContentSequence if item.ValueType == "IMAGE"]
        assert image.ReferencedSOPSequence[0].ReferencedSOPInstanceUID == film.header.SOPInstanceUID
    (evidence,) = made[".sr.dcm"].CurrentRequestedProcedureEvidenceSequence
    (series,) = evidence.ReferencedSeriesSequence
    assert evidence.StudyInstanceUID == film.header.StudyInstanceUID
    assert series.SeriesInstanceUID == film.header.SeriesInstanceUID
    assert series.ReferencedSOPSequence[0].ReferencedSOPClassUID == film.header.SOPClassUID


def test_report_is_preliminary(made):
    report = made[".sr.dcm"]
    assert (report.CompletionFlag, report.PreliminaryFlag) == ("COMPLETE", "PRELIMINARY")
    assert report.VerificationFlag == "UNVERIFIED"


def test_masks_are_the_heat_above_threshold_at_the_films_size(film, prediction, made):
    masks = highdicom.seg.segread(BytesIO(encode(made[".seg.dcm"])))
    assert masks.SegmentationType == "BINARY"
    assert [segment.SegmentLabel for segment in masks.SegmentSequence] == ["Effusion", "Pleural Thickening"]
    assert masks.SegmentSequence[0].SegmentedPropertyTypeCodeSequence[0].CodeValue == "60046008"
    pixels = masks.get_pixels_by_source_instance([film.header.SOPInstanceUID])[0]
    for number, name in enumerate(("Effusion", "Pleural_Thickening")):
        heat = resize_map(prediction.heatmaps[FINDINGS.index(name)], (70, 90))
        assert np.array_equal(pixels[..., number], heat > THRESHOLDS[name])
    assert masks.PatientOrientation == ["L", "F"]


def test_heatmaps_are_the_heat_in_steps_of_255(film, prediction, made):
    heatmaps = highdicom.seg.segread(BytesIO(encode(made[".heat.dcm"])))
    assert (heatmaps.SegmentationType, heatmaps.SegmentationFractionalType) == ("FRACTIONAL", "PROBABILITY")
    pixels = heatmaps.get_pixels_by_source_instance([film.header.SOPInstanceUID])[0]
    heat = resize_map(prediction.heatmaps[FINDINGS.index("Effusion")], (70, 90))
    assert np.abs(pixels[..., 0] - np.clip(heat, 0, 1)).max() <= 0.5 / 255 + 1e-6


def test_secondary_capture_is_the_overlay(film, prediction, made):
    image = dcmread(BytesIO(encode(made[".sc.dcm"])))
    assert np.array_equal(image.pixel_array, np.asarray(prediction_overlay(film.pixels, prediction)))
    assert image.SourceImageSequence[0].ReferencedSOPInstanceUID == film.header.SOPInstanceUID
    assert image.PatientOrientation == ["L", "F"]


def test_same_film_and_model_give_the_same_identifiers(film, prediction, made):
    again = results(film, prediction, DIGEST)
    assert [again[suffix].SOPInstanceUID for suffix in made] == [result.SOPInstanceUID for result in made.values()]
    other = results(film, prediction, "cd" * 32)
    assert not {r.SOPInstanceUID for r in other.values()} & {r.SOPInstanceUID for r in made.values()}


def test_without_positive_findings_there_is_no_segmentation(film, tmp_path):
    write_results(film, predict(film.pixels), DIGEST, tmp_path / "film")
    assert {path.name for path in tmp_path.iterdir()} == {f"film{suffix}" for suffix in RESULT_SUFFIXES}
    written = write_results(film, predict_with()(film.pixels), DIGEST, tmp_path / "film")
    assert [path.name for path in written] == ["film.sr.dcm", "film.sc.dcm"]
    assert set(tmp_path.iterdir()) == set(written), "segmentations of an earlier prediction are gone"
    report = read_report(dcmread(written[0]))
    assert report.get_planar_roi_measurement_groups() == []
    assert len(report.get_image_measurement_groups()) == len(FINDINGS)


@pytest.mark.parametrize("keyword", ["SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID"])
def test_film_without_identifiers_cannot_be_referred_to(film, prediction, keyword):
    header = Dataset({element.tag: element for element in film.header})
    delattr(header, keyword)
    with pytest.raises(FilmError, match=keyword):
        structured_report(DicomFilm(film.pixels, [], header), prediction, DIGEST)


HEADERS = {
    "as it should be": {},
    "next to empty": dict.fromkeys(
        ("PatientName", "PatientBirthDate", "PatientSex", "StudyDate", "StudyTime", "StudyID", "AccessionNumber")
    )
    | {"PatientOrientation": None, "ReferringPhysicianName": None, "PatientID": None},
    "against the standard": {"PatientAge": "62", "PatientSex": "female", "StudyDate": "2 Jan", "PatientName": "Doe"},
    "zero spacing": {"PixelSpacing": [0, 0]},
    "Greek and Japanese": {"SpecificCharacterSet": "ISO_IR 192", "PatientName": "Διονυσιος=山田^太郎"},
}


@pytest.mark.parametrize("name", HEADERS)
@pytest.mark.filterwarnings("ignore:Invalid value")
def test_results_of_any_header_validate_and_print_no_name(name, tmp_path, recwarn, capfd):
    path = save(make_film(smooth(90, 70, 0, 255, dtype=np.uint8), **HEADERS[name]), tmp_path / "film.dcm")
    recwarn.clear()
    film = read_film(path)
    written = write_results(film, predict(film.pixels), DIGEST, tmp_path / "out")
    assert not any("Doe" in str(warning.message) for warning in recwarn.list)
    assert "Doe" not in "".join(capfd.readouterr())
    if "PatientName" in film.header:
        assert all(dcmread(result).PatientName == film.header.PatientName for result in written)
    if shutil.which("dciodvfy") is None:
        pytest.skip("dciodvfy (Debian package dicom3tools) is not installed")
    for result in written:
        said = subprocess.run(
            ["dciodvfy", result], capture_output=True, text=True, check=False, errors="replace"
        ).stderr
        assert "Error" not in said, f"{result.name}: {said}"
