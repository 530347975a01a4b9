"""Decoding films of every kind that a release holds, and refusing what is not a film."""

import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from clarity_cxr.data.images import MAX_FILM_PIXELS, film_size, read_film, read_priors, resize_film
from clarity_cxr.errors import FilmError


@pytest.fixture
def film() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (30, 40), dtype=np.uint8)


def _save(image: Image.Image, path: Path, **options: object) -> Path:
    image.save(path, **options)
    return path


def test_grey_rgb_rgba_and_grey_alpha_give_the_same_pixels(film: np.ndarray, tmp_path: Path) -> None:
    grey = Image.fromarray(film)
    faint = grey.convert("RGBA")
    faint.putalpha(7)
    for name, image in {"L": grey, "RGB": grey.convert("RGB"), "RGBA": faint, "LA": grey.convert("LA")}.items():
        path = _save(image, tmp_path / f"{name}.png")
        decoded = read_film(path)
        assert decoded.dtype == np.uint8
        np.testing.assert_array_equal(decoded, film, err_msg=name)
        assert film_size(path) == (40, 30)


def test_colour_is_reduced_by_its_luma(tmp_path: Path) -> None:
    path = _save(Image.new("RGB", (4, 4), (200, 100, 50)), tmp_path / "colour.png")

    assert read_film(path)[0, 0] == round(0.299 * 200 + 0.587 * 100 + 0.114 * 50)


def test_palette_entries_are_looked_up(film: np.ndarray, tmp_path: Path) -> None:
    indices = film % 16
    palette = np.arange(256, dtype=np.uint8)[::-1]
    image = Image.fromarray(indices)
    image = image.convert("P")
    image.putpalette(np.repeat(palette, 3).tobytes())

    np.testing.assert_array_equal(read_film(_save(image, tmp_path / "palette.png")), palette[indices])


def test_one_bit_becomes_black_and_white(film: np.ndarray, tmp_path: Path) -> None:
    mask = film > 127

    np.testing.assert_array_equal(read_film(_save(Image.fromarray(mask), tmp_path / "bit.png")), mask * 255)


def test_sixteen_bits_are_scaled_by_their_range(tmp_path: Path) -> None:
    deep = np.array([[0, 128, 129, 257, 32767, 32896, 65279, 65535]], dtype=np.uint16)
    path = _save(Image.fromarray(deep), tmp_path / "deep.png")

    np.testing.assert_array_equal(read_film(path), np.round(deep / 65535 * 255).astype(np.uint8))
    assert read_film(path)[0, -1] == 255


def test_jpeg_and_its_orientation(film: np.ndarray, tmp_path: Path) -> None:
    smooth = Image.fromarray(film).resize((40, 30), Image.Resampling.BILINEAR)
    path = _save(smooth, tmp_path / "film.jpg", quality=100)
    assert np.abs(read_film(path).astype(int) - np.asarray(smooth)).max() <= 3
    exif = Image.Exif()
    exif[0x0112] = 6  # turned by a quarter
    turned = _save(smooth, tmp_path / "turned.jpg", quality=100, exif=exif)

    np.testing.assert_array_equal(read_film(turned), np.rot90(read_film(path), -1))
    assert film_size(turned) == (30, 40)


def test_a_film_that_is_not_square_is_stretched() -> None:
    film = np.zeros((300, 100), dtype=np.uint8)
    film[150:] = 200

    resized = resize_film(film, 50)

    assert resized.shape == (50, 50)
    assert resized[:22].max() == 0
    assert resized[28:].min() == 200


def test_resizing_is_lanczos_over_all_pixels(film: np.ndarray) -> None:
    expected = Image.fromarray(film).resize((16, 16), Image.Resampling.LANCZOS)

    np.testing.assert_array_equal(resize_film(film, 16), np.asarray(expected))
    np.testing.assert_array_equal(resize_film(film[:30, :30], 30), film[:30, :30])


