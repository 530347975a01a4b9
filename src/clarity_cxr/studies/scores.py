"""Validation scores of a trained run, at its own number of fused attention blocks p or at every one.

    python -m clarity_cxr.studies.scores RUN STORE [--every-p] [--device cuda]

p only says how many of the last blocks' attention maps are averaged, so it needs no training of its own.
"""

import argparse
import dataclasses
from pathlib import Path

import numpy as np
import pandas as pd

from clarity_cxr.data.store import FilmStore, open_store
from clarity_cxr.evaluation.predictions import Predictions, predict_store
from clarity_cxr.evaluation.validation import score_validation
from clarity_cxr.files import atomic_path
from clarity_cxr.models import Clarity, load_checkpoint
from clarity_cxr.models.config import override
from clarity_cxr.models.device import usable_device
from clarity_cxr.studies.runs import SCORES


def score_run(checkpoint: Path, store: Path, every_p: bool, device: str = "cpu", batch_size: int = 64) -> pd.DataFrame:
    """Macro AUC, MSLI and UDP on the validation films and boxes.

    Args:
        checkpoint: best weights of the run, chosen at its own p.
        store: prepared films of the model's size.
        every_p: one row for each p from 1 to the depth, not only the model's own.
        device: where the model runs, e.g. cpu or cuda.
        batch_size: films per forward pass.

    Returns:
        Columns `q`, `p`, `own` (p is the model's), `macro_auc`, `msli` and `udp` (protocol `paper`), `msli_all`,
        `udp_all`, `msli_top` and `udp_top`.

    Raises:
        ClarityError: the checkpoint, the store or the device cannot be used.
    """
    usable_device(device)
    model = load_checkpoint(checkpoint).model
    films = open_store(store, size=model.config.image_size)
    own = model.config.attention_blocks
    predictions = _predict(model, films, films.rows("val"), device, batch_size)
    rows = []
    for p in range(1, model.config.depth + 1) if every_p else (own,):
        if p != own:
            other = _predict(_with_blocks(model, p), films, np.zeros(0, dtype=np.int64), device, batch_size)
            at_p = dataclasses.replace(predictions, maps=other.maps)
        else:
            at_p = predictions
        scores = score_validation(at_p, films)
        row = {"q": model.config.token_blocks, "p": p, "own": p == own, "macro_auc": scores["macro_auc"]}
        row |= {"msli": scores["msli"], "udp": scores["udp"]}
        for protocol in ("all", "top"):
            row[f"msli_{protocol}"] = scores["msli_by_protocol"][protocol]
            row[f"udp_{protocol}"] = scores["udp_by_protocol"][protocol]
        rows.append(row)
    return pd.DataFrame(rows)


def _predict(model: Clarity, films: FilmStore, rows: np.ndarray, device: str, batch_size: int) -> Predictions:
    """Probabilities of `rows` and of the localisation-validation films, and these films' maps."""
    return predict_store(
        model,
        films,
        rows,
        map_rows=films.localization_rows("val"),
        mean_rows=np.zeros(0, dtype=np.int64),
        device=device,
        batch_size=batch_size,
        progress=False,
    )


def _with_blocks(model: Clarity, p: int) -> Clarity:
    """The same weights with the last p blocks fused."""
    other = Clarity(override(model.config, {"attention_blocks": p}))
    other.load_state_dict(model.state_dict())
    return other


def main() -> None:
    """Write `scores.csv` into the run's folder."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("store", type=Path)
    parser.add_argument("--every-p", action="store_true")
    parser.add_argument("--device", default="cpu")
    options = parser.parse_args()
    table = score_run(options.run / "train" / "best.safetensors", options.store, options.every_p, options.device)
    with atomic_path(options.run / SCORES) as temporary:
        table.to_csv(temporary, index=False)


if __name__ == "__main__":
    main()
