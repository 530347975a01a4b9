"""A batch of films read, checked and predicted, and what is kept of each: the same in every engine."""

from collections.abc import Iterable, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from clarity_cxr.anatomy.film_check import check_any_size
from clarity_cxr.errors import FilmError
from clarity_cxr.inference.films import Film, read_any_film
from clarity_cxr.inference.loading import AnyPredictor
from clarity_cxr.inference.prediction import FilmPrediction


@dataclass(frozen=True)
class PredictedFilm:
    """A film that was read, with its warnings, and what the model says about it."""

    film: Film
    prediction: FilmPrediction

    def to_json(self, name: str) -> dict[str, Any]:
        """What is kept of a film of this name, as plain values that `json.dump` writes."""
        return {"film": name, "warnings": list(self.film.warnings)} | self.prediction.to_json()


def predict_readable(
    predictor: AnyPredictor, paths: Sequence[Path], pool: Executor, strict: bool
) -> list[PredictedFilm | str]:
    """Predict those films that can be read, in one forward pass.

    Args:
        predictor: the model.
        paths: the films' files.
        pool: threads that read them.
        strict: whether a film with a warning fails.

    Returns:
        For each path the film with its prediction, or why it failed, in one line.
    """
    outcomes = list(_accepted(paths, list(pool.map(_read, paths)), strict))
    predictions = iter(predictor.predict_batch([film.pixels for film in outcomes if isinstance(film, Film)]))
    return [PredictedFilm(film, next(predictions)) if isinstance(film, Film) else film for film in outcomes]


def doubt(warnings: Iterable[str]) -> str:
    """A film's warnings as a sentence about it."""
    return f"may not be a whole upright frontal chest film: {', '.join(warnings)}"


def _accepted(paths: Sequence[Path], read: Sequence[Film | str], strict: bool) -> Iterable[Film | str]:
    checks = iter(check_any_size([film.pixels for film in read if isinstance(film, Film)]))
    for path, film in zip(paths, read, strict=True):
        if isinstance(film, str):
            yield film
            continue
        warnings = (*film.warnings, *next(checks).reasons)
        if strict and warnings:
            yield f"{path}: {doubt(warnings)}; without --strict it is predicted with this warning"
        else:
            yield replace(film, warnings=warnings)


def _read(path: Path) -> Film | str:
    try:
        return read_any_film(path)
    except (FilmError, OSError) as error:
        return " ".join(str(error).split())
