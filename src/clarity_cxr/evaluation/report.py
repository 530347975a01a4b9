"""A report of one or more runs: one self-contained page, and the same tables and figures as files.

The page holds its pictures and charts itself, needs no script and asks no other address for anything.
"""

import html
from collections.abc import Sequence
from importlib import resources
from pathlib import Path
from string import Template
from typing import Any

from clarity_cxr.errors import ClarityError
from clarity_cxr.evaluation import evidence_sections, run_sections
from clarity_cxr.evaluation.compare import compare_runs
from clarity_cxr.evaluation.curves import Chart
from clarity_cxr.evaluation.distillation import distillation_section
from clarity_cxr.evaluation.explain_section import explanation
from clarity_cxr.evaluation.gallery import GalleryRow, gallery_page, gallery_rows
from clarity_cxr.evaluation.paper_figures import save_figure, sweep_chart, sweep_figure
from clarity_cxr.evaluation.paper_tables import paper_tables, run_name
from clarity_cxr.evaluation.run_files import RunFiles, read_run
from clarity_cxr.evaluation.table_formats import PaperTable, as_csv, as_latex, as_markdown
from clarity_cxr.files import atomic_path
from clarity_cxr.findings import BOXED_FINDINGS

FILMS_PER_FINDING = 2
SWEEPS = (10, 11)


def build_report(runs: Sequence[Path], out: Path) -> Path:
    """Write `report.html`, `report.md`, `tables/table3..7.{csv,md,tex}` and `figures/figure9..11`.

    The first run is described in full; the others have rows in the paper's tables and are compared with it.

    Args:
        runs: folders with `store/`, `train/`, `evaluation.json` and so on, as far as they exist.
        out: folder for the report.

    Returns:
        The page's path.

    Raises:
        ClarityError: a folder does not exist, nothing of a run is in it, or one of its files is damaged.
    """
    files = [read_run(run) for run in runs]
    first = files[0]
    tables = paper_tables(files)
    rows = _gallery_rows(first)
    sweeps = _write_figures(files, rows, out / "figures")
    for each in tables:
        for suffix, text in ((".csv", as_csv(each)), (".md", as_markdown(each)), (".tex", as_latex(each))):
            _write(out / "tables" / f"{each.name}{suffix}", text)
    _write(out / "report.md", _markdown(files, tables, rows))
    sections = [
        run_sections.headline(first),
        run_sections.localization(first),
        run_sections.per_finding(first),
        distillation_section(first.folder),
        evidence_sections.paper(tables, sweeps),
        evidence_sections.protocols(first),
        *([_compared(files)] if len(files) > 1 else []),
        evidence_sections.calibration(first),
        evidence_sections.subgroups(first),
        explanation(first),
        run_sections.learning(first),
        run_sections.roc(first),
        run_sections.gallery(first, rows),
        run_sections.origin(first),
    ]
    template = Template(resources.files("clarity_cxr.evaluation").joinpath("report.html").read_text("utf-8"))
    page = template.substitute(
        title=f"CLARiTy run: {html.escape(first.folder.resolve().name)}",
        subtitle=run_sections.subtitle(first),
        sections="\n".join(sections),
    )
    _write(out / "report.html", page)
    return out / "report.html"


def _gallery_rows(files: RunFiles) -> list[GalleryRow]:
    if files.predictor is None or files.store is None:
        return []
    films = FILMS_PER_FINDING * (len(BOXED_FINDINGS) if files.store.boxes.empty else 1)
    return list(gallery_rows(files.store, files.predictor, films))


def _write_figures(files: Sequence[RunFiles], rows: Sequence[GalleryRow], folder: Path) -> list[Chart]:
    """Write Figures 9 to 11 as far as there is something to draw; the sweeps as charts for the page."""
    if rows:
        with atomic_path(folder / "figure9.png") as temporary:
            gallery_page(rows, "Selected localisation outputs").save(temporary, format="PNG")
    sweep = next((each.sweep for each in files if each.sweep is not None), None)
    charts = []
    for number in SWEEPS:
        figure = sweep_figure(number, sweep)
        save_figure(figure, folder / f"figure{number}")
        charts.append(sweep_chart(number, figure))
    return charts


def _compared(files: Sequence[RunFiles]) -> str:
    others: dict[str, dict[str, dict[str, Any]] | str] = {}
    for other in files[1:]:
        try:
            others[run_name(other)] = compare_runs(files[0], other)
        except ClarityError as error:
            others[run_name(other)] = str(error)
    return evidence_sections.compared(run_name(files[0]), others)


def _markdown(files: Sequence[RunFiles], tables: Sequence[PaperTable], rows: Sequence[GalleryRow]) -> str:
    names = ", ".join(run_name(each) for each in files)
    pictures = [f"![Figure {number}](figures/figure{number}.png)" for number in ((9,) if rows else ()) + SWEEPS]
    parts = [f"# CLARiTy report: {names}", "Research use only.", *map(as_markdown, tables), "## Figures", *pictures]
    return "\n\n".join(parts) + "\n"


def _write(path: Path, text: str) -> None:
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
