"""Learning curves and ROC curves as small inline SVG charts that follow the page's colour scheme."""

import html
import io
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from clarity_cxr.findings import FINDINGS

LOSSES = {
    "L_total": "Total loss (Eq. 18)",
    "L_CLS_C": "Class tokens",
    "L_CLS_P": "Patches",
    "L_CLS_f": "Foreground",
    "L_BAS": "Background activation",
    "L_AC": "Mask area",
    "L_PRX": "Mask proximity",
    "L_CNF": "Mask confinement",
    "L_OCT": "Class token orthogonality",
    "L_CCT": "Class token contrast",
}
"""Loss components under the paper's names, and what they act on."""

VALIDATION = {"val/macro_auc": "Macro AUC", "val/msli": "MSLI", "val/udp": "UDP"}

LINE = "#3f83c8"
SECOND = "#d98324"
THIRD = "#3a9d72"
_INK = "#010203"
"""Stands for the page's text colour until the SVG is written."""

STYLE: Any = {
    "svg.fonttype": "none",
    "svg.hashsalt": "clarity-cxr",
    "font.size": 9,
    "text.color": _INK,
    "axes.labelcolor": _INK,
    "axes.edgecolor": _INK,
    "axes.linewidth": 0.6,
    "xtick.color": _INK,
    "ytick.color": _INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.formatter.limits": (-3, 4),
    "axes.formatter.use_mathtext": False,
    "lines.linewidth": 1.5,
    "lines.solid_capstyle": "round",
    "grid.linewidth": 0.5,
    "grid.alpha": 0.15,
    "grid.color": _INK,
    "legend.frameon": False,
    "legend.fontsize": 9,
}
_MOST_POINTS = 240
_KINDS = ("raw", "calibrated")


@dataclass(frozen=True)
class Chart:
    """One small chart: a title, a line below it, and an SVG element to set inline."""

    title: str
    subtitle: str
    svg: str


@matplotlib.rc_context(STYLE)
def learning_charts(metrics: pd.DataFrame) -> list[Chart]:
    """One chart per loss component of a training run's `metrics.csv`; a component that was off has none.

    Args:
        metrics: columns `epoch`, `step`, `train/L_...`; rows may be sparse.
    """
    charts = []
    for name, meaning in LOSSES.items():
        curve = _series(metrics, f"train/{name}")
        if curve.empty:
            continue
        figure, axes = new_axes()
        axes.plot(curve.index, curve, color=LINE)
        _label_time(axes, curve)
        charts.append(Chart(name, meaning, svg_element(figure, f"{name} over {curve.index.name}s")))
    return charts


@matplotlib.rc_context(STYLE)
def validation_chart(metrics: pd.DataFrame) -> Chart | None:
    """Validation macro AUC, MSLI and UDP in one chart, the epoch of the best UDP marked; None without any."""
    curves = {label: _series(metrics, column) for column, label in VALIDATION.items()}
    curves = {label: curve for label, curve in curves.items() if not curve.empty}
    if not curves:
        return None
    figure, axes = new_axes(5.6, 2.6)
    for (label, curve), colour in zip(curves.items(), (LINE, SECOND, THIRD), strict=False):
        axes.plot(curve.index, curve, color=colour, label=label, marker="o", markersize=2.5)
    subtitle = ""
    if "UDP" in curves:
        best = curves["UDP"].index[int(curves["UDP"].to_numpy().argmax())]
        axes.axvline(best, color=_INK, linewidth=0.7, linestyle=(0, (4, 3)), alpha=0.6)
        subtitle = f"best UDP {curves['UDP'].max():.3f} at {curves['UDP'].index.name} {best:g} (dashed)"
    axes.set_ylim(0, 1)
    _label_time(axes, next(iter(curves.values())))
    axes.legend(loc="lower right", ncols=3)
    return Chart("Validation", subtitle, svg_element(figure, "Validation macro AUC, MSLI and UDP"))


@matplotlib.rc_context(STYLE)
def roc_charts(
    probabilities: np.ndarray, labels: np.ndarray, aucs: Sequence[float], labelled: np.ndarray | None = None
) -> list[Chart]:
    """One ROC curve per finding; a finding without positives or negatives is said to be undefined.

    Args:
        probabilities: (n, 14).
        labels: (n, 14) bool.
        aucs: (14,) area of each curve, NaN where undefined.
        labelled: (n, 14) bool, which labels are defined; None: all.
    """
    charts = []
    for index, finding in enumerate(FINDINGS):
        mine = slice(None) if labelled is None else labelled[:, index]
        positives = int(labels[mine, index].sum())
        figure, axes = new_axes(2.0, 2.0)
        axes.plot([0, 1], [0, 1], color=_INK, linewidth=0.6, alpha=0.4)
        if np.isnan(aucs[index]):
            subtitle = f"undefined, n = {positives}"
        else:
            false_rate, true_rate = roc_curve(probabilities[mine, index], labels[mine, index])
            axes.plot(false_rate, true_rate, color=LINE)
            subtitle = f"AUC {aucs[index]:.3f}, n = {positives}"
        axes.set_xlim(-0.01, 1.01)
        axes.set_ylim(-0.01, 1.01)
        axes.set_aspect("equal")
        axes.set_xticks([0, 0.5, 1], ["0", ".5", "1"])
        axes.set_yticks([0, 0.5, 1], ["0", ".5", "1"])
        charts.append(Chart(finding.replace("_", " "), subtitle, svg_element(figure, f"ROC curve of {finding}")))
    return charts


