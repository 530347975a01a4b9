"""What a phantom release is drawn from: every byte follows from these values."""

from dataclasses import asdict, dataclass
from typing import Any

from clarity_cxr.errors import ConfigError
from clarity_cxr.findings import FINDINGS

FORMAT_VERSION = 1
"""Raised whenever the same configuration would draw other films."""


@dataclass(frozen=True)
class PhantomConfig:
    """A phantom release.

    Args:
        films: number of films.
        size: side of the square PNG files in pixels, 64 to 1024.
        seed: any integer from 0 to 2**63 - 1; another seed gives other patients.
        rarity: 1 gives the finding frequencies of NIH ChestX-ray14 (Hernia 0.2 % to Infiltration 17.7 %), 0 makes
            every finding equally common (13 %); in between they are interpolated geometrically.
        boxed_share: share of the test films' boxed findings that get their boxes into the box table, 0 to 1.
        spurious_finding: a finding whose films tend to carry a bright marker in a corner, or None.
        spurious_strength: probability of that marker on a film with the finding; films without it carry one with the
            complementary probability, so 0.5 is uninformative and 1 gives the finding away.

    Raises:
        ConfigError: a value is out of its range.
    """

    films: int = 4000
    size: int = 128
    seed: int = 0
    rarity: float = 0.3
    boxed_share: float = 1.0
    spurious_finding: str | None = None
    spurious_strength: float = 0.9

    def __post_init__(self) -> None:
        mistakes = []
        if not 1 <= self.films <= 10_000_000:
            mistakes.append(f"films is {self.films}, expected 1 to 10,000,000")
        if not 64 <= self.size <= 1024:
            mistakes.append(f"size is {self.size}, expected 64 to 1024 pixels")
        if not 0 <= self.seed < 2**63:
            mistakes.append(f"seed is {self.seed}, expected 0 to 2**63 - 1")
        shares = {name: getattr(self, name) for name in ("rarity", "boxed_share", "spurious_strength")}
        mistakes += [f"{name} is {value}, expected 0 to 1" for name, value in shares.items() if not 0 <= value <= 1]
        if self.spurious_finding is not None and self.spurious_finding not in FINDINGS:
            mistakes.append(f"spurious_finding is {self.spurious_finding!r}, expected one of {', '.join(FINDINGS)}")
        if mistakes:
            raise ConfigError("phantom: " + "; ".join(mistakes))

    def to_dict(self) -> dict[str, Any]:
        """The configuration and the format version, as `phantom.json` holds them."""
        return {"format_version": FORMAT_VERSION, **asdict(self)}
