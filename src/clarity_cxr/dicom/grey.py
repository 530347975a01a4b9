"""Stored values to 8-bit grey: modality transform, VOI, padding and photometric interpretation as one table.

Every step from a stored value to a shade depends on that value alone (PS3.3 C.11.1, C.11.2, C.7.6.3.1.2), so that at
most 65,536 values are worked out, whatever the size of the film.
"""

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from pydicom import Dataset


def grey_table(header: "Dataset", present: np.ndarray) -> np.ndarray:
    """The shade of every stored value, air dark and bone bright.

    Modality LUT or rescale, then the first VOI LUT or, without one, the first window. A film with neither is shown
    over its full range up to 8 bits, and beyond from its lowest to its highest value, padding left out.
    Padding becomes black.

    Args:
        header: the film's attributes.
        present: (2 ** BitsStored,) bool, which stored values the film has, by their bits read as unsigned.

    Returns:
        (2 ** BitsStored,) uint8, indexed by a stored value's bits read as unsigned.
    """
    from pydicom.pixels.processing import apply_modality_lut

    codes = np.arange(1 << header.BitsStored)
    signed = header.PixelRepresentation == 1
    stored = np.where(codes >= len(codes) // 2, codes - len(codes), codes) if signed else codes
    padding = _padding(header, stored)
    values = apply_modality_lut(stored, header)
    shades = _voi(header, values)
    if shades is None:
        shown = values[present & ~padding] if header.BitsStored > 8 else values
        shades = _scaled(values, shown.min(), shown.max()) if shown.size else np.zeros(len(codes))
    table = np.round(np.clip(shades, 0, 1) * 255).astype(np.uint8)
    if header.PhotometricInterpretation == "MONOCHROME1":
        table = 255 - table
    table[padding] = 0
    return table


def _voi(header: "Dataset", values: np.ndarray) -> np.ndarray | None:
    """Shades 0 to 1 by the first VOI LUT or window; None for a film that has neither."""
    from pydicom.pixels.processing import apply_voi, apply_windowing

    if header.get("VOILUTSequence"):
        bits = header.VOILUTSequence[0].LUTDescriptor[2]
        return apply_voi(np.round(values).astype(np.int64), header) / ((1 << bits) - 1)
    if header.get("WindowWidth") is None or header.get("WindowCenter") is None:
        return None
    far = np.array([-1e300, 1e300])
    with np.errstate(over="ignore"):
        windowed = apply_windowing(np.concatenate([values, far]), header)
    return _scaled(windowed[:-2], windowed[-2], windowed[-1])


def _scaled(values: np.ndarray, low: float, high: float) -> np.ndarray:
    return (values - low) / (high - low) if high != low else np.zeros(len(values))


def _padding(header: "Dataset", stored: np.ndarray) -> np.ndarray:
    """Which stored values are padding (PS3.3 C.7.5.1.1.2); a value written with the wrong sign is taken by its bits."""
    first = header.get("PixelPaddingValue")
    if first is None:
        return np.zeros(len(stored), dtype=bool)
    last = header.get("PixelPaddingRangeLimit")
    first, last = (int(stored[value % len(stored)]) for value in (first, first if last is None else last))
    return (stored >= min(first, last)) & (stored <= max(first, last))
