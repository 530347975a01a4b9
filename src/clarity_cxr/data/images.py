"""Decoding one film into 8-bit grey, and resizing it."""

from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path

import numpy as np
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError

from clarity_cxr.errors import FilmError
from clarity_cxr.findings import PRIORS

MAX_FILM_PIXELS = 80_000_000
"""Larger images are refused as decompression bombs; the largest detectors make about 20 million pixels."""

PRIOR_SIZE = 128
"""Side of a stored prior mask in pixels."""


def read_film(source: Path | bytes) -> np.ndarray:
    """Decode a PNG or JPEG film, a file or the bytes of one.

    Colour is reduced by the ITU-R 601 luma, which keeps equal channels exactly; an alpha channel is dropped;
    16-bit grey is scaled from 0..65535 to 0..255 and rounded; 1-bit becomes 0 and 255; an EXIF orientation is applied.

    Returns:
        (H, W) uint8, at the file's size.

    Raises:
        FilmError: the file is missing, empty, truncated, not a PNG or JPEG, or larger than `MAX_FILM_PIXELS`.
    """
    with _open_image(source) as image:
        if "exif" in image.info:
            image = ImageOps.exif_transpose(image)
        return _grey(image)


def film_size(path: Path) -> tuple[int, int]:
    """Width and height, as `read_film` would give them, from a film's header without decoding its pixels.

    Raises:
        FilmError: as `read_film`, as far as the header tells.
    """
    with _open_image(path) as image:
        turned = "exif" in image.info and image.getexif().get(ExifTags.Base.Orientation, 1) >= 5
        width, height = image.size
        return (height, width) if turned else (width, height)


def resize_film(film: np.ndarray, size: int) -> np.ndarray:
    """Resize a film to a square with a Lanczos filter over the full-resolution pixels.

    The aspect ratio is not kept: a film that is not square is stretched, as the NIH's own 1024 x 1024 files were made
    from their originals, so that box coordinates as fractions of width and height stay right. Rows come first, then
    columns: Pillow's own order, and with it the rounding, depends on its version.

    Args:
        film: (H, W) uint8.
        size: side of the result in pixels.

    Returns:
        (size, size) uint8.
    """
    if film.shape == (size, size):
        return film
    rows = Image.fromarray(film).resize((size, film.shape[0]), Image.Resampling.LANCZOS)
    return np.asarray(rows.resize((size, size), Image.Resampling.LANCZOS))


def read_priors(path: Path) -> np.ndarray:
    """Decode a release's prior file: square 8-bit grey whose bits 0..3 are the masks of `PRIORS`.

    Returns:
        (4, 128, 128) bool; masks of another size are resampled and cut at one half.

    Raises:
        FilmError: the file is unreadable, not 8-bit grey, not square, or has a bit above the fourth set.
    """
    with _open_image(path) as image:
        bits = np.asarray(image) if image.mode == "L" else None
    if bits is None or bits.shape[0] != bits.shape[1] or bits.max() >= 1 << len(PRIORS):
        raise FilmError(f"{path}: a prior must be a square 8-bit grey PNG with values below {1 << len(PRIORS)}")
    masks = bits[None] >> np.arange(len(PRIORS), dtype=np.uint8)[:, None, None] & 1 == 1
    if bits.shape[0] == PRIOR_SIZE:
        return masks
    side = (PRIOR_SIZE, PRIOR_SIZE)
    scaled = [Image.fromarray(mask.astype(np.uint8) * 255).resize(side, Image.Resampling.BILINEAR) for mask in masks]
    return np.stack([np.asarray(mask) > 127 for mask in scaled])


@contextmanager
def _open_image(source: Path | bytes) -> Iterator[Image.Image]:
    """Open a PNG or JPEG; anything that its header or its decoding (within the block) raises becomes a `FilmError`."""
    name = "the film" if isinstance(source, bytes) else str(source)
    try:
        with Image.open(BytesIO(source) if isinstance(source, bytes) else source, formats=("PNG", "JPEG")) as image:
            width, height = image.size
            if width * height > MAX_FILM_PIXELS:
                raise Image.DecompressionBombError
            yield image
    except FilmError:
        raise
    except FileNotFoundError:
        raise FilmError(f"{name}: no such film") from None
    except Image.DecompressionBombError:
        raise FilmError(
            f"{name}: more than {MAX_FILM_PIXELS:,} pixels; refused as a decompression bomb, expected a chest film"
        ) from None
    except MemoryError:
        raise
    except Exception as error:  # a damaged file makes Pillow raise nearly anything
        raise FilmError(f"{name}: {_reason(source, error)}; expected a PNG or JPEG film, fetch it again") from error


def _reason(source: Path | bytes, error: Exception) -> str:
    if isinstance(error, PermissionError):
        return "permission denied"
    if source == b"" or (isinstance(source, Path) and source.is_file() and not source.stat().st_size):
        return "the file is empty"
    if isinstance(error, UnidentifiedImageError):
        return "not a PNG or JPEG image"
    return f"cannot be decoded ({error})"


def _grey(image: Image.Image) -> np.ndarray:
    if image.mode.startswith("I"):
        deep = np.asarray(image).astype(np.uint32)
        return ((deep * 255 + 32767) // 65535).astype(np.uint8)
    if image.mode == "P":
        image = image.convert("RGB")
    return np.array(image if image.mode == "L" else image.convert("L"))
