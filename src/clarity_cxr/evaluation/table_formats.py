"""One table of figures as CSV, Markdown, LaTeX and HTML."""

import csv
import html
import io
from collections.abc import Sequence
from dataclasses import dataclass

from clarity_cxr.evaluation import page


@dataclass(frozen=True)
class Figure:
    """A number with the digits it is given to, and what stands beside it.

    Attributes:
        value: None is a dash.
        interval: low and high, or None.
        remark: a few words such as a count.
        digits: decimals.
    """

    value: float | None
    interval: Sequence[float] | None = None
    remark: str = ""
    digits: int = 3

    @property
    def number(self) -> str:
        """The value alone."""
        return page.number(self.value, self.digits)

    @property
    def beside(self) -> str:
        """Interval and remark in brackets, or nothing."""
        limits = "" if self.interval is None else "–".join(f"{limit:.{self.digits}f}" for limit in self.interval)
        words = ", ".join(part for part in (limits, self.remark) if part)
        return f"({words})" if words else ""


Cell = Figure | str

_LATEX = {
    "\\": "\\textbackslash{}",
    "–": "--",
    ">": "$>$",
    "<": "$<$",
    "±": "$\\pm$",
    **{sign: f"\\{sign}" for sign in "&%_#{}$"},
}


@dataclass(frozen=True)
class Row:
    """Cells from left to right; `ours` rows are set apart from published ones."""

    cells: tuple[Cell, ...]
    ours: bool = False


@dataclass(frozen=True)
class PaperTable:
    """A table with what must be said about it.

    Attributes:
        name: of its files, e.g. `table3`.
        title: heading.
        columns: names, one per cell.
        rows: from top to bottom.
        notes: sentences below the table.
    """

    name: str
    title: str
    columns: tuple[str, ...]
    rows: list[Row]
    notes: list[str]


def as_csv(table: PaperTable) -> str:
    """Comma-separated values; a column with intervals is followed by its `low`, `high` and `remark`."""
    wide = [
        any(isinstance(row.cells[i], Figure) and row.cells[i].beside for row in table.rows)  # pyright: ignore
        for i in range(len(table.columns))
    ]
    header = ["ours"]
    for name, has_more in zip(table.columns, wide, strict=True):
        header += [name, f"{name} low", f"{name} high", f"{name} remark"] if has_more else [name]
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(header)
    for row in table.rows:
        cells: list[str | float] = [int(row.ours)]
        for cell, has_more in zip(row.cells, wide, strict=True):
            if isinstance(cell, str):
                cells += [cell, "", "", ""] if has_more else [cell]
                continue
            value = "" if cell.value is None else f"{cell.value:.6g}"
            limits = [f"{limit:.6g}" for limit in cell.interval or ()] or ["", ""]
            cells += [value, *limits, cell.remark] if has_more else [value]
        writer.writerow(cells)
    return buffer.getvalue()


def as_markdown(table: PaperTable) -> str:
    """A GitHub table under its heading; our rows are bold."""
    lines = [f"## {table.title}", "", _bar(table.columns), _bar(["---"] * len(table.columns))]
    for row in table.rows:
        cells = [_plain(cell).replace("|", "\\|") for cell in row.cells]
        lines.append(_bar([f"**{cells[0]}**", *cells[1:]] if row.ours else cells))
    return "\n".join([*lines, "", *(f"- {note}" for note in table.notes), ""])


def as_latex(table: PaperTable) -> str:
    """A `tabular` with booktabs rules in a `table`; our rows follow a rule."""
    lines = [
        "% needs \\usepackage{booktabs}",
        "\\begin{table}",
        f"\\caption{{{_escape(table.title)}}}",
        f"\\begin{{tabular}}{{l{'r' * (len(table.columns) - 1)}}}",
        "\\toprule",
        " & ".join(map(_escape, table.columns)) + " \\\\",
        "\\midrule",
    ]
    for before, row in zip([None, *table.rows], table.rows, strict=False):
        if before is not None and before.ours != row.ours:
            lines.append("\\midrule")
        lines.append(" & ".join(_escape(_plain(cell)) for cell in row.cells) + " \\\\")
    lines += ["\\bottomrule", "\\end{tabular}", "\\end{table}", *(f"% {note}" for note in table.notes), ""]
    return "\n".join(lines)


def as_html(table: PaperTable) -> str:
    """A table that scrolls sideways, its notes below."""
    rows = [
        (
            "model" if row.ours else "",
            [html.escape(cell) if isinstance(cell, str) else _html_figure(cell) for cell in row.cells],
        )
        for row in table.rows
    ]
    notes = "".join(f"<li>{html.escape(note)}</li>" for note in table.notes)
    return page.table(table.columns, rows) + (f'<ul class="soft">{notes}</ul>' if notes else "")


def _html_figure(cell: Figure) -> str:
    return cell.number + (f"<small>{html.escape(cell.beside)}</small>" if cell.beside else "")


def _plain(cell: Cell) -> str:
    return cell if isinstance(cell, str) else " ".join(part for part in (cell.number, cell.beside) if part)


def _bar(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _escape(text: str) -> str:
    return "".join(_LATEX.get(letter, letter) for letter in text)