@matplotlib.rc_context(STYLE)
def reliability_charts(per_finding: Mapping[str, Mapping[str, Any]]) -> list[Chart]:
    """One reliability diagram per finding: share of positives over probability, before and after calibration.

    Args:
        per_finding: finding -> `raw` and `calibrated`, each with `ece` and `reliability` (`probability`, `frequency`).
    """
    charts = []
    for finding, values in per_finding.items():
        figure, axes = new_axes(2.0, 2.0)
        axes.plot([0, 1], [0, 1], color=_INK, linewidth=0.6, alpha=0.4)
        for kind, colour in zip(_KINDS, (SECOND, LINE), strict=True):
            curve = values[kind]["reliability"]
            axes.plot(curve["probability"], curve["frequency"], color=colour, marker="o", markersize=2.5)
        axes.set_xlim(-0.02, 1.02)
        axes.set_ylim(-0.02, 1.02)
        axes.set_aspect("equal")
        axes.set_xticks([0, 0.5, 1], ["0", ".5", "1"])
        axes.set_yticks([0, 0.5, 1], ["0", ".5", "1"])
        errors = " → ".join("–" if values[kind]["ece"] is None else f"{values[kind]['ece']:.2f}" for kind in _KINDS)
        charts.append(
            Chart(finding.replace("_", " "), f"ECE {errors}", svg_element(figure, f"Reliability of {finding}"))
        )
    return charts


@matplotlib.rc_context(STYLE)
def explanation_charts(fractions: Sequence[float], sources: Mapping[str, Mapping[str, Any]]) -> list[Chart]:
    """Deletion and insertion curves, one line per source of maps.

    Args:
        fractions: (11,) share of the patches that are changed.
        sources: name of the source -> `deletion` and `insertion`, each with `mean` (11,).
    """
    charts = []
    for kind, doing in (("deletion", "blurred away"), ("insertion", "put back")):
        figure, axes = new_axes(4.2, 2.8)
        for name, curves in sources.items():
            axes.plot(fractions, curves[kind]["mean"], label=name)
        axes.set_xlabel(f"share of the patches {doing}, hottest first")
        axes.set_ylabel("mean probability")
        axes.set_ylim(0, 1)
        axes.legend(loc="best", fontsize=7.5)
        charts.append(Chart(kind.capitalize(), "", svg_element(figure, f"{kind.capitalize()} curves")))
    return charts


def roc_curve(scores: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """False and true positive rates at every distinct score, from (0, 0) to (1, 1).

    Args:
        scores: (n,).
        labels: (n,) bool, of both kinds.
    """
    order = np.argsort(-scores, kind="stable")
    ranked = labels[order].astype(np.int64)
    last_of_score = np.append(np.diff(scores[order]) != 0, True)
    true = np.append(0, np.cumsum(ranked)[last_of_score])
    false = np.append(0, np.cumsum(1 - ranked)[last_of_score])
    true_rate, false_rate = true / true[-1], false / false[-1]
    if len(true_rate) > _MOST_POINTS:
        shown = np.unique(np.linspace(0, len(true_rate) - 1, _MOST_POINTS).round().astype(int))
        true_rate, false_rate = true_rate[shown], false_rate[shown]
    return false_rate, true_rate


def _series(metrics: pd.DataFrame, column: str) -> pd.Series:
    """A column's values by epoch (mean of an epoch's rows), or by step in a run of fewer than three epochs."""
    if column not in metrics:
        return pd.Series(dtype=float)
    logged = metrics[metrics[column].notna()]
    by = "epoch" if "epoch" in logged and (logged["epoch"].nunique() >= 3 or "step" not in logged) else "step"
    if by not in logged:
        return pd.Series(dtype=float)
    curve = logged.groupby(by)[column].mean()
    every = max(1, len(curve) // _MOST_POINTS)
    return curve.iloc[::every]


def _label_time(axes: Axes, curve: pd.Series) -> None:
    axes.set_xlabel(str(curve.index.name))
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))


def new_axes(width: float = 4.2, height: float = 1.9) -> tuple[Figure, Axes]:
    """A figure of one chart, in inches."""
    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasSVG(figure)
    axes = figure.add_subplot()
    axes.grid(True)
    return figure, axes


def svg_element(figure: Figure, label: str) -> str:
    """The figure as an SVG element without fixed size, in the page's font and text colour."""
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    text = buffer.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(r'<svg [^>]*?(viewBox="[^"]*")[^>]*>', _opening_tag(label), text, count=1)
    text = re.sub(r'<g id="[^"]*"', "<g", text)
    text = re.sub(r'font-family: [^;"]*', "font-family: system-ui, sans-serif", text)
    return text.replace(_INK, "currentColor")


def _opening_tag(label: str) -> str:
    namespaces = 'xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink"'
    return rf'<svg {namespaces} \1 role="img" aria-label="{html.escape(label, quote=True)}">'
