"""`clarity evaluate`."""

from pathlib import Path
from typing import Literal


def evaluate(
    *,
    checkpoint: Path,
    store: Path,
    out: Path,
    predictions: Path | None = None,
    batch_size: int = 64,
    device: str = "cpu",
    bfloat16: bool = False,
    replicates: int = 1000,
    decision_threshold: float = 0.5,
    udp_protocol: Literal["paper", "all", "top"] = "paper",
    seed: int = 0,
) -> None:
    """Score a checkpoint on a store's test films: AUC, localisation under several protocols, controls, subgroups.

    Writes evaluation.json, evaluation_predictions.npz and evaluation_boxes.csv into OUT and prints tables.

    Args:
        checkpoint: weights written by `clarity train` (.safetensors); of a teacher, AUC alone is scored.
        store: folder written by `clarity prepare`, at the checkpoint's image size.
        out: folder for the results.
        predictions: evaluation_predictions.npz of an earlier evaluation, to score again without running the model.
        batch_size: films per forward pass.
        device: where the model runs, e.g. cpu or cuda.
        bfloat16: run the model in bfloat16.
        replicates: bootstrap replicates behind the 95 % intervals.
        decision_threshold: probability from which a finding is predicted positive.
        udp_protocol: localisation protocol behind UDP.
        seed: of the bootstrap and of the random control.
    """
    from rich.console import Console

    from clarity_cxr.evaluation.classifier import evaluate_teacher
    from clarity_cxr.evaluation.evaluate import RESULT_FILE
    from clarity_cxr.evaluation.evaluate import evaluate as run
    from clarity_cxr.evaluation.score import EvaluationOptions
    from clarity_cxr.evaluation.table import classification_table, print_tables
    from clarity_cxr.models.teacher import is_teacher

    options = EvaluationOptions(
        batch_size=batch_size,
        device=device,
        bfloat16=bfloat16,
        replicates=replicates,
        decision_threshold=decision_threshold,
        udp_protocol=udp_protocol,
        seed=seed,
    )
    console = Console()
    teacher = is_teacher(checkpoint)
    result = (
        evaluate_teacher(checkpoint, store, out, options)
        if teacher
        else run(checkpoint, store, out, options, predictions)
    )
    if not result:
        return
    if teacher:
        console.print(classification_table(result))
    else:
        print_tables(result, console)
    console.print(f"Written to {out / RESULT_FILE}", soft_wrap=True)
