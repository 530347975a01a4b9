"""The prepared store: films of one size in one memory-mapped array, with index, boxes and packed priors beside it.

`STORE/` holds `manifest.json`, `films.npy` (n, S, S) uint8, `index.parquet`, `boxes.parquet` and, where the release has
priors, `priors.npy` (n, 4, 128, 16) uint8.
"""

import hashlib
import json
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from clarity_cxr.errors import StoreError
from clarity_cxr.findings import FINDINGS, PRIORS

FORMAT_VERSION = 1
PRIORS_SHAPE = (len(PRIORS), 128, 16)
"""Shape of one film's packed priors: four 128 x 128 masks, eight pixels to a byte, most significant bit leftmost."""

_INDEX_COLUMNS = ("image_id", "patient_id", "split", "localization", "width", "height", *FINDINGS)
_BOX_COLUMNS = ("row", "image_id", "finding", "x0", "y0", "x1", "y1")


class FilmStore:
    """A finished store, opened for reading; arrays are mapped, not loaded. Pickles as its path.

    Attributes:
        path: the store's folder.
        manifest: format version, size, findings, counts per split, digests, source, and which priors there are.
        size: side S of the films in pixels.
        films: (n, S, S) uint8, read-only memory map.
        priors: (n, 4, 128, 16) uint8, read-only memory map of bit-packed masks in the order of `PRIORS`, or None.
        index: one row per film: the columns of `Release.films` except `path`, then `split`, `localization`, and `width`
            and `height` of the original file in pixels. A finding whose label is undefined for some films is nullable.
        boxes: `row` (position in `films`), `image_id`, `finding`, and half-open `x0, y0, x1, y1` as fractions of the
            film's width and height.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.manifest = _read_manifest(path)
        self.size: int = self.manifest["size"]
        try:
            self.films: np.ndarray = np.load(path / "films.npy", mmap_mode="r", allow_pickle=False)
            has_priors = self.manifest["priors"] is not None
            self.priors: np.ndarray | None = (
                np.load(path / "priors.npy", mmap_mode="r", allow_pickle=False) if has_priors else None
            )
            self.index = pd.read_parquet(path / "index.parquet")
            self.boxes = pd.read_parquet(path / "boxes.parquet")
        except (OSError, ValueError) as error:
            raise StoreError(f"{path}: the store is damaged ({error}); delete it and prepare it again") from error
        self._check()

    def _check(self) -> None:
        count = self.manifest["films"]
        arrays: dict[str, tuple[np.ndarray, tuple[int, ...]]] = {
            "films.npy": (self.films, (count, self.size, self.size))
        }
        if self.priors is not None:
            arrays["priors.npy"] = (self.priors, (count, *PRIORS_SHAPE))
        for name, (array, shape) in arrays.items():
            if array.shape != shape or array.dtype != np.uint8:
                raise StoreError(
                    f"{self.path / name}: expected uint8 {shape}, found {array.dtype} {array.shape}; "
                    "delete the store and prepare it again"
                )
        for name, table, columns in (
            ("index.parquet", self.index, _INDEX_COLUMNS),
            ("boxes.parquet", self.boxes, _BOX_COLUMNS),
        ):
            absent = [column for column in columns if column not in table]
            if absent or (table is self.index and len(table) != count):
                raise StoreError(
                    f"{self.path / name}: does not belong to this store ({len(table)} rows, no column {absent}); "
                    "delete the store and prepare it again"
                )

    def __len__(self) -> int:
        return len(self.index)

    def __reduce__(self) -> tuple[Any, ...]:
        return open_store, (self.path,)

    @cached_property
    def labels(self) -> np.ndarray:
        """(n, 14) bool in the order of `FINDINGS`; False where the label is undefined."""
        return label_values(self.index)[0]

    @cached_property
    def labelled(self) -> np.ndarray:
        """(n, 14) bool, False where the data set does not say whether the film shows the finding."""
        return label_values(self.index)[1]

    @cached_property
    def patients(self) -> np.ndarray:
        """(n,) id of each film's patient, int64, or text where the data set's ids are not all numbers."""
        return patient_ids(self.index)

    @cached_property
    def keys(self) -> np.ndarray:
        """(n,) int64 augmentation key of each film, a function of its image id alone."""
        return augmentation_keys(self.index["image_id"])

    @property
    def fingerprint(self) -> str:
        """Digest of the ids and pixels of all films."""
        digests = self.manifest["ids_digest"] + self.manifest["film_digest"]
        return hashlib.sha256(digests.encode()).hexdigest()

    def rows(self, split: str) -> np.ndarray:
        """Positions (int64, ascending) of the films of "train", "val" or "test"."""
        return self._where("split", split, ("train", "val", "test"))

    def localization_rows(self, part: str) -> np.ndarray:
        """Positions (int64, ascending) of the boxed test films of the localisation half "val" or "test"."""
        return self._where("localization", part, ("val", "test"))

    def require_labels(self, split: str) -> None:
        """Refuse films to learn from that do not say of every finding whether they show it.

        Raises:
            StoreError: a label is undefined.
        """
        rows = self.rows(split)
        lacking = ~self.labelled[rows]
        if lacking.any():
            names = ", ".join(name for name, of in zip(FINDINGS, lacking.T, strict=True) if of.any())
            raise StoreError(
                f"{self.path}: {lacking.any(axis=1).sum()} of {len(rows)} {split} films have no label of {names}; "
                "such films can be judged, but not learned from: prepare a manifest whose training films have them all"
            )

    def _where(self, column: str, value: str, known: tuple[str, ...]) -> np.ndarray:
        if value not in known:
            raise ValueError(f"{column} is one of {known}, not {value!r}")
        return np.flatnonzero(self.index[column].eq(value).to_numpy()).astype(np.int64)


def open_store(path: Path, size: int | None = None) -> FilmStore:
    """Open a prepared store.

    Args:
        path: the store's folder.
        size: side of the films that the caller needs, if it matters.

    Raises:
        StoreError: the store is missing, unfinished, damaged, or of another size, format version or finding set.
    """
    path = Path(path)
    manifest = _read_manifest(path)
    if size is not None and manifest["size"] != size:
        raise StoreError(
            f"{path}: films are {manifest['size']} px, {size} px are needed; "
            f"prepare a store with --size {size} or change the configured image size"
        )
    return FilmStore(path)


def label_values(films: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    """(n, 14) bool labels of films, False where undefined, and (n, 14) bool whether each is defined."""
    labels = films[list(FINDINGS)]
    return labels.eq(True).fillna(False).to_numpy(dtype=bool), labels.notna().to_numpy()


def patient_ids(films: pd.DataFrame) -> np.ndarray:
    """(n,) `patient_id` of films as int64, or as text."""
    ids = films["patient_id"].to_numpy()
    return ids.astype(np.int64 if np.issubdtype(ids.dtype, np.integer) else np.str_)


def augmentation_keys(image_ids: pd.Series) -> np.ndarray:
    """First 8 bytes of BLAKE2b of each image id without its suffix, as little-endian int64."""
    stems = (name.rsplit(".", 1)[0].encode() for name in image_ids)
    return np.frombuffer(b"".join(hashlib.blake2b(stem).digest()[:8] for stem in stems), dtype="<i8").astype(np.int64)


def ids_digest(image_ids: pd.Series) -> str:
    """SHA-256 of the image ids, one a line, in the store's order."""
    return hashlib.sha256("\n".join(image_ids).encode()).hexdigest()


