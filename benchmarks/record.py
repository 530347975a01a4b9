"""Recording a benchmark: a table on the screen, and JSON with machine, versions, date and command beside it."""

import datetime
import importlib.metadata
import os
import platform
import shlex
import sys
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from clarity_cxr.files import write_json

FOLDER = Path("runs/benchmarks")
_PACKAGES = ("clarity-cxr", "torch", "torchvision", "timm", "lightning", "numpy", "pillow", "scipy", "pandas")


def record(name: str, rows: list[dict[str, Any]], **context: Any) -> Path:
    """Print `rows` as a table and write them to `runs/benchmarks/NAME.json`.

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
        "command": shlex.join(["python", _relative(sys.argv[0]), *sys.argv[1:]]),
        "machine": machine,
        "versions": {package: _version(package) for package in _PACKAGES},
        "context": context,
        "rows": rows,
    }
    columns = list(dict.fromkeys(key for row in rows for key in row))
    table = Table(title=f"{name} on {machine['processor']}, {machine['cores']} cores")
    for column in columns:
        numeric = all(isinstance(row.get(column, 0), int | float) for row in rows)
        table.add_column(column.replace("_", " "), justify="right" if numeric else "left")
    for row in rows:
        table.add_row(*(_cell(row.get(column, "")) for column in columns))
    console = Console()
    if context:
        console.print(", ".join(f"{key} {value}" for key, value in context.items()), highlight=False)
    console.print(table)
    write_json(path, content)
    console.print(f"written to {path}", highlight=False)
    return path


def describe_machine() -> dict[str, Any]:
    """Platform, Python, processor model, usable cores, and accelerator if torch is loaded and sees one."""
    machine = {
        "platform": platform.platform(),
        "python": platform.python_version(),
        "processor": _processor(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
    }
    torch = sys.modules.get("torch")
    if torch is not None:
        machine["torch_threads"] = torch.get_num_threads()
        if torch.cuda.is_available():
            machine["accelerator"] = torch.cuda.get_device_name()
    return machine


def _relative(script: str) -> str:
    path, here = Path(script).resolve(), Path.cwd()
    return str(path.relative_to(here)) if path.is_relative_to(here) else path.name


def _processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text(encoding="utf-8").splitlines() if cpuinfo.exists() else []
    models = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return models[0] if models else platform.processor() or platform.machine()


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _cell(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
