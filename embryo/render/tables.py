"""Tables for people: sensible digits, intervals in one column, what never changes said once."""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

_DIGITS = 3
_PLAIN = (1e-3, 1e7)  # numbers between these are written without a power of ten
_ROWS = 300
_SAID_ONCE = ("unit", "n_seeds")  # beside all columns of words
_NEVER = ("model", "role", "high", "low", "value", "verdict")
_HEADS = {"n_seeds": "seeds", "time_h": "time (h)", "low": "interval"}
_UNITS = {"_um": " (µm)", "_h": " (h)", "_s": " (s)", "_min": " (min)"}
_SUPERSCRIPT = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")
ABSENT = "–"

ROLES = {
    "ours": "the model of this run",
    "floor": "what costs nothing to know; a model that is not better than every floor has learned nothing useful here",
    "random": "the same architecture with random weights: a control that has learned nothing",
    "ceiling": "as good as the noise of the data lets any model be",
    "control": "the roll-out without an edit",
    "edited": "the roll-out with the edit",
    "difference": "edited minus control",
    "repeat": "the control once more from another draw; an effect inside this spread is no effect",
}


@dataclass(frozen=True)
class Cell:
    """One cell of a printed table: its text, and whether it is a number (aligned right)."""

    text: str
    number: bool = False


@dataclass(frozen=True)
class Sheet:
    """A table ready to print.

    Parameters
    ----------
    heads
        Column names, as cells: numeric columns are aligned right.
    rows
        Role of each row (``""`` without one), whether a new group begins, and its cells.
    role_column
        Position of the column with the role; -1 without one.
    constants
        Name and text of what is the same in every row.
    roles
        Role and meaning of each role that occurs.
    total
        Number of rows of the whole table; more than are printed if it is long.
    """

    heads: Sequence[Cell]
    rows: Sequence[tuple[str, bool, Sequence[Cell]]]
    role_column: int
    constants: Sequence[tuple[str, str]]
    roles: Sequence[tuple[str, str]]
    total: int


def sheet(frame: pd.DataFrame) -> Sheet:
    """Lay out `frame` for printing; the frame is not changed."""
    whole = frame if isinstance(frame.index, pd.RangeIndex) else frame.reset_index()
    whole, constants = _without_constants(whole)
    shown = whole.head(_ROWS)
    names = [name for name in shown.columns if not (name == "high" and "low" in shown.columns)]
    columns = [_column(shown, name) for name in names]
    roles = shown["role"].map(text).tolist() if "role" in shown.columns else [""] * len(shown)
    starts = _starts(shown)
    seen = [(role, meaning) for role, meaning in ROLES.items() if role in roles]
    return Sheet(
        heads=[Cell(head(name), _right(shown, name)) for name in names],
        rows=[(role, starts[i], [column[i] for column in columns]) for i, role in enumerate(roles)],
        role_column=names.index("role") if "role" in names else -1,
        constants=constants,
        roles=seen,
        total=len(frame),
    )


def text(value: Any) -> str:
    """Return a value as a person would write it: three digits, thousands apart, a dash for what is absent."""
    if isinstance(value, bool | np.bool_):
        return "yes" if value else "no"
    if isinstance(value, int | np.integer):
        return f"{value:,}".replace("-", "−")
    if isinstance(value, float | np.floating):
        return number(float(value), decimals(float(value)))
    if value is None or (pd.api.types.is_scalar(value) and pd.isna(value)):
        return ABSENT
    return str(value)


def number(value: float, places: int) -> str:
    """Return `value` with `places` decimals, as a power of ten where it is very large or very small."""
    if np.isnan(value):
        return ABSENT
    if np.isinf(value):
        return "∞" if value > 0 else "−∞"
    if value and not _PLAIN[0] <= abs(value) < _PLAIN[1]:
        mantissa, power = f"{value:.{_DIGITS - 2}e}".split("e")
        return f"{mantissa}×10{str(int(power)).translate(_SUPERSCRIPT)}".replace("-", "−")
    return f"{value:,.{places}f}".replace("-", "−")


def decimals(value: float) -> int:
    """Return the decimals that show three digits of `value`."""
    if not value or not np.isfinite(value):
        return 0
    return int(np.clip(_DIGITS - 1 - np.floor(np.log10(abs(value))), 0, 6))


def head(name: Hashable) -> str:
    """Return a column name for people."""
    words = str(name)
    if words in _HEADS:
        return _HEADS[words]
    for suffix, unit in _UNITS.items():
        if words.endswith(suffix):
            words = words.removesuffix(suffix) + unit
            break
    return words.replace("_", " ")


def _without_constants(frame: pd.DataFrame) -> tuple[pd.DataFrame, list[tuple[str, str]]]:
    """Take out columns of words that say the same in every row, and intervals where there are none."""
    empty = [n for n in ("low", "high") if n in frame.columns and frame[n].isna().all()]
    frame = frame.drop(columns=empty) if len(empty) == 2 else frame
    words = [n for n in frame.columns if n in _SAID_ONCE or (n not in _NEVER and not _right(frame, n))]
    constant = [n for n in words if len(frame) > 1 and _constant(frame[n].map(text))]
    said = [(head(n), text(frame[n].iloc[0])) for n in constant]
    return frame.drop(columns=constant), [(n, t) for n, t in said if t not in ("", ABSENT)]


def _constant(words: pd.Series) -> bool:
    return bool((words == words.iloc[0]).all())


def _starts(frame: pd.DataFrame) -> list[bool]:
    """Where a new group begins: the first column changes, and is not new in every row."""
    if frame.empty or not len(frame.columns):
        return [False] * len(frame)
    first = frame.iloc[:, 0].map(text)
    changes = (first != first.shift()).tolist()
    return [False, *changes[1:]] if sum(changes) * 2 <= len(first) else [False] * len(first)


def _column(frame: pd.DataFrame, name: Hashable) -> list[Cell]:
    values = frame[name]
    if name == "low" and "high" in frame.columns:
        return [Cell(words, number=True) for words in _intervals(frame)]
    if pd.api.types.is_float_dtype(values) and _whole(values):
        return [Cell(ABSENT if np.isnan(v) else text(int(v)), number=True) for v in values]
    if name == "unit":
        return [Cell("" if v == "1" else text(v)) for v in values]
    return [Cell(text(v), isinstance(v, int | float | np.number) and not isinstance(v, bool)) for v in values]


def _intervals(frame: pd.DataFrame) -> list[str]:
    centre = frame["value"] if "value" in frame.columns else frame["high"]
    words = []
    for low, high, value in zip(frame["low"], frame["high"], centre, strict=True):
        places = decimals(value if np.isfinite(value) and value else high)
        absent = np.isnan(low) and np.isnan(high)
        words.append(ABSENT if absent else f"{number(low, places)} to {number(high, places)}")
    return words


def _whole(values: pd.Series) -> bool:
    known = values.dropna()
    return bool(
        len(known) and np.isfinite(known).all() and (known == known.round()).all() and (known.abs() < 1e15).all()
    )


def _right(frame: pd.DataFrame, name: Hashable) -> bool:
    return pd.api.types.is_numeric_dtype(frame[name]) and not pd.api.types.is_bool_dtype(frame[name])
