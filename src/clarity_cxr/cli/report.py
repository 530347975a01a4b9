"""`clarity report`."""

from pathlib import Path


def report(run: Path, /, *, out: Path) -> None:
    """Make one page out of a run: figures, learning curves, ROC curves and a gallery, in OUT/report.html.

    The page holds all its pictures and opens in any browser, without a network. Parts that are not there yet are named.

    Args:
        run: folder of the run, with store/, train/, evaluation.json and evaluation_predictions.npz.
        out: folder for the page; the run's own folder is a good place.
    """
    from clarity_cxr.evaluation.report import build_report

    print(build_report(run, out))
