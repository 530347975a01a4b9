"""Keyed random draws: a film's numbers depend on its key alone, never on who draws it or after what."""

import math
from collections.abc import Sequence
from enum import IntEnum
from typing import TypeVar

import numpy as np

Item = TypeVar("Item")


class Stream(IntEnum):
    """What a generator's numbers are used for; part of its key."""

    COHORT = 1
    LABELS = 2
    PATIENT = 3
    LESION = 4
    FILM = 5
    WOBBLE = 6
    TEXTURE = 7


def generator(seed: int, stream: Stream, first: int = 0, second: int = 0) -> np.random.Generator:
    """A counter-based generator for one key.

    Args:
        seed: of the release.
        stream: what the numbers are for.
        first: for example the patient, below 2**40.
        second: for example the follow-up or the finding, below 2**16.
    """
    key = np.array([int(stream) << 56 | first << 16 | second, seed], np.uint64)
    return np.random.Generator(np.random.Philox(key=key))


class Draws:
    """Scalar draws from one key, taken from blocks of uniform numbers (faster than one call each)."""

    def __init__(self, seed: int, stream: Stream, first: int = 0, second: int = 0) -> None:
        self.generator = generator(seed, stream, first, second)
        self._block: list[float] = []

    def unit(self) -> float:
        """Uniform in [0, 1)."""
        if not self._block:
            self._block = self.generator.random(64).tolist()
        return self._block.pop()

    def uniform(self, low: float, high: float) -> float:
        """Uniform in [low, high)."""
        return low + (high - low) * self.unit()

    def chance(self, probability: float) -> bool:
        """True with the given probability."""
        return self.unit() < probability

    def integer(self, count: int) -> int:
        """Uniform in 0 .. count - 1."""
        return int(self.unit() * count)

    def choice(self, items: Sequence[Item]) -> Item:
        """One of the items, all equally likely."""
        return items[self.integer(len(items))]

    def sign(self) -> float:
        """-1 or 1."""
        return 1.0 if self.unit() < 0.5 else -1.0

    def normal(self, mean: float = 0.0, deviation: float = 1.0) -> float:
        """Normal, cut at 2.5 standard deviations so that no anatomy is absurd."""
        radius = math.sqrt(-2 * math.log(1 - self.unit()))
        value = radius * math.cos(2 * math.pi * self.unit())
        return mean + deviation * max(-2.5, min(2.5, value))
