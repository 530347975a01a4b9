"""Films named by a list: a text file with one path a line, or a Parquet table with a column `path`."""

import os
from collections.abc import Iterator
from pathlib import Path

from clarity_cxr.errors import ClarityError

LIST_SUFFIXES = (".txt", ".parquet")
"""Files that are lists of films and not films."""
_COLUMN = "path"
_ROWS = 10_000


def listed_films(path: Path) -> Iterator[tuple[Path, Path]]:
    """The films that a list names, each with its path below the deepest folder that holds them all.

    Relative paths start at the list's own folder. The list is read twice, and never held in memory.

    Raises:
        ClarityError: the list cannot be read, or the table has no column `path`.
    """
    folder: Path | None = None
    for film in _absolute(path):
        folder = film.parent if folder is None else Path(os.path.commonpath([folder, film.parent]))
    for film in _absolute(path):
        yield film, film.relative_to(folder or film.parent)


def _absolute(path: Path) -> Iterator[Path]:
    home = path.absolute().parent
    for line in _table_column(path) if path.suffix.lower() == ".parquet" else _text_lines(path):
        if line:
            yield Path(os.path.normpath(home / line))


def _text_lines(path: Path) -> Iterator[str]:
    try:
        with path.open(encoding="utf-8") as handle:
            yield from (line.strip() for line in handle)
    except (OSError, UnicodeDecodeError) as error:
        raise ClarityError(f"{path}: not a list of films ({error}); expected text with one path a line") from None


def _table_column(path: Path) -> Iterator[str]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path) as table:
            if _COLUMN not in table.schema_arrow.names:
                raise ClarityError(
                    f"{path}: no column `{_COLUMN}` with the films' paths; has {', '.join(table.schema_arrow.names)}"
                )
            for batch in table.iter_batches(_ROWS, columns=[_COLUMN]):
                yield from (str(value) for value in batch.column(0).to_pylist() if value is not None)
    except (OSError, pa.ArrowException) as error:
        raise ClarityError(f"{path}: not a Parquet table ({error})") from None
