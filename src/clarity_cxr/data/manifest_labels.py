"""The labels in a manifest's rows: from one column per finding, or from one column that lists names."""

import re
from pathlib import Path

import numpy as np
import pandas as pd

from clarity_cxr.data.findings_map import FindingsMap
from clarity_cxr.data.release import Problem
from clarity_cxr.errors import ReleaseError
from clarity_cxr.findings import FINDINGS

_FIELDS = {"1": 1.0, "1.0": 1.0, "true": 1.0, "0": 0.0, "0.0": 0.0, "false": 0.0, "-1": np.nan, "-1.0": np.nan}
"""What a finding's column may hold, in lower case; -1 is CheXpert's "uncertain"."""


def read_labels(table: Path, rows: pd.DataFrame, naming: FindingsMap, problems: list[Problem]) -> np.ndarray:
    """(n, 14) labels of rows: 1, 0, or NaN where undefined.

    Raises:
        ReleaseError: there is no column to read them from.
    """
    if naming.listed is not None:
        return _listed_labels(table, rows, naming)
    named = {name for names in naming.findings.values() for name in names}
    present = sorted(named & set(rows.columns))
    if not present:
        raise ReleaseError(
            f"{table}, line 1: no column for any finding; expected some of {', '.join(sorted(named))}, "
            "or a --findings-map"
        )
    values = {name: _column_labels(table, rows[name], naming, problems) for name in present}
    labels = np.full((len(rows), len(FINDINGS)), np.nan)
    for finding, names in naming.findings.items():
        mine = [values[name] for name in names if name in values]
        if mine:
            labels[:, FINDINGS.index(finding)] = np.where(np.any(np.equal(mine, 1), axis=0), 1, np.sum(mine, axis=0))
    return labels


def majority(labels: np.ndarray, film: np.ndarray) -> np.ndarray:
    """(films, 14) labels of most readers; NaN where as many say yes as no.

    Args:
        labels: (n, 14) of n readings: 1, 0, or NaN.
        film: (n,) which film each reading is of, from 0.
    """
    balance = np.zeros((film.max(initial=-1) + 1, len(FINDINGS)))
    np.add.at(balance, film, np.nan_to_num(np.sign(labels - 0.5)))
    return np.where(balance > 0, 1.0, np.where(balance < 0, 0.0, np.nan))


def label_columns(labels: np.ndarray) -> pd.DataFrame:
    """Bool columns; of findings that some film leaves undefined, "boolean" ones, which can be missing."""
    columns = {}
    for finding, values in zip(FINDINGS, labels.T, strict=True):
        undefined = np.isnan(values)
        columns[finding] = pd.arrays.BooleanArray(values == 1, undefined) if undefined.any() else values == 1
    return pd.DataFrame(columns)


def _column_labels(table: Path, column: pd.Series, naming: FindingsMap, problems: list[Problem]) -> np.ndarray:
    text = column.str.strip().str.lower()
    for line, value in column[~text.isin(["", *_FIELDS])].items():
        message = f"{table}, line {line}: {column.name} is {value!r}; expected 1, 0, -1 (uncertain) or nothing"
        problems.append(Problem("broken label", message))
    return text.map({"": 0.0 if naming.blank == "negative" else np.nan, **_FIELDS}).to_numpy(float)


def _listed_labels(table: Path, rows: pd.DataFrame, naming: FindingsMap) -> np.ndarray:
    """Labels of rows that list names as `['a', 'b']` or `a|b`; all undefined where the field is empty."""
    if naming.listed not in rows:
        raise ReleaseError(f"{table}, line 1: no column {naming.listed!r}; found {', '.join(rows.columns)}")
    mapped = [FINDINGS.index(finding) for finding in naming.findings]
    codes, lists = pd.factorize(rows[naming.listed])
    labels = np.full((len(lists), len(FINDINGS)), np.nan)
    for row, text in enumerate(lists):
        names = re.findall(r"'([^']*)'|\"([^\"]*)\"", text) if "[" in text else text.split("|")
        shown = {"".join(name).strip() for name in names} - {""}
        if shown and not shown & set(naming.incomplete):
            labels[row, mapped] = 0
        labels[row, [FINDINGS.index(finding) for name in shown for finding in naming.findings_of(name)]] = 1
    return labels[codes]
