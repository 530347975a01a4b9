"""Films read from DICOM: every depth, transfer syntax and transform; refusals of everything else."""

import shutil
import struct
import subprocess
import tracemalloc
import zlib
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pydicom import Dataset, dcmread
from pydicom.dataset import FileMetaDataset
from pydicom.encaps import encapsulate, get_frame
from pydicom.uid import (
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGLSLossless,
    RLELossless,
)

from clarity_cxr.data.images import read_film as read_png
from clarity_cxr.dicom import reading
from clarity_cxr.dicom.reading import is_dicom, may_be_film, read_film
from clarity_cxr.errors import FilmError
from tests.dicom.films import make_film, save, smooth

REAL = Path(__file__).parents[3] / "shared" / "data" / "dicom"


def encoded(film: Dataset) -> bytes:
    stream = BytesIO()
    film.save_as(stream, enforce_file_format=True)
    return stream.getvalue()


def grey(film: Dataset) -> np.ndarray:
    return read_film(encoded(film)).pixels


def scaled(values: np.ndarray, low: float, high: float) -> np.ndarray:
    """The slow reference: shades between two values."""
    return np.round(np.clip((values.astype(float) - low) / (high - low), 0, 1) * 255).astype(np.uint8)


def test_same_film_as_png_and_as_dicom_is_the_same_to_the_bit(tmp_path):
    eight = smooth(30, 21, 3, 250, dtype=np.uint8)
    Image.fromarray(eight).save(tmp_path / "8.png")
    assert np.array_equal(grey(make_film(eight)), read_png(tmp_path / "8.png"))
    sixteen = smooth(30, 21, 0, 65535)
    Image.fromarray(sixteen).save(tmp_path / "16.png")
    assert np.array_equal(grey(make_film(sixteen)), read_png(tmp_path / "16.png"))


@pytest.mark.parametrize("bits", [9, 10, 12, 14, 15, 16])
def test_deep_film_without_a_window_is_shown_over_its_values(bits):
    film = smooth(20, 16, 5, (1 << bits) - 7)
    assert np.array_equal(grey(make_film(film, bits)), scaled(film, 5, (1 << bits) - 7))


def test_shallow_film_without_a_window_keeps_its_full_range():
    film = smooth(20, 16, 40, 90, dtype=np.uint8)
    assert np.array_equal(grey(make_film(film)), film)


@pytest.mark.parametrize("photometric", ["MONOCHROME1", "MONOCHROME2 "])
def test_first_window_and_photometric_interpretation(photometric):
    film = smooth(20, 16, 0, 4095)
    read = grey(
        make_film(film, 12, PhotometricInterpretation=photometric, WindowCenter=[2048, 1], WindowWidth=[1001, 2])
    )
    expected = scaled(film, 2047.5 - 500, 2047.5 + 500)  # PS3.3 C.11.2.1.2.1
    assert np.array_equal(read, 255 - expected if photometric == "MONOCHROME1" else expected)


def test_sigmoid_window():
    film = smooth(20, 16, 0, 4095)
    read = grey(make_film(film, 12, WindowCenter=2000, WindowWidth=800, VOILUTFunction="SIGMOID"))
    shade = 1 / (1 + np.exp(-4 * (film.astype(float) - 2000) / 800))
    assert np.abs(read - 255 * shade).max() <= 0.5


def test_signed_film_with_rescale_and_window():
    film = smooth(20, 16, -1000, 1000, dtype=np.int16)
    read = grey(make_film(film, 12, RescaleSlope=2, RescaleIntercept=100, WindowCenter=100.5, WindowWidth=2001))
    assert np.array_equal(read, scaled(film * 2 + 100, -900, 1100))


def test_modality_and_voi_lookup_tables():
    film = smooth(20, 16, 0, 255, dtype=np.uint8)
    modality, voi = Dataset(), Dataset()
    modality.LUTDescriptor, modality.ModalityLUTType = [256, 0, 16], "US"
    modality.LUTData = np.arange(0, 1024, 4, dtype="<u2").tobytes()
    voi.LUTDescriptor, voi.LUTData = [1024, 0, 12], np.arange(4095, 0, -4, dtype="<u2").tobytes()
    read = grey(make_film(film, ModalityLUTSequence=[modality], VOILUTSequence=[voi, Dataset()], WindowWidth=1))
    assert np.array_equal(read, scaled(4095 - 16 * film.astype(int), 0, 4095))