def _png_header(width: int, height: int) -> bytes:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    body = zlib.compress(bytes(1000))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", body) + chunk(b"IEND", b"")


@pytest.mark.parametrize("side", [MAX_FILM_PIXELS // 8000 + 1, 60_000])
@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
@pytest.mark.parametrize("read", [read_film, film_size])
def test_a_decompression_bomb_is_refused_by_its_header(tmp_path: Path, side: int, read: object) -> None:
    path = tmp_path / "bomb.png"
    path.write_bytes(_png_header(8000 if side < 60_000 else side, side))

    with pytest.raises(FilmError, match=r"bomb.png: .*decompression bomb"):
        read(path)


def test_empty_foreign_and_missing_files(tmp_path: Path) -> None:
    empty, text, animation = tmp_path / "empty.png", tmp_path / "text.png", tmp_path / "gif.png"
    empty.touch()
    text.write_text("this is not a film")
    Image.new("L", (4, 4)).save(animation, format="GIF")

    for path, reason in {
        empty: "the file is empty",
        text: "not a PNG or JPEG",
        animation: "not a PNG or JPEG",
        tmp_path / "none.png": "no such film",
    }.items():
        for read in (read_film, film_size):
            with pytest.raises(FilmError, match=f"{path.name}: {reason}"):
                read(path)


@pytest.mark.parametrize("suffix", [".png", ".jpg"])
def test_a_file_cut_off_anywhere_is_refused(film: np.ndarray, tmp_path: Path, suffix: str) -> None:
    path = _save(Image.fromarray(film), tmp_path / f"whole{suffix}")
    content = path.read_bytes()
    cut = tmp_path / f"cut{suffix}"
    for kept in (1, 5, 20, 40, len(content) // 2, len(content) * 9 // 10):
        cut.write_bytes(content[:kept])
        with pytest.raises(FilmError, match="cut"):
            read_film(cut)


def test_a_file_damaged_inside_gives_a_film_error_or_pixels(film: np.ndarray, tmp_path: Path) -> None:
    content = _save(Image.fromarray(film), tmp_path / "whole.png").read_bytes()
    rng = np.random.default_rng(1)
    damaged = tmp_path / "damaged.png"
    refused = 0
    for _ in range(100):
        changed = bytearray(content)
        for position in rng.integers(8, len(content), 3):
            changed[position] = rng.integers(256)
        damaged.write_bytes(changed)
        try:
            read_film(damaged)
        except FilmError:
            refused += 1
    assert refused > 50


def test_prior_bits_are_the_four_masks_in_order(tmp_path: Path) -> None:
    bits = np.random.default_rng(0).integers(0, 16, (128, 128), dtype=np.uint8)

    masks = read_priors(_save(Image.fromarray(bits), tmp_path / "prior.png"))

    assert masks.shape == (4, 128, 128)
    assert masks.dtype == bool
    np.testing.assert_array_equal(sum(masks[bit].astype(int) << bit for bit in range(4)), bits)


def test_priors_of_another_size_are_resampled(tmp_path: Path) -> None:
    bits = np.zeros((256, 256), dtype=np.uint8)
    bits[64:192, :128] = 0b0101

    masks = read_priors(_save(Image.fromarray(bits), tmp_path / "prior.png"))

    expected = np.zeros((128, 128), dtype=bool)
    expected[32:96, :64] = True
    np.testing.assert_array_equal(masks, [expected, ~expected & False, expected, expected & False])


@pytest.mark.parametrize(
    "image",
    [
        Image.new("L", (128, 64)),
        Image.new("L", (128, 128), 16),
        Image.new("RGB", (128, 128)),
    ],
)
def test_a_wrong_prior_file(tmp_path: Path, image: Image.Image) -> None:
    with pytest.raises(FilmError, match=r"prior.png: a prior must be a square 8-bit grey PNG"):
        read_priors(_save(image, tmp_path / "prior.png"))
