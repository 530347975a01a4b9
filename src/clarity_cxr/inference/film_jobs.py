"""Which films a run predicts, and where each one's results go."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from clarity_cxr.dicom import RESULT_SUFFIXES
from clarity_cxr.dicom.directory import directory_films, is_directory
from clarity_cxr.dicom.reading import DICOM_SUFFIXES, may_be_film
from clarity_cxr.errors import ClarityError
from clarity_cxr.files import output_errors
from clarity_cxr.inference.film_lists import LIST_SUFFIXES, listed_films

_IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg")
"""Files that a folder's films are, in any case, beside DICOM files; files named one by one may end otherwise."""


@dataclass(frozen=True)
class FilmJob:
    """One film and where its results go: `<stem>.json` and `<stem>.png`, `stem` being a path without suffix."""

    film: Path
    relative: str
    stem: Path

    @property
    def json(self) -> Path:
        """The film's JSON."""
        return self.stem.with_name(f"{self.stem.name}.json")

    @property
    def overlay(self) -> Path:
        """The film's overlay."""
        return self.stem.with_name(f"{self.stem.name}.png")

    def remove_results(self) -> None:
        """Remove whatever an earlier run has written for the film."""
        with output_errors(self.json):
            for suffix in (".json", ".png", *RESULT_SUFFIXES):
                self.stem.with_name(self.stem.name + suffix).unlink(missing_ok=True)


def plan_films(paths: Sequence[Path], out: Path) -> list[FilmJob]:
    """Find the films of files, folders, DICOMDIRs and lists, and each one's place under `out`.

    Raises:
        ClarityError: a path is missing, there is no film, two films would have the same outputs, or outputs would
            lie among the films.
    """
    jobs = [_job(film, relative, out) for film, relative in find_films(paths, out)]
    _refuse_collisions(jobs)
    return jobs


def find_films(paths: Sequence[Path], out: Path) -> Iterator[tuple[Path, Path]]:
    """The films of files, folders, DICOMDIRs and lists, each with its path below the folder that was given.

    Raises:
        ClarityError: a path is missing, there is no film, or `out` is the films' own folder.
    """
    found = False
    for path in paths:
        if not path.exists():
            raise ClarityError(f"{path}: no such file or folder; expected a film or a folder of films")
        for film in _films_at(path, out):
            found = True
            yield film
    if not found:
        raise ClarityError(
            f"{', '.join(map(str, paths))}: no films found; expected DICOM or {', '.join(_IMAGE_SUFFIXES)}"
        )


def _films_at(path: Path, out: Path) -> Iterator[tuple[Path, Path]]:
    if path.is_dir():
        if path.resolve() == out.resolve():
            raise ClarityError(f"{out}: --out is the folder of the films; choose another folder for the results")
        yield from ((film, film.relative_to(path)) for film in _films_of(path, out))
    elif path.suffix.lower() in LIST_SUFFIXES:
        yield from listed_films(path)
    elif is_directory(path):
        yield from ((film, film.relative_to(path.parent)) for film in directory_films(path))
    else:
        yield path, Path(path.name)


def _films_of(folder: Path, out: Path) -> Iterator[Path]:
    results = out.resolve()
    for film in sorted(folder.rglob("*")):
        if film.name.startswith(".") or not film.is_file() or results in film.resolve().parents:
            continue
        if film.suffix.lower() in _IMAGE_SUFFIXES or may_be_film(film):
            yield film


def _job(film: Path, relative: Path, out: Path) -> FilmJob:
    known = relative.suffix.lower() in (*_IMAGE_SUFFIXES, *DICOM_SUFFIXES)  # others may be the end of a DICOM UID
    return FilmJob(film, relative.as_posix(), out / (relative.with_suffix("") if known else relative))


def _refuse_collisions(jobs: Iterable[FilmJob]) -> None:
    owner: dict[Path, Path] = {}
    films = {job.film.resolve() for job in jobs}
    for job in jobs:
        other = owner.setdefault(job.stem, job.film)
        if other is not job.film:
            raise ClarityError(
                f"{other} and {job.film} would both be written to {job.json}; predict them into different folders, "
                "or give the folder above both, whose subfolders are kept"
            )
        if job.overlay.resolve() in films:
            raise ClarityError(f"{job.overlay}: the overlay would replace a film; choose another folder for --out")
