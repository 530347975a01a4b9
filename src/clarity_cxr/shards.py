"""Shares of a job for job arrays: shard I of N does its N-th of the films, chunks or epochs, by their order."""

from dataclasses import dataclass

from clarity_cxr.errors import ConfigError


@dataclass(frozen=True)
class Shard:
    """One of several equal shares.

    Attributes:
        number: which one, from 1.
        count: how many there are.
    """

    number: int
    count: int

    def __str__(self) -> str:
        return f"{self.number}-of-{self.count}"

    def of(self, total: int) -> slice:
        """Where the share lies among `total` pieces of work; shares differ by at most one piece."""
        return slice(total * (self.number - 1) // self.count, total * self.number // self.count)


WHOLE = Shard(1, 1)
"""The share of a process that does everything."""


def parse_shard(text: str | None) -> Shard:
    """The shard that `--shard I/N` names, from 1/N to N/N; the whole job without the option.

    Raises:
        ConfigError: it is not of this form.
    """
    if text is None:
        return WHOLE
    number, slash, count = text.partition("/")
    if not (slash and number.isdecimal() and count.isdecimal() and 1 <= int(number) <= int(count)):
        raise ConfigError(f"--shard {text}: expected I/N with I from 1 to N, such as 3/8 for the third of eight shares")
    return Shard(int(number), int(count))