def test_padding_is_black_and_does_not_stretch_the_shades():
    film = smooth(20, 16, 100, 900)
    film[:, :3] = 4000
    for photometric in ("MONOCHROME1", "MONOCHROME2"):
        read = grey(make_film(film, 12, PhotometricInterpretation=photometric, PixelPaddingValue=4000))
        assert not read[:, :3].any()
        inside = scaled(film[:, 3:], film[:, 3:].min(), film[:, 3:].max())
        assert np.array_equal(read[:, 3:], 255 - inside if photometric == "MONOCHROME1" else inside)
    film[:, :3] = 3990
    limited = make_film(film, 12, PixelPaddingValue=4000, PixelPaddingRangeLimit=3980)
    assert not grey(limited)[:, :3].any()
    signed = film.astype(np.int16)
    signed[:, :3] = -2000
    assert not grey(make_film(signed, PixelPaddingValue=-2000))[:, :3].any()


def test_bits_above_the_stored_ones_do_not_count():
    film = smooth(20, 16, 0, 4095)
    overlaid = film | (np.arange(16, dtype=np.uint16) % 2 << 14)
    assert np.array_equal(grey(make_film(overlaid, 12)), scaled(film, 0, 4095))
    assert np.array_equal(grey(make_film(film << 4, 12, HighBit=15)), scaled(film, 0, 4095))


def native(film: Dataset, syntax: UID) -> Dataset:
    film.file_meta.TransferSyntaxUID = syntax
    if syntax == ExplicitVRBigEndian and film.BitsAllocated == 16:
        film.PixelData = np.frombuffer(film.PixelData, "<u2").astype(">u2").tobytes()
    return film


def packed(film: Dataset, syntax: UID) -> Dataset:
    film.compress(syntax, generate_instance_uid=False)
    return film


@pytest.mark.parametrize("sign", [np.uint16, np.int16])
@pytest.mark.parametrize(
    "syntax",
    [
        ImplicitVRLittleEndian,
        ExplicitVRLittleEndian,
        DeflatedExplicitVRLittleEndian,
        ExplicitVRBigEndian,
        RLELossless,
        JPEGLSLossless,
        JPEG2000Lossless,
    ],
    ids=lambda syntax: syntax.name,
)
def test_lossless_transfer_syntaxes_give_the_same_pixels(syntax, sign):
    film = smooth(70, 66, -2000 if sign is np.int16 else 0, 2047 if sign is np.int16 else 4095, dtype=sign)
    made = make_film(film, 12, WindowCenter=500, WindowWidth=2000)
    expected = grey(made)
    change = packed if syntax.is_compressed and syntax != DeflatedExplicitVRLittleEndian else native
    if sign is np.int16 and syntax == ExplicitVRBigEndian:
        made.PixelData = film.astype(">i2").tobytes()
        made.file_meta.TransferSyntaxUID = syntax
    else:
        made = change(made, syntax)
    assert np.array_equal(grey(made), expected)


@pytest.mark.parametrize("option", ["+e1", "+el"], ids=["JPEG lossless SV1", "JPEG lossless"])
@pytest.mark.skipif(shutil.which("dcmcjpeg") is None, reason="dcmcjpeg (Debian package dcmtk) is not installed")
def test_lossless_jpeg(option, tmp_path):
    film = make_film(smooth(40, 30, 0, 4095), 12)
    save(film, tmp_path / "plain.dcm")
    subprocess.run(["dcmcjpeg", option, tmp_path / "plain.dcm", tmp_path / "jpeg.dcm"], check=True)
    assert "JPEG Lossless" in dcmread(tmp_path / "jpeg.dcm").file_meta.TransferSyntaxUID.name
    assert np.array_equal(read_film(tmp_path / "jpeg.dcm").pixels, grey(film))


def jpeg_baseline(pixels: np.ndarray) -> Dataset:
    stream = BytesIO()
    Image.fromarray(pixels).save(stream, "JPEG", quality=95)
    film = make_film(pixels)
    film.file_meta.TransferSyntaxUID = JPEGBaseline8Bit
    film.PixelData = encapsulate([stream.getvalue()])
    film["PixelData"].VR = "OB"
    film["PixelData"].is_undefined_length = True
    return film


def test_baseline_jpeg_is_the_film_to_a_few_shades():
    film = smooth(64, 48, 0, 255, dtype=np.uint8)
    assert np.abs(grey(jpeg_baseline(film)).astype(int) - film).max() <= 4


@pytest.mark.parametrize("syntax", [ImplicitVRLittleEndian, ExplicitVRLittleEndian], ids=lambda syntax: syntax.name)
def test_missing_file_meta_information(syntax):
    film = native(make_film(smooth(20, 16, 0, 4095), 12), syntax)
    expected = grey(film)
    meta = film.file_meta
    del film.file_meta
    bare = BytesIO()
    film.save_as(bare, implicit_vr=syntax == ImplicitVRLittleEndian, little_endian=True)
    film.file_meta = meta
    assert np.array_equal(read_film(bare.getvalue()).pixels, expected)