def _read_manifest(path: Path) -> dict[str, Any]:
    try:
        manifest = json.loads((path / "manifest.json").read_text(encoding="utf-8"))
        version, findings = manifest["format_version"], tuple(manifest["findings"])
    except (FileNotFoundError, NotADirectoryError):
        partial = path.with_name(path.name + ".partial")
        hint = (
            f"{partial} is unfinished, run the same `clarity prepare` again"
            if partial.exists()
            else ("make one with `clarity prepare RELEASE --out STORE`")
        )
        raise StoreError(f"{path}: not a prepared store (no manifest.json); {hint}") from None
    except (ValueError, KeyError, TypeError) as error:
        raise StoreError(f"{path / 'manifest.json'}: damaged ({error}); prepare the store again") from None
    if version != FORMAT_VERSION:
        raise StoreError(
            f"{path}: format version {version}, this program reads version {FORMAT_VERSION}; prepare the store again"
        )
    if findings != FINDINGS:
        raise StoreError(f"{path}: holds the findings {', '.join(findings)}; expected {', '.join(FINDINGS)}")
    absent = [key for key in ("size", "films", "priors", "ids_digest", "film_digest") if key not in manifest]
    if absent:
        raise StoreError(f"{path / 'manifest.json'}: no {', '.join(absent)}; prepare the store again")
    return manifest
