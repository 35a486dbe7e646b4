"""The one tidy form of every result: a number, its interval over seeds, its unit, and what it is to be held against."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import pandas as pd
from scipy.special import stdtrit

from embryo.core.errors import EmbryoError, Problem

Better = Literal["lower", "higher"]

COLUMNS = ("board", "split", "model", "role", "metric", "value", "low", "high", "n_seeds", "unit")
LEVEL = 0.95

Role = Literal["ours", "floor", "ceiling", "control", "edited", "difference", "repeat", "random"]


@dataclass(frozen=True)
class Interval:
    """A mean and its t-interval.

    Parameters
    ----------
    value
        Mean of the finite values; NaN where there are none.
    low, high
        Ends of the interval of the mean; NaN with fewer than two values.
    n
        How many finite values there were.
    """

    value: float
    low: float
    high: float
    n: int

    def within(self, least: float, most: float = np.inf) -> "Interval":
        """Return it with ends that go no further than the quantity can: no error lies below 0. NaN stays."""
        low, high = np.clip([self.low, self.high], least, most).tolist()
        return replace(self, low=low, high=high)


def interval(values: float | Sequence[float] | np.ndarray, level: float = LEVEL) -> Interval:
    """Mean over seeds with Student's t-interval, ``mean ± t(n - 1) s / sqrt(n)``.

    NaN values are left out and not counted. With one seed there is no spread to measure, so the ends are NaN: a
    single run is never printed as if it were certain. Seeds are few, hence Student's t and not the normal.

    Parameters
    ----------
    values
        One value per seed.
    level
        Coverage of the interval.
    """
    finite = np.atleast_1d(np.asarray(values, dtype=float))
    finite = finite[~np.isnan(finite)]
    n = len(finite)
    if n == 0:
        return Interval(np.nan, np.nan, np.nan, 0)
    mean = float(finite.mean())
    if n == 1:
        return Interval(mean, np.nan, np.nan, 1)
    half = student(level, n - 1) * float(finite.std(ddof=1)) / np.sqrt(n)
    return Interval(mean, mean - half, mean + half, n)


def student(level: float, df: float | int) -> float:
    """Return the two-sided quantile of Student's t: ``P(|T| <= t) = level`` with `df` degrees of freedom."""
    return float(stdtrit(df, 0.5 + level / 2))


def row(
    *,
    board: str,
    split: str,
    model: str,
    role: Role,
    metric: str,
    unit: str,
    values: float | Sequence[float] | np.ndarray | Interval,
) -> dict[str, Any]:
    """Return one row of the table: the mean of `values` over seeds with its interval.

    Parameters
    ----------
    board
        What is being judged: a dataset, a task, an edit.
    split
        Which part of it: held-out embryos, a time, a fold.
    model
        Who made the number: a model, or the name of the floor.
    role
        How to read it: ours, floor, ceiling, control, edited, difference, repeat or random.
    metric
        Name of the quantity; a class stands in brackets, ``fraction[neural]``.
    unit
        Its unit; ``"1"`` for none.
    values
        One value per seed; or the interval itself, where it is made otherwise or must stay within bounds
        (`Interval.within`).
    """
    mean = values if isinstance(values, Interval) else interval(values)
    return {
        "board": board,
        "split": split,
        "model": model,
        "role": role,
        "metric": metric,
        "value": mean.value,
        "low": mean.low,
        "high": mean.high,
        "n_seeds": mean.n,
        "unit": unit,
    }


def table(rows: Iterable[Mapping[str, Any]]) -> pd.DataFrame:
    """Gather rows into a data frame whose first columns are `COLUMNS`; further keys follow in the order they come."""
    records = list(rows)
    further = dict.fromkeys(key for record in records for key in record if key not in COLUMNS)
    frame = pd.DataFrame(records, columns=[*COLUMNS, *further])
    return frame.astype({"value": float, "low": float, "high": float, "n_seeds": int})


def verdict(
    ours: Sequence[float] | np.ndarray,
    floor: Sequence[float] | np.ndarray,
    *,
    floor_name: str,
    better: Better = "lower",
    level: float = LEVEL,
) -> str:
    """Say in one sentence whether a model beats a floor, from the paired interval of its gain over seeds.

    Parameters
    ----------
    ours, floor
        One score per seed; the i-th of both share the seed (or the held-out embryo).
    floor_name
        Name of the floor.
    better
        Whether a lower or a higher score is better.
    level
        Coverage of the interval.

    Returns
    -------
    str
        ``better than FLOOR ...``, ``worse than FLOOR ...``, or ``not better than FLOOR ...`` where the interval of
        the gain includes 0 or where fewer than two pairs leave no interval.

    Raises
    ------
    EmbryoError
        If the two have different lengths.
    """
    gain, words = gained(ours, floor, floor_name=floor_name, better=better, level=level)
    if gain.n < 2:
        return f"{words} (an interval needs two seeds, there is {gain.n})"
    span = f"gain {gain.value:.3g}, {level:.0%} interval {gain.low:.3g} to {gain.high:.3g}, {gain.n} seeds"
    return f"{words} ({span})"


def gained(
    ours: Sequence[float] | np.ndarray,
    floor: Sequence[float] | np.ndarray,
    *,
    floor_name: str,
    better: Better = "lower",
    level: float = LEVEL,
) -> tuple[Interval, str]:
    """Return the gain over a floor, positive where better, and the words of `verdict` without numbers."""
    if len(ours) != len(floor):
        raise EmbryoError(
            Problem(
                f"{len(ours)} scores of the model and {len(floor)} of {floor_name}",
                "one of each per seed",
                "score both on the same seeds",
            ),
            subject="verdict",
        )
    ours, floor = np.asarray(ours, dtype=float), np.asarray(floor, dtype=float)
    gain = interval(floor - ours if better == "lower" else ours - floor, level)
    if gain.low > 0:
        head = "better than"
    elif gain.high < 0:
        head = "worse than"
    else:
        head = "not better than"
    return gain, f"{head} {floor_name}"
