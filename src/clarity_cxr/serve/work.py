"""A bounded number of requests: some at work, some waiting, the rest told to come back."""

import asyncio
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

Result = TypeVar("Result")


class Busy(Exception):
    """Every place is taken."""


class BoundedWork:
    """Threads for the work, and places for all requests that may be in the house, uploading, waiting or at work.

    Args:
        workers: pieces of work done at once.
        waiting: further requests that may wait or upload.
    """

    def __init__(self, workers: int, waiting: int) -> None:
        self._pool = ThreadPoolExecutor(workers, thread_name_prefix="film")
        self._free = workers + waiting

    @contextmanager
    def place(self) -> Iterator[None]:
        """Hold one place.

        Raises:
            Busy: there is none.
        """
        if self._free == 0:
            raise Busy
        self._free -= 1
        try:
            yield
        finally:
            self._free += 1

    async def run(self, work: Callable[[], Result], seconds: float) -> Result:
        """Do `work` in a thread and wait for it.

        Work that has not begun when the time is up never will; what has begun ends in its thread, unheard, and no
        other takes that thread before.

        Raises:
            TimeoutError: it took, or waited, longer than `seconds`.
        """
        return await asyncio.wait_for(asyncio.wrap_future(self._pool.submit(work)), seconds)

    def close(self) -> None:
        """Let what has begun end, and begin nothing more."""
        self._pool.shutdown(cancel_futures=True)