def test_missing_transfer_syntax_of_a_compressed_film():
    film = packed(make_film(smooth(20, 16, 0, 4095), 12), JPEGLSLossless)
    expected = grey(film)
    film.file_meta = FileMetaDataset()
    stream = BytesIO()
    film.save_as(stream, implicit_vr=False, little_endian=True)
    assert np.array_equal(read_film(stream.getvalue()).pixels, expected)


def test_header_is_kept_without_pixels_and_warns_of_what_is_no_frontal_chest_film():
    film = make_film(smooth(20, 16, 0, 255, dtype=np.uint8))
    read = read_film(encoded(film))
    assert read.header.SOPInstanceUID == film.SOPInstanceUID
    assert "PixelData" not in read.header
    assert read.warnings == []
    doubtful = {
        "View Position is LL": {"ViewPosition": "LL"},
        "Body Part Examined is HAND": {"BodyPartExamined": "HAND"},
        "Modality is CT": {"Modality": "CT"},
        "Patient Orientation is R/F": {"PatientOrientation": ["R", "F"]},
    }
    for words, attributes in doubtful.items():
        (warning,) = read_film(encoded(make_film(smooth(8, 8, 0, 255, dtype=np.uint8), **attributes))).warnings
        assert words in warning
    region = Dataset()
    region.CodeValue, region.CodingSchemeDesignator, region.CodeMeaning = "69536005", "SCT", "Head"
    coded = make_film(smooth(8, 8, 0, 255, dtype=np.uint8), BodyPartExamined=None, AnatomicRegionSequence=[region])
    assert "69536005" in read_film(encoded(coded)).warnings[0]


def test_pixels_beyond_the_expected_ones_are_left_out_with_a_warning():
    film = make_film(smooth(8, 8, 0, 255, dtype=np.uint8))
    expected = grey(film)
    film.PixelData += bytes(100)
    read = read_film(encoded(film))
    assert np.array_equal(read.pixels, expected)
    assert "164 bytes, expected 64" in read.warnings[0]


