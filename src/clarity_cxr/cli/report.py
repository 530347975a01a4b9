"""`clarity report`."""

from pathlib import Path


def report(runs: list[Path], /, *, out: Path) -> None:
    """Make one page out of runs: the paper's tables and figures with ours beside them, curves and a gallery.

    Writes OUT/report.html, which holds all its pictures and opens in any browser without a network, OUT/report.md, and
    every table (CSV, Markdown, LaTeX) and figure (PNG, SVG) as a file. Parts that are not there yet are named.

    Args:
        runs: folders of runs, with store/, train/, evaluation.json and so on; the first is described in full, the
            others have rows in the tables and are compared with it. A folder with ablations.csv or sweep.csv fills
            Table 6 or Figures 10 and 11.
        out: folder for the report; the run's own folder is a good place.
    """
    from clarity_cxr.evaluation.report import build_report

    print(build_report(runs, out))
