"""Places and threads: bounded, freed again, and not waited for beyond the limit."""

import asyncio
import threading

import pytest

from clarity_cxr.serve.work import BoundedWork, Busy


def test_places_are_bounded_and_freed():
    work = BoundedWork(workers=1, waiting=1)
    with work.place(), work.place(), pytest.raises(Busy), work.place():
        pass
    with work.place(), pytest.raises(ZeroDivisionError), work.place():
        raise ZeroDivisionError
    with work.place(), work.place():
        pass


def test_results_and_errors_come_back():
    work = BoundedWork(workers=1, waiting=0)
    assert asyncio.run(work.run(lambda: 7, 10)) == 7
    with pytest.raises(KeyError):
        asyncio.run(work.run(lambda: {}["absent"], 10))


def test_work_that_has_not_begun_in_time_never_does():
    work = BoundedWork(workers=1, waiting=1)
    release = threading.Event()
    done = []

    async def both() -> None:
        first = asyncio.create_task(work.run(release.wait, 10))
        await asyncio.sleep(0)
        with pytest.raises(TimeoutError):
            await work.run(lambda: done.append("late"), 0.05)
        release.set()
        assert await first

    asyncio.run(both())
    work.close()
    assert done == []