PLAIN = smooth(8, 8, 0, 255, dtype=np.uint8)
REFUSED = {
    "frames": ({"NumberOfFrames": 12}, "12 frames"),
    "colour": ({"PhotometricInterpretation": "RGB", "SamplesPerPixel": 3}, "Photometric Interpretation is RGB"),
    "palette": ({"PhotometricInterpretation": "PALETTE COLOR"}, "PALETTE COLOR"),
    "no photometric": ({"PhotometricInterpretation": None}, "Photometric Interpretation is missing"),
    "samples": ({"SamplesPerPixel": 3}, "SamplesPerPixel is 3"),
    "no rows": ({"Rows": 0}, "0 rows"),
    "absurd rows": ({"Rows": 65535, "Columns": 65535}, "65535 rows and 65535 columns"),
    "wrong rows": ({"Rows": 9}, "64 bytes, expected 72"),
    "rows missing": ({"Rows": None}, "Rows is missing"),
    "32 bits": ({"BitsAllocated": 32}, "BitsAllocated is 32"),
    "stored bits": ({"BitsStored": 12}, "BitsStored is 12, expected 1 to 8"),
    "high bit": ({"HighBit": 15}, "HighBit is 15"),
    "representation": ({"PixelRepresentation": 7}, "PixelRepresentation is 7"),
    "no pixels": ({"PixelData": None}, "holds no image"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_contradictions_are_refused_with_the_reason(name):
    attributes, reason = REFUSED[name]
    with pytest.raises(FilmError, match=reason):
        read_film(encoded(make_film(PLAIN, **attributes)))


def test_other_files_are_refused(tmp_path):
    (tmp_path / "empty.dcm").touch()
    (tmp_path / "text.dcm").write_text("no film at all, only words\n" * 100)
    Image.fromarray(PLAIN).save(tmp_path / "png.dcm", format="PNG")
    reasons = {"empty.dcm": "is empty", "text.dcm": "not a DICOM file", "png.dcm": "not a DICOM file"}
    for name, reason in {**reasons, "absent.dcm": "no such film"}.items():
        with pytest.raises(FilmError, match=rf"{name}: .*{reason}"):
            read_film(tmp_path / name)
    report = make_film(PLAIN, Rows=None, PixelData=None, SOPClassUID=UID("1.2.840.10008.5.1.4.1.1.88.33"))
    with pytest.raises(FilmError, match=r"holds no image \(Comprehensive SR Storage\)"):
        read_film(encoded(report))


@pytest.mark.parametrize("kept", [10, 140, 300, 600, -30])
def test_truncated_files_are_refused(kept):
    data = encoded(make_film(smooth(16, 16, 0, 4095), 12))
    with pytest.raises(FilmError):
        read_film(data[:kept])


def test_compressed_size_must_be_that_of_the_header():
    for change in (jpeg_baseline, lambda pixels: packed(make_film(pixels), JPEG2000Lossless)):
        film = change(smooth(64, 48, 0, 255, dtype=np.uint8))
        film.Rows = 32
        with pytest.raises(FilmError, match="compressed frame is 64 x 48"):
            read_film(encoded(film))


def test_run_lengths_that_overflow_the_frame_are_refused():
    film = packed(make_film(smooth(64, 64, 0, 4095), 12), RLELossless)
    frame = bytearray(get_frame(film.PixelData, 0, number_of_frames=1))
    for value in (0x81, 0x7F, 0xFF, 0x00):
        frame[64:] = bytes([value]) * (len(frame) - 64)
        film.PixelData = encapsulate([bytes(frame)])
        with pytest.raises(FilmError, match="RLE"):
            read_film(encoded(film))


def test_codestream_of_another_kind_or_unknown_syntax_is_refused():
    film = jpeg_baseline(smooth(64, 48, 0, 255, dtype=np.uint8))
    film.PixelData = encapsulate([b"no codestream"])
    with pytest.raises(FilmError, match="not JPEG Baseline"):
        read_film(encoded(film))
    film = jpeg_baseline(smooth(64, 48, 0, 255, dtype=np.uint8))
    film.file_meta.TransferSyntaxUID = UID("1.2.840.10008.1.2.4.102")
    with pytest.raises(FilmError, match=r"MPEG-4.*cannot be read"):
        read_film(encoded(film))
    unknown = encoded(make_film(PLAIN)).replace(b"1.2.840.10008.1.2.1\0", b"1.2.840.10008.1.2.9\0", 1)
    with pytest.raises(FilmError, match=r"1\.2\.840\.10008\.1\.2\.9 is unknown"):
        read_film(unknown)


def test_deflate_bomb_is_refused_in_bounded_memory(monkeypatch):
    monkeypatch.setattr(reading, "MAX_FILE_BYTES", 1 << 20)
    film = native(make_film(PLAIN), DeflatedExplicitVRLittleEndian)
    whole = encoded(film)
    start = whole.index(b"1.2.840.10008.1.2.1.99")
    head = whole[: 132 + 12 + struct.unpack("<I", whole[140:144])[0]]
    assert start < len(head)
    deflater = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    bomb = head + deflater.compress(bytes(200 << 20)) + deflater.flush()
    assert len(bomb) < 1 << 20
    tracemalloc.start()
    with pytest.raises(FilmError, match="decompression bomb"):
        read_film(bomb)
    assert tracemalloc.get_traced_memory()[1] < 8 << 20
    tracemalloc.stop()


def test_errors_say_nothing_of_the_patient(tmp_path):
    film = encoded(make_film(PLAIN, PatientName="Secret^Name", PatientID="S3CRET"))
    for seed in range(60):
        damaged = bytearray(film)
        for at in np.random.default_rng(seed).integers(132, len(film), 12):
            damaged[at] = seed * 7 % 256
        said = ""
        try:
            read_film(bytes(damaged))
        except FilmError as error:
            said = str(error)
        assert "ecret" not in said
        assert "3CRE" not in said


def test_dicom_is_known_by_its_mark_or_suffix(tmp_path):
    film = save(make_film(PLAIN), tmp_path / "IM0001")
    report = make_film(PLAIN, SOPClassUID=UID("1.2.840.10008.5.1.4.1.1.88.33"))
    Image.fromarray(PLAIN).save(tmp_path / "film.png")
    assert is_dicom(film)
    assert may_be_film(film)
    assert not may_be_film(save(report, tmp_path / "SR0001"))
    assert not is_dicom(tmp_path / "film.png")
    assert not is_dicom(tmp_path / "absent")
    assert is_dicom(tmp_path / "absent.DCM")


@pytest.mark.skipif(not REAL.is_dir(), reason="../shared/data/dicom is missing")
def test_real_films_are_read_and_shown_as_films():
    sizes = {"cr_monochrome1_j2k_15bit": (1955, 1841), "cr_monochrome2_jpeg": (1024, 1024)}
    sizes["dx_monochrome2_implicit"] = (1024, 1024)
    for name, size in sizes.items():
        film = read_film(REAL / f"{name}.dcm")
        assert film.pixels.shape == size
        assert film.warnings == []
        assert np.ptp(film.pixels) > 200
