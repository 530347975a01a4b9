"""Cross-validation of the built-in segmenter: Dice on held-out films, beside an atlas that never looks at the film."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from clarity_cxr.anatomy.builtin import load_builtin, save_builtin
from clarity_cxr.anatomy.drawing import draw_outlines, tile
from clarity_cxr.anatomy.fit import Recipe, fit
from clarity_cxr.anatomy.regions import ORGANS
from clarity_cxr.anatomy.training_films import OutlinedFilms, deal_folds
from clarity_cxr.files import atomic_path, write_json
from clarity_cxr.progress import progress_bar

STRUCTURES = ("lungs", "left_lung", "right_lung", "heart")
"""What is scored; "lungs" is the union of both."""

WORST_SHARE = 0.05


@dataclass(frozen=True)
class FoldScores:
    """Dice of every film, scored by the network of the fold that did not see it.

    Attributes:
        names: (n,) films.
        fold: (n,) their folds.
        dice: (n, 4) of the segmenter, columns as `STRUCTURES`, at the outlines' own size.
        atlas: (n, 4) of the mean mask of the fold's training films, cut at one half.
    """

    names: tuple[str, ...]
    fold: np.ndarray
    dice: np.ndarray
    atlas: np.ndarray


def dice(predicted: np.ndarray, truth: np.ndarray) -> float:
    """Dice coefficient of two masks; 1 if both are empty."""
    total = int(predicted.sum()) + int(truth.sum())
    return 2 * int((predicted & truth).sum()) / total if total else 1.0


def cross_validate(data: OutlinedFilms, upright: np.ndarray, recipe: Recipe, folds: int, out: Path) -> FoldScores:
    """Train one network per fold and score it on the fold's films; finished folds in `out` are not trained again.

    Args:
        data: outlined films.
        upright: (m, h, h) further upright films for the film head.
        recipe: of the training.
        folds: number of folds.
        out: folder for `fold_K.safetensors`, `scores.json` and `worst_cases.png`.
    """
    fold_of = deal_folds(data.names, folds)
    scores, atlas = np.zeros((len(data.names), len(STRUCTURES))), np.zeros((len(data.names), len(STRUCTURES)))
    for fold in range(folds):
        seen = fold_of != fold
        weights = out / f"fold_{fold}.safetensors"
        if not weights.is_file():
            network = fit(data.films[seen], data.masks[seen], np.concatenate([data.films[seen], upright]), recipe)
            save_builtin(weights, network, {"recipe": repr(recipe), "fold": f"{fold} of {folds}"})
        segmenter = load_builtin(weights)
        held_out = np.flatnonzero(~seen)
        mean_mask = _mean_mask(data, np.flatnonzero(seen))
        with progress_bar(f"Scoring fold {fold}", len(held_out)) as advance:
            for index in held_out:
                film, truth = data.full_size(int(index))
                scores[index] = _score(np.stack([segmenter(film)[organ] for organ in ORGANS]), truth)
                atlas[index] = _score(mean_mask, truth)
                advance(1)
    result = FoldScores(data.names, fold_of, scores, atlas)
    write_json(out / "scores.json", _as_json(result, recipe))
    return result


def print_scores(scores: FoldScores) -> None:
    """Print mean and worst 5 % of each structure, and the worst films."""
    table = Table("structure", "mean Dice", "worst 5 %", "lowest", "atlas mean", "atlas worst 5 %")
    for column, structure in enumerate(STRUCTURES):
        values, control = scores.dice[:, column], scores.atlas[:, column]
        figures = (values.mean(), worst_mean(values), values.min(), control.mean(), worst_mean(control))
        table.add_row(structure.replace("_", " "), *(f"{figure:.3f}" for figure in figures))
    console = Console(width=110)
    console.print(table)
    for column in (0, 3):
        worst = np.argsort(scores.dice[:, column])[:5]
        listed = ", ".join(f"{scores.names[index]} {scores.dice[index, column]:.3f}" for index in worst)
        console.print(f"worst {STRUCTURES[column]}: {listed}")


def worst_mean(values: np.ndarray) -> float:
    """Mean of the lowest 5 % of `values` (at least one)."""
    count = max(1, round(WORST_SHARE * len(values)))
    return float(np.sort(values)[:count].mean())


def draw_worst(data: OutlinedFilms, scores: FoldScores, out: Path, count: int = 6) -> Path:
    """Draw the films with the worst lungs and the worst hearts: the segmenter's outlines, and the readers' in white."""
    pictures = []
    for column in (0, 3):
        for index in np.argsort(scores.dice[:, column])[:count]:
            segmenter = load_builtin(out / f"fold_{scores.fold[index]}.safetensors")
            film, truth = data.full_size(int(index))
            found = np.stack([segmenter(film)[organ] for organ in ORGANS])
            caption = f"{scores.names[index]}  {STRUCTURES[column]} {scores.dice[index, column]:.3f}"
            pictures.append(draw_outlines(film, found, caption, truth=truth))
    path = out / "worst_cases.png"
    with atomic_path(path) as temporary:
        tile(pictures, count).save(temporary, format="PNG")
    return path


def _mean_mask(data: OutlinedFilms, indices: np.ndarray) -> np.ndarray:
    total = sum(data.full_size(int(index))[1].astype(np.float32) for index in indices)
    return np.asarray(total) / len(indices) > 0.5


def _score(found: np.ndarray, truth: np.ndarray) -> list[float]:
    pairs = [(found[0] | found[1], truth[0] | truth[1]), *zip(found, truth, strict=True)]
    return [dice(predicted, outlined) for predicted, outlined in pairs]


def _as_json(scores: FoldScores, recipe: Recipe) -> dict[str, object]:
    summary = {
        structure: {
            "mean": scores.dice[:, column].mean(),
            "worst_5_percent": worst_mean(scores.dice[:, column]),
            "atlas_mean": scores.atlas[:, column].mean(),
            "atlas_worst_5_percent": worst_mean(scores.atlas[:, column]),
        }
        for column, structure in enumerate(STRUCTURES)
    }
    films = [
        {"name": name, "fold": int(fold), "dice": dict(zip(STRUCTURES, row.tolist(), strict=True))}
        for name, fold, row in zip(scores.names, scores.fold, scores.dice, strict=True)
    ]
    return {"recipe": vars(recipe), "summary": summary, "films": films}
