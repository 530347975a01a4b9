"""Films of a phantom release from their positions in it."""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from clarity_cxr.data.phantom.acquisition import add_devices, add_markers, add_spurious, develop
from clarity_cxr.data.phantom.anatomy import Patient, Pose, Thorax
from clarity_cxr.data.phantom.cohort import draw_cohort
from clarity_cxr.data.phantom.config import PhantomConfig
from clarity_cxr.data.phantom.draws import Draws, Stream
from clarity_cxr.data.phantom.findings import BEFORE_VESSELS, PAINTERS, Box, change_outlines
from clarity_cxr.data.phantom.textures import textures
from clarity_cxr.data.phantom.tissues import Film
from clarity_cxr.findings import FINDINGS

PRIOR_SIZE = 128
"""Side of the priors in pixels."""


@dataclass(frozen=True)
class PhantomBatch:
    """Films with everything that is known about them.

    Attributes:
        films: (n, S, S) uint8.
        labels: (n, 14) bool, in the order of `FINDINGS`.
        priors: (n, 4, 128, 128) bool, in the order of `PRIORS`.
        boxes: columns `row` (position in `films`), `image_id`, `finding`, `x0`, `y0`, `x1`, `y1` (fractions of the
            film, half-open); every painted lesion of all 14 findings.
        table: the films' rows of `draw_cohort`.
    """

    films: NDArray[np.uint8]
    labels: NDArray[np.bool_]
    priors: NDArray[np.bool_]
    boxes: pd.DataFrame
    table: pd.DataFrame


def draw_films(config: PhantomConfig, indices: np.ndarray) -> PhantomBatch:
    """Draw films of a release.

    A film depends on the configuration and its own index only. Within a batch films are drawn one after another: at
    128 px a film's fields stay in the processor's cache, which is faster than operations over the whole batch.

    Args:
        config: the release.
        indices: (n,) positions in the release, 0 to films - 1, in any order.

    Raises:
        IndexError: an index is outside the release.
    """
    table = draw_cohort(config).iloc[np.asarray(indices, int)].reset_index(drop=True)
    labels = table[list(FINDINGS)].to_numpy(bool)
    films = np.empty((len(table), config.size, config.size), np.uint8)
    priors = np.empty((len(table), 4, PRIOR_SIZE, PRIOR_SIZE), bool)
    rows: list[tuple[int, str, str, float, float, float, float]] = []
    columns = ("patient_id", "follow_up", "age", "sex", "view", "spurious", "image_id")
    for row, (patient, follow_up, age, sex, view, spurious, image_id) in enumerate(
        zip(*(table[name].tolist() for name in columns), strict=True)
    ):
        present = [name for name, on in zip(FINDINGS, labels[row], strict=True) if on]
        person = _person(config.seed, patient, sex == "F", age)
        film, boxes = _draw_film(config, patient, follow_up, person, view == "AP", present)
        films[row] = develop(film, film.draws)
        add_markers(films[row], film.draws, view == "AP")
        if spurious:
            add_spurious(films[row], film.draws)
        priors[row] = _priors(film.thorax)
        rows += [(row, image_id, name, *box) for name, box in boxes]
    frame = pd.DataFrame(rows, columns=["row", "image_id", "finding", "x0", "y0", "x1", "y1"])
    return PhantomBatch(films, labels, priors, frame, table)


@lru_cache(maxsize=256)
def _person(seed: int, patient: int, female: bool, age: int) -> Patient:
    return Patient.draw(Draws(seed, Stream.PATIENT, patient), female, age)


def _draw_film(
    config: PhantomConfig, patient: int, follow_up: int, person: Patient, bedside: bool, present: list[str]
) -> tuple[Film, list[tuple[str, Box]]]:
    draws = Draws(config.seed, Stream.FILM, patient, follow_up)
    wobble = Draws(config.seed, Stream.WOBBLE, patient, follow_up)
    pose = Pose.draw(draws, bedside)
    site = {name: Draws(config.seed, Stream.LESION, patient, FINDINGS.index(name)) for name in present}
    vigour = {name: _vigour(site[name], wobble) for name in present}
    thorax = Thorax(person, pose, change_outlines(site, vigour), config.size)
    film = Film(thorax, textures(config.seed, config.size), draws)
    boxes: list[tuple[str, Box]] = []
    for name in present:
        if name in BEFORE_VESSELS:
            boxes += [(name, box) for box in PAINTERS[name](film, site[name], vigour[name])]
    film.add_vessels()
    film.add_bones()
    film.add_breasts()
    film.add_stomach()
    film.add_texture()
    for name in present:
        if name not in BEFORE_VESSELS:
            boxes += [(name, box) for box in PAINTERS[name](film, site[name], vigour[name])]
    add_devices(film, draws)
    return film, boxes


def _vigour(site: Draws, wobble: Draws) -> float:
    """How strongly a finding shows: mostly clear, with a tail of subtle films."""
    base = site.uniform(0.8, 1.2) if site.chance(0.88) else site.uniform(0.45, 0.8)
    return base * wobble.uniform(0.88, 1.12)


def _priors(thorax: Thorax) -> NDArray[np.bool_]:
    if thorax.size != PRIOR_SIZE:
        thorax = Thorax(thorax.patient, thorax.pose, thorax.changes, PRIOR_SIZE)
    return thorax.masks()
