"""`predictions.csv`: one row per film. Shards of a job array have a table each, joined once all are there."""

import csv
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from clarity_cxr.files import atomic_path
from clarity_cxr.shards import WHOLE, Shard


def table_path(out: Path, shard: Shard) -> Path:
    """Where a shard's table is written; the whole job's is `predictions.csv`."""
    return out / ("predictions.csv" if shard == WHOLE else f"predictions.{shard}.csv")


def write_table(path: Path, findings: Sequence[str], films: Iterable[tuple[str, dict[str, Any] | str]]) -> None:
    """Write one row per film, in the order given.

    Args:
        path: the table.
        findings: names of the columns of probabilities.
        films: each film's name with its JSON, or with the reason why it failed, which is then its only figure.
    """
    with atomic_path(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as handle:
        writer = csv.writer(handle)
        writer.writerow(["film", "width", "height", "positive", "boxes", *findings, "warnings", "error"])
        for name, result in films:
            if isinstance(result, str):
                writer.writerow([name, *[""] * (5 + len(findings)), result])
                continue
            positive = "|".join(finding for finding, decided in result["decisions"].items() if decided)
            probabilities = [result["probabilities"][finding] for finding in findings]
            row = [name, result["width"], result["height"], positive, len(result["boxes"])]
            writer.writerow([*row, *probabilities, "|".join(result["warnings"]), ""])


def join_tables(out: Path, count: int) -> Path | None:
    """Write `predictions.csv` from the tables of all shards, as one process would have; None while one is missing."""
    parts = [table_path(out, Shard(number, count)) for number in range(1, count + 1)]
    if not all(part.is_file() for part in parts):
        return None
    path = table_path(out, WHOLE)
    with ExitStack() as stack, atomic_path(path) as temporary:
        joined = csv.writer(stack.enter_context(temporary.open("w", newline="", encoding="utf-8")))
        for position, part in enumerate(parts):
            rows = csv.reader(stack.enter_context(part.open(newline="", encoding="utf-8")))
            header = next(rows)
            if position == 0:
                joined.writerow(header)
            joined.writerows(rows)
    return path
