"""A teacher on a store: its probabilities, and its AUC with intervals in `evaluation.json`. It does not localise."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from clarity_cxr import __version__
from clarity_cxr.data.store import FilmStore, open_store
from clarity_cxr.evaluation.intervals import draw_patients, percentile_interval
from clarity_cxr.evaluation.score import EvaluationOptions
from clarity_cxr.evaluation.summary import plain, summarise_classification
from clarity_cxr.files import file_digest, write_json
from clarity_cxr.findings import FINDINGS
from clarity_cxr.models.device import usable_device
from clarity_cxr.models.teacher import Teacher, load_teacher, read_teacher_provenance
from clarity_cxr.processes import joined_processes, own_share, process_rank, sum_over_processes


def teacher_probabilities(
    teacher: Teacher,
    store: FilmStore,
    rows: NDArray[np.int64],
    *,
    device: torch.device | str = "cpu",
    batch_size: int = 64,
    bfloat16: bool = False,
) -> NDArray[np.float32]:
    """Probabilities (n, 14) of films as they are stored, without augmentation; processes share the films.

    Args:
        teacher: run in eval mode and left in the mode it came in; moved to `device`.
        store: prepared films of the teacher's size.
        rows: (n,) films.
        device: where to run.
        batch_size: films per forward pass.
        bfloat16: run the forward pass under bfloat16 autocast.
    """
    was_training = teacher.training
    teacher.to(device).eval()
    probabilities = np.zeros((len(rows), len(FINDINGS)), dtype=np.float32)
    share = own_share(len(rows))
    try:
        for start in range(0, len(share), batch_size):
            at = share[start : start + batch_size]
            films = torch.from_numpy(store.films[rows[at]]).to(device)
            with torch.no_grad(), torch.autocast(films.device.type, torch.bfloat16, enabled=bfloat16):
                logits = teacher(teacher.preprocess(films))
            probabilities[at] = logits.float().sigmoid().cpu().numpy()
    finally:
        teacher.train(was_training)
    return sum_over_processes(probabilities, device)


def evaluate_teacher(checkpoint: Path, store: Path, out: Path, options: EvaluationOptions) -> dict[str, Any]:
    """Score a teacher on a store's test films and write `evaluation.json` into `out`.

    Args:
        checkpoint: a teacher written by training.
        store: a prepared store of the teacher's size.
        out: folder of the result.
        options: those about localisation are not read.

    Returns:
        The content of `evaluation.json`: `macro_auc`, `findings_in_mean`, `intervals` and `per_finding` as of a
        CLARiTy, and where they come from. Of several processes, all but the first return nothing.

    Raises:
        CheckpointError: the checkpoint cannot be used.
        StoreError: the store cannot be used, or is of another size.
        ClarityError: the device is not there, or the result cannot be written.
    """
    usable_device(options.device)
    teacher = load_teacher(checkpoint)
    films = open_store(store, size=teacher.config.image_size)
    rows = films.rows("test")
    with joined_processes(options.device) as device:
        probabilities = teacher_probabilities(
            teacher, films, rows, device=device, batch_size=options.batch_size, bfloat16=options.bfloat16
        )
        if process_rank() > 0:
            return {}
    patients = films.patients[rows]
    draws = draw_patients(patients, options.replicates, options.seed)
    scores = summarise_classification(probabilities, films.labels[rows], patients, draws, films.labelled[rows])
    result = plain(
        {
            "macro_auc": scores.macro,
            "findings_in_mean": scores.findings_in_mean,
            "intervals": {"macro_auc": percentile_interval(scores.macro_replicates), "replicates": options.replicates},
            "per_finding": scores.per_finding,
            "checkpoint": {
                "file": str(checkpoint),
                "sha256": file_digest(checkpoint),
                "provenance": read_teacher_provenance(checkpoint),
            },
            "store": {"folder": str(store), "fingerprint": films.fingerprint},
            "versions": {"clarity_cxr": __version__, "torch": torch.__version__},
        }
    )
    write_json(out / "evaluation.json", result)
    return result
