"""Times: present, numeric, finite, more than one, and no embryo missing in the middle."""

from collections.abc import Iterator, Sequence

import numpy as np
import pandas as pd
from jaxtyping import Float, Int

from embryo.core.checks import phrases
from embryo.core.errors import Problem

_TIME_WORDS = ("time", "day", "stage", "hour", "age", "hpf", "dpf", "dpc", "minute", "frame", "samples")


def numbers(column: pd.Series) -> Float[np.ndarray, " cells"] | None:
    """Return a column as floats with NaN where it holds nothing, or None if it is not numeric."""
    numeric = pd.api.types.is_numeric_dtype(column) and not pd.api.types.is_bool_dtype(column)
    if not numeric or pd.api.types.is_complex_dtype(column):
        return None
    return column.to_numpy(dtype=float, na_value=np.nan)


def absent(slot: str, columns: Sequence[object]) -> Problem:
    """Return the problem of a missing time column, naming the columns that may be meant."""
    likely = [c for c in columns if any(word in str(c).lower() for word in _TIME_WORDS)]
    hint = f"such as --key time={likely[0]}" if likely else "such as --key time=day"
    return Problem(
        f"no {slot} among the columns {phrases.few(columns, 8) or '(none)'}",
        "the developmental time of every cell in hours",
        f"name the column that holds it when reading, {hint} (config read.keys.time)",
    )


def problems(column: pd.Series, slot: str, minimum: int) -> Iterator[Problem]:
    """Yield what is wrong with a time column: kind, NaN or infinite values, fewer than `minimum` distinct times."""
    values = numbers(column)
    if values is None:
        yield Problem(
            f"{slot} of kind {column.dtype} ({phrases.few(repr(v) for v in pd.unique(column)[:3])})",
            "numbers, hours",
            "read the file with a time unit (--time-unit, -s read.time_unit=h, config read.time_unit), or map it to h",
        )
        return
    bad = ~np.isfinite(values)
    if bad.any():
        yield Problem(
            f"NaN or infinite {slot} in {phrases.cells(bad, column.index)}",
            "a finite time in hours for every cell",
            "fill these times in, or drop these cells",
        )
    distinct = np.unique(values[~bad])
    if len(distinct) < minimum:
        held = ", ".join(f"{phrases.number(t)} h" for t in distinct[:5]) or "none"
        yield Problem(
            f"{len(distinct)} distinct time{'s' if len(distinct) != 1 else ''} in {slot} ({held})",
            f"at least {minimum} distinct times, so that there is change to learn from",
            "add cells of other times, or check that the right column is read as time (--key time=...)",
        )


def gaps(
    times: Float[np.ndarray, " cells"], embryos: Int[np.ndarray, " cells"], names: Sequence[object], slot: str
) -> Iterator[Problem]:
    """Yield one problem if tracked embryos lack a time in their middle that nearly all other embryos have.

    Embryos count as tracked on a common grid if they have cells at 5 or more times and at 80 % or more of the grid's
    times between their first and last; a time is on the grid if most embryos that span it have cells then.
    """
    known = np.isfinite(times) & (embryos >= 0)
    grid, k = np.unique(times[known], return_inverse=True)
    if len(grid) < 5 or len(names) < 3 or len(grid) * len(names) > 50_000_000:
        return
    present = np.zeros((len(names), len(grid)), dtype=bool)
    present[embryos[known], k] = True
    tracked = present.sum(1) >= 5
    present, labels = present[tracked], [str(names[i]) for i in np.flatnonzero(tracked).tolist()]
    if len(present) < 3:
        return
    spans = np.logical_or.accumulate(present, axis=1) & np.logical_or.accumulate(present[:, ::-1], axis=1)[:, ::-1]
    on_grid = (present.sum(0) >= 2) & (present.sum(0) > 0.5 * spans.sum(0))
    lacking = spans & on_grid & ~present
    regular = lacking.sum(1) <= 0.2 * (spans & on_grid).sum(1)
    holes = [
        f"{labels[i]} at {phrases.few(f'{phrases.number(t)} h' for t in grid[lacking[i]])}"
        for i in np.flatnonzero(lacking.any(1) & regular)
    ]
    if holes:
        yield Problem(
            f"embryos without cells at a time that they span: {phrases.few(holes)}",
            f"cells at every {slot} between an embryo's first and last",
            "add the missing frames, or drop the embryo or that time",
        )
