"""A manifest's tables as text, and their columns by name or template."""

import string
from pathlib import Path

import pandas as pd

from clarity_cxr.errors import ReleaseError


def read_table(path: Path) -> pd.DataFrame:
    """A CSV as text, compressed or not; the index is line numbers.

    Raises:
        ReleaseError: the file is missing, empty or unreadable.
    """
    try:
        rows = pd.read_csv(path, dtype=str, na_filter=False, index_col=False, encoding="utf-8-sig")
    except FileNotFoundError:
        raise ReleaseError(f"{path}: no such file; expected a CSV with a header") from None
    except (OSError, EOFError, ValueError) as error:  # pandas' own errors are kinds of ValueError
        raise ReleaseError(f"{path}: not a readable CSV ({' '.join(str(error).split())})") from None
    if rows.empty:
        raise ReleaseError(f"{path}: no rows below the header")
    return rows.fillna("").rename(columns=str.strip).set_axis(pd.RangeIndex(2, len(rows) + 2))


def source_values(rows: pd.DataFrame, source: str) -> pd.Series | None:
    """The values of a source (a column's name, or a template), stripped; None if `rows` lacks a column of it."""
    if source in rows:
        return rows[source].str.strip()
    names = list(dict.fromkeys(name for _, name, _, _ in string.Formatter().parse(source) if name))
    if not names or any(name not in rows for name in names):
        return None
    stripped = rows[names].apply(lambda column: column.str.strip())
    return pd.Series([source.format_map(row) for row in stripped.to_dict("records")], index=rows.index, dtype=object)
