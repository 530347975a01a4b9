"""How a data set names what a manifest needs: its columns, and our 14 findings in its own words."""

import re
from dataclasses import dataclass, field, fields
from importlib import resources
from pathlib import Path
from typing import Literal

import pandas as pd
import yaml

from clarity_cxr.errors import ConfigError
from clarity_cxr.findings import FINDINGS

COLUMNS = ("image", "patient", "split", "age", "sex", "view", "follow_up", "box_width", "box_height")
BOX_COLUMNS = ("image", "finding", "x0", "y0", "x1", "y1", "x", "y", "w", "h")
KNOWN_MAPS = ("chexpert", "mimic", "padchest", "vindr")


@dataclass(frozen=True)
class FindingsMap:
    """Where a manifest's columns and findings are found in a data set's table; the default is a manifest's own names.

    A column's source is the name of one of the table's columns, or a template over several: `p{subject_id:.2}/{dicom}`.

    Args:
        columns: some of `COLUMNS` -> their sources; the others go by their own names. One whose source the table lacks
            is not there.
        findings: finding -> the data set's names of it; a film shows it if it shows any of them.
        blank: what an empty field means.
        reader: column that names the reader, where a film has one row per reader; labels are the readers' majority, and
            undefined where there is none.
        listed: column that lists the names of all that a film shows, where there is no column for each.
        incomplete: names in that list that say that it is not complete: the findings beside them stand, and all others
            are undefined.
        keep: column -> the values of the rows to keep, if the table has the column.
        extract: column -> regular expression whose named groups are columns too.
        boxes: each of `BOX_COLUMNS` -> its source in the table of boxes.

    Raises:
        ConfigError: a key is not one of those expected, or a regular expression is none or names no group.
    """

    columns: dict[str, str] = field(default_factory=dict)
    findings: dict[str, list[str]] = field(default_factory=lambda: {name: [name] for name in FINDINGS})
    blank: Literal["undefined", "negative"] = "undefined"
    reader: str | None = None
    listed: str | None = None
    incomplete: list[str] = field(default_factory=list)
    keep: dict[str, list[str]] = field(default_factory=dict)
    extract: dict[str, str] = field(default_factory=dict)
    boxes: dict[str, str] = field(default_factory=lambda: {name: name for name in BOX_COLUMNS})

    def __post_init__(self) -> None:
        problems = [
            f"{key}: unknown {name!r}; expected some of {', '.join(known)}"
            for key, known in (("columns", COLUMNS), ("findings", FINDINGS), ("boxes", BOX_COLUMNS))
            for name in getattr(self, key)
            if name not in known
        ]
        for column, pattern in self.extract.items():
            try:
                if not re.compile(pattern).groupindex:
                    problems.append(rf"extract.{column}: no named group, as in '(?P<patient>patient\d+)'")
            except re.error as error:
                problems.append(f"extract.{column}: not a regular expression ({error})")
        if problems:
            raise ConfigError("findings map: " + "; ".join(problems))

    def findings_of(self, name: str) -> list[str]:
        """The findings that one of the data set's names stands for."""
        return [finding for finding, names in self.findings.items() if name in names]

    def unfold(self, rows: pd.DataFrame) -> pd.DataFrame:
        """The rows to keep of a table of text, with the extracted columns beside its own."""
        for column, values in self.keep.items():
            if column in rows:
                rows = rows[rows[column].str.strip().isin(values)]
        for column, pattern in self.extract.items():
            if column in rows:
                found = rows[column].str.extract(pattern).fillna("")
                rows = rows.assign(**{str(name): found[name] for name in re.compile(pattern).groupindex})
        return rows


def load_findings_map(name: str | None) -> FindingsMap:
    """A map by its name (one of `KNOWN_MAPS`), or from a YAML file of the fields of `FindingsMap`.

    Args:
        name: name or path; None for a manifest's own names.

    Raises:
        ConfigError: there is no such map or file, or it is not one.
    """
    if name is None:
        return FindingsMap()
    from jsonargparse import ArgumentError, ArgumentParser

    known = resources.files("clarity_cxr.data").joinpath("findings_maps", f"{name}.yaml")
    parser = ArgumentParser(exit_on_error=False)
    parser.add_class_arguments(FindingsMap, as_group=False)
    try:
        content = yaml.safe_load((known if name in KNOWN_MAPS else Path(name)).read_text(encoding="utf-8"))
        known = [each.name for each in fields(FindingsMap)]
        if not isinstance(content, dict) or not set(content) <= set(known):
            raise ConfigError(f"expected {', '.join(known)}; found {content!r}")
        return FindingsMap(**parser.parse_object(content).as_dict())
    except FileNotFoundError:
        raise ConfigError(f"{name}: no such findings map; expected {', '.join(KNOWN_MAPS)}, or a YAML file") from None
    except (OSError, UnicodeDecodeError, yaml.YAMLError, ArgumentError) as error:
        raise ConfigError(f"{name}: not a findings map: {' '.join(str(error).split())}") from None
    except ConfigError as error:
        raise ConfigError(f"{name}: {error}") from None
