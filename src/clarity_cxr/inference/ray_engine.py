"""`clarity predict --engine ray`: an archive's parts predicted by Ray Data, on this machine or on a cluster.

Ray hands out part numbers; actors hold the model, write the parts and answer with counts. An actor that dies is started
again and its parts are given out again, which is harmless: a part is the same whoever writes it.
"""

import logging
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from clarity_cxr.data.workers import available_processors
from clarity_cxr.errors import ClarityError
from clarity_cxr.inference.archive import (
    ArchiveRun,
    ArchiveSummary,
    PartResult,
    PartWorker,
    part_count,
    plan_archive,
    worker_name,
    write_summary,
)
from clarity_cxr.progress import progress_bar

_OBJECT_STORE_BYTES = 100 * 2**20
"""Only part numbers and counts go through Ray's object store."""


def predict_archive(
    films: Sequence[Path], run: ArchiveRun, address: str | None = None, actors: int | None = None
) -> ArchiveSummary:
    """Predict every film of an archive that has no row yet; run again after an interruption, it goes on.

    Args:
        films: files, folders, DICOMDIRs or lists of films.
        run: where to and how.
        address, actors: as for `predict_parts`.

    Raises:
        ClarityError: as `plan_archive` and `predict_parts`.
        CheckpointError: the checkpoint cannot be used.
    """
    count = plan_archive(run, films)
    summary = ArchiveSummary()
    with progress_bar("Predicting films", count) as advance:
        for part in predict_parts(run, part_count(run, count), address, actors):
            summary.add(part)
            advance(part.films)
    write_summary(run, summary)
    return summary


def predict_parts(
    run: ArchiveRun, parts: int, address: str | None = None, actors: int | None = None
) -> Iterator[PartResult]:
    """Predict all parts of an archive, in any order.

    Args:
        run: from which `plan_archive` has made the list of films.
        parts: their number.
        address: a running cluster's, such as `10.0.0.1:6379` or `auto`; None starts one on this machine, for this call.
        actors: processes that hold the model; None takes one for each GPU if `run.device` is one, else one for each
            processor.

    Raises:
        ClarityError: Ray is not installed, no cluster is at the address, or a worker cannot read or write the files.
    """
    gpus = 1 if run.device.startswith("cuda") else 0
    with _cluster(address, actors) as ray:
        available = int(ray.cluster_resources().get("GPU" if gpus else "CPU", 0))
        if not available:
            raise ClarityError(f"--device {run.device}: the Ray cluster has no {'GPU' if gpus else 'processor'} for it")
        done = ray.data.from_items([{"part": k} for k in range(parts)], override_num_blocks=parts).map_batches(
            _PartActor,
            fn_constructor_args=(run,),
            batch_size=1,
            num_cpus=1,
            num_gpus=gpus,
            compute=ray.data.ActorPoolStrategy(size=min(actors or available, parts)),
        )
        for answer in done.iter_rows():
            if answer.pop("problem"):
                raise ClarityError(answer["first_error"])
            yield PartResult(**answer)


class _PartActor:
    def __init__(self, run: ArchiveRun) -> None:
        self._worker = PartWorker(run)

    def __call__(self, batch: dict[str, Any]) -> dict[str, list[Any]]:
        (number,) = batch["part"].tolist()
        try:
            answer = asdict(self._worker.predict_part(number)) | {"problem": False}
        except ClarityError as error:  # told as an answer, for Ray to pass on the message and not a stack of its own
            answer = asdict(PartResult(number, 0, 0, 0, 0, worker_name(), str(error))) | {"problem": True}
        return {key: [value] for key, value in answer.items()}


@contextmanager
def _cluster(address: str | None, actors: int | None) -> Iterator[Any]:
    """Ray, connected to a cluster that is there or to one that lasts as long as this context."""
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"  # tells nobody of this run
    if address is None:
        os.environ["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"  # whatever its name, it makes Ray listen on loopback only
    try:
        import ray
        import ray.data
    except ImportError:
        raise ClarityError("--engine ray needs Ray: pip install 'clarity-cxr[ray]'") from None
    where: dict[str, Any] = {"address": address}
    if address is None:
        where = {
            "address": "local",
            "num_cpus": actors or available_processors(),
            "object_store_memory": _OBJECT_STORE_BYTES,
            "include_dashboard": False,
        }
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    try:
        ray.init(**where, log_to_driver=False, logging_level=logging.ERROR)
    except Exception as error:  # Ray gives a plain Exception when its processes are not up within its 30 seconds
        problem = f"no Ray cluster answers at {address}" if address else "Ray did not start, is the machine overloaded?"
        raise ClarityError(f"--engine ray: {problem} ({' '.join(str(error).split())})") from error
    try:
        context = ray.data.DataContext.get_current()
        context.enable_progress_bars = False
        context.target_max_block_size = 2**20  # else room for 128 MB is kept for every answer
        yield ray
    finally:
        ray.shutdown()
