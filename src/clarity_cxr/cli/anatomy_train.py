"""`clarity anatomy-train`: train the built-in segmenter, or cross-validate it."""

from pathlib import Path


def anatomy_train(
    *,
    data: Path,
    out: Path,
    films: Path | None = None,
    evaluate: bool = False,
    folds: int = 5,
    steps: int | None = None,
    seed: int = 0,
) -> None:
    """Train the built-in segmenter on outlined films; with --evaluate, cross-validate the same recipe instead.

    Ends with OUT/builtin_segmenter.safetensors, to be used with `clarity anatomy --weights`; with --evaluate, with a
    table of Dice coefficients, OUT/scores.json and OUT/worst_cases.png. Finished folds in OUT are not trained again.

    Args:
        data: folder with images/, left_lung/, right_lung/ and heart/: films and one PNG mask per film and organ.
        out: folder for the results.
        films: release whose train_val films, without their labels, also teach the film check what is upright.
        evaluate: cross-validate instead of training on all films.
        folds: folds of the cross-validation.
        steps: training steps (default: the recipe's).
        seed: seed of initialisation, order and augmentation.
    """
    from dataclasses import replace

    import numpy as np

    from clarity_cxr import __version__
    from clarity_cxr.anatomy.builtin import WEIGHTS_NAME, save_builtin
    from clarity_cxr.anatomy.fit import Recipe, fit
    from clarity_cxr.anatomy.folds import cross_validate, draw_worst, print_scores
    from clarity_cxr.anatomy.training_films import read_outlined_films, read_upright_films
    from clarity_cxr.errors import ConfigError

    if folds < 2 or (steps is not None and steps < 1):
        raise ConfigError(f"--folds {folds}, --steps {steps}: expected at least 2 folds and 1 step")
    recipe = replace(Recipe(seed=seed), **({} if steps is None else {"steps": steps}))
    outlined = read_outlined_films(data)
    upright = outlined.films[:0] if films is None else read_upright_films(films)
    if evaluate:
        if folds > len(outlined.names):
            raise ConfigError(f"--folds {folds}: only {len(outlined.names)} films in {data}")
        scores = cross_validate(outlined, upright, recipe, folds, out)
        print_scores(scores)
        print(draw_worst(outlined, scores, out))
        return
    network = fit(outlined.films, outlined.masks, np.concatenate([outlined.films, upright]), recipe)
    provenance = {
        "recipe": repr(recipe),
        "outlined_films": f"{len(outlined.names)} of {data.resolve().name}",
        "upright_films": "the same" if films is None else f"the same and {len(upright)} of {films.resolve().name}",
        "clarity_cxr": __version__,
    }
    save_builtin(out / WEIGHTS_NAME, network, provenance)
    print(out / WEIGHTS_NAME)
