"""The page of all benchmarks, docs/benchmarks.md, from what they recorded: python benchmarks/page.py

Copies the JSON of runs/benchmarks, which git ignores, into benchmarks/results, without what belongs to one machine
only (paths, the kernel's build), and writes the page from there. Goals stand in benchmarks/goals.yaml.
"""

import ast
import json
import shlex
from pathlib import Path
from typing import Any

import yaml

from clarity_cxr.files import atomic_path, write_json
from record import FOLDER, cell, portable, portable_command

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "benchmarks/results"
GOALS = ROOT / "benchmarks/goals.yaml"
PAGE = ROOT / "docs/benchmarks.md"
HEAD = """# Benchmarks

What each script of `benchmarks/` printed last. `python benchmarks/page.py` writes this page from the JSON that they
leave, kept in `benchmarks/results/`; do not edit it. What the figures mean stands in [results.md](results.md). Where
there was a goal, it stands in the last column.
"""

Result = dict[str, Any]


def main() -> None:
    """Collect, and write the page."""
    for path in sorted((ROOT / FOLDER).glob("*.json")):
        write_json(RESULTS / path.name, cleaned(json.loads(path.read_text(encoding="utf-8"))))
    with atomic_path(PAGE) as temporary:
        temporary.write_text(page(RESULTS, GOALS), encoding="utf-8")
    print(PAGE.relative_to(ROOT))


def cleaned(result: Result) -> Result:
    """A result as `record` writes it now, whichever version of it wrote it, and without this machine's paths."""
    context = {key: portable(value) if isinstance(value, str) else value for key, value in result["context"].items()}
    system = result["machine"]["platform"].split("-")[0]
    return result | {
        "command": shlex.join(portable_command(shlex.split(result["command"]))),
        "machine": result["machine"] | {"platform": system},
        "versions": {name: version for name, version in result["versions"].items() if version},
        "context": context,
    }


def page(results: Path, goals: Path) -> str:
    """The page's Markdown.

    Args:
        results: folder of cleaned JSON files.
        goals: YAML: benchmark -> list of `row` (how its first cell begins), `column`, and `at_least` or `at_most`.
    """
    bounds = yaml.safe_load(goals.read_text(encoding="utf-8"))
    contents = [json.loads(path.read_text(encoding="utf-8")) for path in sorted(results.glob("*.json"))]
    return "\n".join([HEAD, *(section(content, bounds.get(content["name"], [])) for content in contents)])


def section(result: Result, bounds: list[dict[str, Any]]) -> str:
    """One benchmark: what it is, command, date, machine and versions, then its rows."""
    machine, versions = result["machine"], result["versions"]
    accelerator = [machine["accelerator"]] if "accelerator" in machine else []
    where = ", ".join([machine["processor"], f"{machine['cores']} cores", *accelerator, f"Python {machine['python']}"])
    context = ", ".join(f"{key} {value}" for key, value in result["context"].items())
    lines = [
        f"## {result['name']}",
        "",
        described(result["name"], result["command"]),
        "",
        f"`{result['command']}`, {result['date'][:10]}, {where}; "
        + ", ".join(f"{name} {version}" for name, version in versions.items())
        + "."
        + (f" Settings: {context}." if context else ""),
        "",
        *table(result["rows"], bounds),
        "",
    ]
    return "\n".join(lines)


def described(name: str, command: str) -> str:
    """The first sentence of the script of that name, or else of the one that the command runs."""
    script = ROOT / "benchmarks" / f"{name}.py"
    script = script if script.is_file() else ROOT / shlex.split(command)[1]
    text = ast.get_docstring(ast.parse(script.read_text(encoding="utf-8"))) if script.is_file() else None
    first = (text or "").split("\n\n")[0].split(": python ")[0].replace("\n", " ")
    return first.rstrip(".") + "."


def table(rows: list[dict[str, Any]], bounds: list[dict[str, Any]]) -> list[str]:
    """Rows as a Markdown table, with a last column for goals where a row has any."""
    goals = [goal(row, bounds) for row in rows]
    columns = list(dict.fromkeys(key for row in rows for key in row))
    numeric = [all(isinstance(row.get(column, 0), int | float) for row in rows) for column in columns]
    header, rule = [column.replace("_", " ") for column in columns], ["--:" if right else "---" for right in numeric]
    lines = [[cell(row.get(column, "")).replace("|", "\\|") for column in columns] for row in rows]
    if any(goals):
        header, rule = [*header, "goal"], [*rule, "---"]
        lines = [[*line, said] for line, said in zip(lines, goals, strict=True)]
    return [f"| {' | '.join(line)} |" for line in (header, rule, *lines)]


def goal(row: dict[str, Any], bounds: list[dict[str, Any]]) -> str:
    """What a row was to reach, and whether it did; empty without a goal."""
    said = []
    for bound in bounds:
        value = row.get(bound["column"])
        if value is None or not str(next(iter(row.values()))).startswith(bound["row"]):
            continue
        least = "at_least" in bound
        limit = bound["at_least" if least else "at_most"]
        reached = value >= limit if least else value <= limit
        name = bound["column"].replace("_", " ")
        said.append(f"{name} {'≥' if least else '≤'} {limit:g}: {'reached' if reached else '**not reached**'}")
    return "; ".join(said)


if __name__ == "__main__":
    main()
