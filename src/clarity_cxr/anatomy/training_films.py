"""Films to train the built-in segmenter on: outlined ones, dealt into folds, and upright ones without outlines."""

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from clarity_cxr.anatomy.regions import ORGANS
from clarity_cxr.data.images import read_film
from clarity_cxr.data.release import read_release
from clarity_cxr.errors import ReleaseError
from clarity_cxr.progress import progress_bar

TRAINING_SIZE = 160
"""Side of the films in memory: a quarter more than the network's input, so that crops stay sharp."""


@dataclass(frozen=True)
class OutlinedFilms:
    """Films with the outlines that readers drew.

    Attributes:
        names: stems of the films' files, sorted.
        films: (n, TRAINING_SIZE, TRAINING_SIZE) uint8.
        masks: (n, 3, TRAINING_SIZE, TRAINING_SIZE) uint8, 0 to 255, in the order of `ORGANS`.
        folder: where full-size files are, for scoring.
    """

    names: tuple[str, ...]
    films: np.ndarray
    masks: np.ndarray
    folder: Path

    def full_size(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        """One film (H, W) uint8 and its masks (3, H, W) bool at the files' own size."""
        name = self.names[index]
        return _read_pair(self.folder, _film_path(self.folder, name))


def read_outlined_films(folder: Path) -> OutlinedFilms:
    """Read `images/`, `left_lung/`, `right_lung/` and `heart/` (PNG masks of the films' stems and sizes).

    Raises:
        ReleaseError: a folder or a mask is missing, or sizes differ.
        FilmError: a file cannot be decoded.
    """
    paths = sorted(path for path in (folder / "images").glob("*") if path.suffix.lower() in (".png", ".jpg", ".jpeg"))
    if not paths:
        raise ReleaseError(
            f"{folder / 'images'}: no PNG or JPEG films; "
            f"expected images/, left_lung/, right_lung/ and heart/ in {folder}"
        )
    films, masks = [], []
    with progress_bar("Reading outlined films", len(paths)) as advance:
        for path in paths:
            film, outlines = _read_pair(folder, path)
            films.append(_shrink(film))
            masks.append(np.stack([_shrink(outline.astype(np.uint8) * 255) for outline in outlines]))
            advance(1)
    return OutlinedFilms(tuple(path.stem for path in paths), np.stack(films), np.stack(masks), folder)


def read_upright_films(root: Path) -> np.ndarray:
    """Films of a release's official train_val list, without their labels, for the film head.

    Returns:
        (n, TRAINING_SIZE, TRAINING_SIZE) uint8.

    Raises:
        ReleaseError: the release is unsound or none of these films is there.
        FilmError: a film cannot be decoded.
    """
    films = read_release(root).films
    paths = films.loc[films["official"].eq("train_val") & films["path"].ne(""), "path"].tolist()
    if not paths:
        raise ReleaseError(f"{root}: none of the films of train_val_list.txt is under images*/")
    pictures = []
    with progress_bar("Reading upright films", len(paths)) as advance:
        for path in paths:
            pictures.append(_shrink(read_film(root / path)))
            advance(1)
    return np.stack(pictures)


def deal_folds(names: tuple[str, ...], folds: int) -> np.ndarray:
    """(n,) int fold of each film: films in the order of a hash of their names, dealt out in turn."""
    order = sorted(range(len(names)), key=lambda index: hashlib.sha256(names[index].encode()).digest())
    fold_of = np.empty(len(names), dtype=np.int64)
    fold_of[order] = np.arange(len(names)) % folds
    return fold_of


def _read_pair(folder: Path, path: Path) -> tuple[np.ndarray, np.ndarray]:
    film = read_film(path)
    outlines = []
    for organ in ORGANS:
        mask_path = folder / organ / f"{path.stem}.png"
        if not mask_path.is_file():
            raise ReleaseError(f"{mask_path}: no such mask; every film in images/ needs one per organ")
        outline = read_film(mask_path) > 127
        if outline.shape != film.shape:
            raise ReleaseError(f"{mask_path}: {outline.shape[::-1]} pixels, its film has {film.shape[::-1]}")
        outlines.append(outline)
    return film, np.stack(outlines)


def _film_path(folder: Path, name: str) -> Path:
    return next(path for path in (folder / "images").glob(f"{name}.*"))


def _shrink(picture: np.ndarray) -> np.ndarray:
    size = (TRAINING_SIZE, TRAINING_SIZE)
    return np.asarray(Image.fromarray(picture).resize(size, Image.Resampling.BOX))
