"""Recording a benchmark: a table on the screen, and JSON with machine, versions, date and command beside it."""

import datetime
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from rich.console import Console
from rich.table import Table

from clarity_cxr.files import write_json
from clarity_cxr.planning.machine import describe_machine, package_versions

FOLDER = Path("runs/benchmarks")
_SCRIPTS = Path(__file__).resolve().parent


def record(name: str, rows: list[dict[str, Any]], **context: Any) -> Path:
    """Print `rows` as a table and write them to `runs/benchmarks/NAME.json`.

    Paths that lead out of the working folder are recorded by their last part only.

    Args:
        name: the benchmark's name, and its file's.
        rows: one dictionary per line of the table; keys missing from a row are left blank.
        context: settings of the run (sizes, repeats, seeds), stored and printed above the table.
    """
    path = FOLDER / f"{name}.json"
    machine = describe_machine()
    content = {
        "name": name,
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "command": shlex.join(portable_command(["python", *sys.argv])),
        "machine": machine,
        "versions": package_versions(),
        "context": {key: portable(str(value)) if isinstance(value, Path) else value for key, value in context.items()},
        "rows": rows,
    }
    columns = list(dict.fromkeys(key for row in rows for key in row))
    table = Table(title=f"{name} on {machine['processor']}, {machine['cores']} cores")
    for column in columns:
        numeric = all(isinstance(row.get(column, 0), int | float) for row in rows)
        table.add_column(column.replace("_", " "), justify="right" if numeric else "left")
    for row in rows:
        table.add_row(*(cell(row.get(column, "")) for column in columns))
    console = Console()
    if context:
        console.print(", ".join(f"{key} {value}" for key, value in context.items()), highlight=False)
    console.print(table)
    write_json(path, content)
    console.print(f"written to {path}", highlight=False)
    return path


def portable_command(words: Sequence[str]) -> list[str]:
    """A command's words as they read anywhere: scripts of this folder with its name, other paths by `portable`."""
    scripts = {script.name for script in _SCRIPTS.glob("*.py")}
    return [f"benchmarks/{Path(word).name}" if Path(word).name in scripts else portable(word) for word in words]


def portable(text: str) -> str:
    """A path that is absolute or begins with `..` as its last part; any other text as it is."""
    path = PurePosixPath(text)
    return path.name if path.is_absolute() or path.parts[:1] == ("..",) else text


def cell(value: Any) -> str:
    """A value as a table shows it: four digits of a number with a fraction."""
    return f"{value:.4g}" if isinstance(value, float) else str(value)
