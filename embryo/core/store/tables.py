"""Tidy tables as csv: one row per observation, read by anything, the same numbers back."""

import csv
import io
import re
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from embryo.core.errors import Problem, StoreError
from embryo.core.store.files import atomic, find

_INTEGER = re.compile(r"[+-]?[0-9]+")
_TRUTH = {"True": True, "False": False}


def write_table(df: pd.DataFrame, path: str | Path) -> None:
    """Write a tidy table as csv, UTF-8: text in quotes, numbers bare and to the last digit.

    Parameters
    ----------
    df
        Columns of numbers, truth values or text (categories count as text), under names that are text and differ.
        The index is not written.
    path
        File to write, whole or not at all.

    Raises
    ------
    StoreError
        Listing every column that csv cannot hold, and an index that would be lost.

    Notes
    -----
    Read back, floats are float64, integers int64 (uint64 above), text is str; missing text is empty text, and a column
    of text that holds nothing but ``True`` and ``False`` is one of truth values.
    """
    problems: list[Problem] = []
    twice = sorted(str(name) for name, n in Counter(df.columns).items() if n > 1)
    if twice:
        problems.append(Problem(f"columns named twice: {', '.join(twice)}", "names that differ", "rename them"))
    if any(not isinstance(name, str) for name in df.columns) or not len(df.columns):
        problems.append(Problem(f"columns {list(df.columns)}", "one or more names that are text", "name the columns"))
    if not isinstance(df.index, pd.RangeIndex):
        problems.append(
            Problem(
                "an index that csv would lose",
                "0, 1, 2, ...",
                "call reset_index() first, with drop=True where it means nothing",
            )
        )
    columns = [_values(df.iloc[:, k], problems) for k in range(df.shape[1])]
    if problems:
        raise StoreError(*problems, subject=str(path))
    with atomic(path) as partial, partial.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, quoting=csv.QUOTE_NONNUMERIC, lineterminator="\n")
        writer.writerow(df.columns)
        writer.writerows(zip(*columns, strict=True))


def read_table(path: str | Path) -> pd.DataFrame:
    """Read a table; the inverse of `write_table` for float64, int64, bool and text columns.

    Raises
    ------
    StoreError
        If the file is missing, cut, or not a table: empty, rows of different lengths, a name twice.
    """
    expected = "a csv table with a header"
    file = find(path, expected)
    try:
        text = file.read_bytes().decode("utf-8")
        rows = list(csv.reader(io.StringIO(text, newline=""), strict=True))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        problem = Problem(f"a file that cannot be read ({error})", expected, "write it again")
        raise StoreError(problem, subject=str(path)) from error
    problems = _faults(rows, whole=text.endswith(("\n", "\r")))
    if problems:
        raise StoreError(*problems, subject=str(path))
    header, body = rows[0], rows[1:]
    quoted = _quoted(text, len(header))
    columns = zip(*body, strict=True) if body else ([] for _ in header)
    data = {name: _column(list(cells), text=q) for name, cells, q in zip(header, columns, quoted, strict=True)}
    return pd.DataFrame(data)


def _values(column: "pd.Series[Any]", problems: list[Problem]) -> list[Any]:
    kind = column.dtype
    if pd.api.types.is_bool_dtype(kind) and not column.isna().any():
        return [str(bool(value)) for value in column]
    if pd.api.types.is_integer_dtype(kind) and not column.isna().any():
        return [int(value) for value in column]
    if pd.api.types.is_numeric_dtype(kind) and not pd.api.types.is_complex_dtype(kind):
        return [float(value) for value in column.to_numpy(dtype=np.float64, na_value=np.nan)]
    missing = column.isna()
    values = ["" if gone else value for value, gone in zip(column, missing, strict=True)]
    odd = sorted({type(value).__name__ for value in values if not isinstance(value, str)})
    if odd:
        problems.append(
            Problem(
                f"column {column.name!r} with {', '.join(odd)}",
                "numbers only, or text only",
                "convert the column first",
            )
        )
    return values


def _faults(rows: list[list[str]], *, whole: bool) -> list[Problem]:
    if not rows or not rows[0]:
        return [Problem("no header", "a first line with the names of the columns", "write the table again")]
    problems = []
    twice = sorted(name for name, n in Counter(rows[0]).items() if n > 1)
    if twice:
        problems.append(Problem(f"columns named twice: {', '.join(twice)}", "names that differ", "rename them"))
    ragged = [k for k, row in enumerate(rows, 1) if len(row) != len(rows[0])]
    if ragged:
        found = f"{len(ragged)} rows of another length than the header's {len(rows[0])}, the first is row {ragged[0]}"
        problems.append(Problem(found, "rows of one length", "write the table again"))
    if not whole:
        problems.append(Problem("a last line without its end", "a whole table", "it was cut: write it again"))
    return problems


def _quoted(text: str, columns: int) -> list[bool]:
    """Which columns of the first row are in quotes; none where the file is not ours and leaves text bare."""
    try:
        records = csv.reader(io.StringIO(text, newline=""), quoting=csv.QUOTE_NONNUMERIC)
        next(records)
        return [isinstance(cell, str) for cell in next(records)]
    except (ValueError, StopIteration):
        return [False] * columns


def _column(cells: list[str], *, text: bool) -> list[Any]:
    if cells and set(cells) <= set(_TRUTH):
        return [_TRUTH[cell] for cell in cells]
    if text:
        return cells
    if all(_INTEGER.fullmatch(cell) for cell in cells):
        return [int(cell) for cell in cells]
    try:
        return [float(cell) for cell in cells]
    except ValueError:
        return cells
