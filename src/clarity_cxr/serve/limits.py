"""What one service takes on."""

from dataclasses import dataclass

from clarity_cxr.errors import ClarityError


@dataclass(frozen=True)
class Limits:
    """Bounds of one service.

    Attributes:
        megabytes: largest upload.
        seconds: longest time for an upload, and again for its prediction.
        workers: films predicted at once.
        waiting: further requests that may upload or wait.

    Raises:
        ClarityError: a bound leaves nothing to do.
    """

    megabytes: int = 64
    seconds: float = 30.0
    workers: int = 2
    waiting: int = 14

    def __post_init__(self) -> None:
        if self.megabytes < 1 or self.seconds <= 0 or self.workers < 1 or self.waiting < 0:
            raise ClarityError(
                f"megabytes {self.megabytes}, seconds {self.seconds:g}, workers {self.workers}, "
                f"waiting {self.waiting}: expected positive numbers (waiting may be 0)"
            )
