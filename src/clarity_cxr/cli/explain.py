"""`clarity explain`."""

from pathlib import Path


def explain(
    *,
    checkpoint: Path,
    store: Path,
    out: Path,
    teacher: Path | None = None,
    films: int = 24,
    replicates: int = 1000,
    seed: int = 0,
    device: str = "cpu",
    batch_size: int = 64,
) -> None:
    """Check whether a checkpoint's maps explain what it predicts, beside Grad-CAM and attention rollout.

    Pointing game, deletion and insertion curves, randomised weights, small shifts, and the phantoms' spurious marker
    painted onto films. Writes explain.json, which `clarity report` shows.

    Args:
        checkpoint: weights written by `clarity train` (.safetensors).
        store: folder written by `clarity prepare`, at the checkpoint's image size, with boxes.
        out: folder for the result; the run's own folder is a good place.
        teacher: a teacher's checkpoint; its Grad-CAM is compared too.
        films: boxed test films per finding for the curves and the checks on single films.
        replicates: bootstrap replicates behind the 95 % intervals.
        seed: of the draw of films, the random control, the randomised weights and the bootstrap.
        device: where the models run, e.g. cpu or cuda.
        batch_size: films per forward pass.
    """
    from clarity_cxr.evaluation.explain import RESULT_FILE, ExplainOptions
    from clarity_cxr.evaluation.explain import explain as run

    options = ExplainOptions(films=films, replicates=replicates, seed=seed, device=device, batch_size=batch_size)
    result = run(checkpoint, store, out, options, teacher)
    for name, source in result["sources"].items():
        pointing = source["pointing_game"]["macro"]
        print(f"{name}: pointing game {pointing:.3f}, MSLI top {source['msli']['top']:.3f}")
    print(f"Written to {out / RESULT_FILE}")
