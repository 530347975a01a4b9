"""Figures 10 and 11 of the paper: validation UDP over q and over p, ours beside what the captions state."""

from pathlib import Path

import matplotlib
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from clarity_cxr.evaluation.curves import LINE, SECOND, STYLE, Chart, new_axes, svg_element
from clarity_cxr.evaluation.published import notes
from clarity_cxr.files import atomic_path

Q_OF_FIGURE_11 = 8


@matplotlib.rc_context(STYLE)
def sweep_figure(number: int, sweep: pd.DataFrame | None) -> Figure:
    """Figure 10 or 11.

    Args:
        number: 10 (UDP of each q at its best p) or 11 (UDP of each p at one q: 8, or the largest that was run).
        sweep: columns `q`, `p`, `seed`, `udp`; several seeds are drawn as their mean and range. None: the points
            that the caption states alone.
    """
    stated, along = notes()["figures"][number]["stated"], notes()["figures"][number]["x"]
    figure, axes = new_axes(5.6, 2.8)
    if sweep is not None and len(sweep):
        curve = _over_seeds(number, sweep)
        axes.plot(curve.index, curve["mean"], color=LINE, marker="o", markersize=3, label="ours (mean over seeds)")
        axes.fill_between(curve.index, curve["min"], curve["max"], color=LINE, alpha=0.15, linewidth=0)
    points = {"linestyle": "none", "marker": "D", "markersize": 5, "color": SECOND}
    axes.plot(list(stated), list(stated.values()), label="stated in the paper, NIH validation films", **points)
    axes.set_xlabel(along)
    axes.set_ylabel("validation UDP")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.legend(loc="best")
    return figure


def sweep_chart(number: int, figure: Figure) -> Chart:
    """The figure for a page."""
    about = notes()["figures"][number]
    return Chart(f"Figure {number}. {about['title']}", about["note"], svg_element(figure, f"Figure {number}"))


def save_figure(figure: Figure, path: Path) -> None:
    """Write `path` with `.png` and with `.svg`.

    Raises:
        ClarityError: they cannot be written.
    """
    for suffix, options in ((".png", {"dpi": 200}), (".svg", {"metadata": {"Date": None, "Creator": None}})):
        with atomic_path(path.with_suffix(suffix)) as temporary, matplotlib.rc_context(STYLE):
            figure.savefig(temporary, format=suffix[1:], facecolor="white", **options)  # pyright: ignore


def _over_seeds(number: int, sweep: pd.DataFrame) -> pd.DataFrame:
    if number == 10:
        values = sweep.groupby(["q", "seed"])["udp"].max().groupby("q")
    else:
        at = Q_OF_FIGURE_11 if (sweep["q"] == Q_OF_FIGURE_11).any() else sweep["q"].max()
        values = sweep[sweep["q"] == at].groupby("p")["udp"]
    return values.agg(["mean", "min", "max"])
