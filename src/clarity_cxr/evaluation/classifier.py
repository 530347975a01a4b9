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


def teacher_probabilities(
    teacher: Teacher,
    store: FilmStore,
    rows: NDArray[np.int64],
    *,
    device: torch.device | str = "cpu",
    batch_size: int = 64,
    bfloat16: bool = False,
) -> NDArray[np.float32]:
    """Probabilities (n, 14) of films as they are stored, without augmentation.

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
    probabilities = np.empty((len(rows), len(FINDINGS)), dtype=np.float32)
    try:
        for start in range(0, len(rows), batch_size):
            films = torch.from_numpy(store.films[rows[start : start + batch_size]]).to(device)
            with torch.no_grad(), torch.autocast(films.device.type, torch.bfloat16, enabled=bfloat16):
                logits = teacher(teacher.preprocess(films))
            probabilities[start : start + batch_size] = logits.float().sigmoid().cpu().numpy()
    finally:
        teacher.train(was_training)
    return probabilities


def evaluate_teacher(checkpoint: Path, store: Path, out: Path, options: EvaluationOptions) -> dict[str, Any]:
    """Score a teacher on a store's test films and write `evaluation.json` into `out`.

    Args:
        checkpoint: a teacher written by training.
        store: a prepared store of the teacher's size.
        out: folder of the result.
        options: those about localisation are not read.

    Returns:
        The content of `evaluation.json`: `macro_auc`, `findings_in_mean`, `intervals` and `per_finding` as of a
        CLARiTy, and where they come from.

    Raises:
        CheckpointError: the checkpoint cannot be used.
        StoreError: the store cannot be used, or is of another size.
        ClarityError: the device is not there, or the result cannot be written.
    """
    device = usable_device(options.device)
    teacher = load_teacher(checkpoint)
    films = open_store(store, size=teacher.config.image_size)
    rows = films.rows("test")
    probabilities = teacher_probabilities(
        teacher, films, rows, device=device, batch_size=options.batch_size, bfloat16=options.bfloat16
    )
    patients = films.index["patient_id"].to_numpy()[rows]
    scores = summarise_classification(
        probabilities, films.labels[rows], patients, draw_patients(patients, options.replicates, options.seed)
    )
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
