"""Pieces of a page: sections, tables of figures with their intervals, charts and pictures set inline."""

import base64
import html
import io
from collections.abc import Iterable, Sequence

from PIL import Image

from clarity_cxr.evaluation.curves import Chart

DASH = "–"


def section(title: str, body: str) -> str:
    """A section with its heading; `body` is HTML."""
    return f"<section><h2>{html.escape(title)}</h2>{body}</section>"


def missing(part: str, command: str) -> str:
    """Says which part is not there yet and which command makes it."""
    return note(f"{part} is not there yet; {command} makes it.")


def note(text: str) -> str:
    """A remark that must not be overlooked."""
    return f'<p class="missing">{html.escape(text)}</p>'


def charts(of: Iterable[Chart], style: str) -> str:
    """Charts side by side."""
    return f'<div class="{style}">' + "".join(f"<figure>{chart(each)}</figure>" for each in of) + "</div>"


def chart(of: Chart) -> str:
    """A chart under its title."""
    caption = f"<b>{html.escape(of.title)}</b>{html.escape(of.subtitle)}"
    return f"<figcaption>{caption}</figcaption>{of.svg}"


def table(head: Sequence[str], rows: Iterable[tuple[str, Sequence[str]]]) -> str:
    """A table of rows (style, cells); cells are HTML. Columns of words stand left, columns of numbers right."""
    rows = list(rows)
    words = [any(cells[i][:1].isalpha() or cells[i][:1] == "<" for _, cells in rows) for i in range(len(head))]
    marks = [' class="left"' if of else "" for of in words]
    header = "".join(f"<th{mark}>{html.escape(name)}</th>" for mark, name in zip(marks, head, strict=True))
    body = "".join(
        f'<tr class="{style}">'
        + "".join(f"<td{mark}>{cell}</td>" for mark, cell in zip(marks, cells, strict=True))
        + "</tr>"
        for style, cells in rows
    )
    return f'<div class="scroll"><table><thead><tr>{header}</tr></thead><tbody>{body}</tbody></table></div>'


def figure(value: float | None, limits: Sequence[float] | None, remark: str = "") -> str:
    """A figure with its interval and a note below it."""
    below = ", ".join(part for part in (interval(limits), remark) if part)
    return number(value) + (f"<small>{below}</small>" if below else "")


def number(value: float | None, digits: int = 3) -> str:
    """Some decimals; an undefined figure is a dash."""
    return DASH if value is None else f"{value:.{digits}f}"


def interval(limits: Sequence[float] | None) -> str:
    """(low–high), or nothing."""
    return "" if limits is None else f"({limits[0]:.3f}–{limits[1]:.3f})"


def jpeg(image: Image.Image) -> str:
    """A picture as an address that holds it."""
    buffer = io.BytesIO()
    image.save(buffer, format="JPEG", quality=88, subsampling=0)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")
