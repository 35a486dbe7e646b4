"""Positions: two or three columns, finite, not flat, of the size of an embryo in µm."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float, Int
from scipy import sparse

from embryo.core.checks import phrases
from embryo.core.errors import Problem

SMALLEST_UM, LARGEST_UM = 1.0, 1e5  # a polar body; a late foetus
_UNITS_UM = {"mm": 1e3, "m": 1e6, "nm": 1e-3}
_AXES = "xyz"


def numbers(value: Any) -> Float[np.ndarray, "cells dims"] | None:
    """Return an entry of obsm as floats, or None if it is not a table of numbers."""
    if sparse.issparse(value):
        value = value.toarray() if value.shape[1] <= 16 else None
    elif isinstance(value, pd.DataFrame):
        value = value.to_numpy()
    if not isinstance(value, np.ndarray) or value.ndim != 2 or value.dtype.kind not in "fiu":
        return None
    return np.asarray(value, dtype=float)


def table(value: Any, slot: str, names: pd.Index) -> Iterator[Problem]:
    """Yield what is wrong with any table of numbers in obsm: kind, no columns, NaN or infinite values."""
    x = numbers(value)
    if x is None:
        kind = getattr(value, "dtype", None) or type(value).__name__
        shape = getattr(value, "shape", ())
        yield Problem(f"{slot} of kind {kind} and shape {tuple(shape)}", "a dense table of numbers", "convert it first")
        return
    if x.shape[1] == 0:
        yield Problem(f"{slot} without columns", "at least one column", "write it again")
    bad = ~np.isfinite(x).all(axis=1)
    if bad.any():
        yield Problem(
            f"NaN or infinite values of {slot} in {phrases.cells(bad, names)}",
            "finite numbers for every cell",
            "drop these cells, or fill the values in from the source",
        )


def problems(value: Any, slot: str, names: pd.Index) -> Iterator[Problem]:
    """Yield what is wrong with positions whatever their unit: number of axes, flat or collapsed axes."""
    yield from table(value, slot, names)
    x = numbers(value)
    if x is None:
        return
    dims = x.shape[1]
    if dims not in (2, 3):
        yield Problem(
            f"{slot} with {dims} columns",
            "2 or 3 columns (x, y and perhaps z)",
            "name the slot or columns that hold positions (--key space=..., config read.keys.space)",
        )
        return
    x = x[np.isfinite(x).all(axis=1)]
    if len(x) > dims + 1:
        yield from _flat(x, slot)
        if float(np.abs(x).max()) == 1.0:
            yield Problem(
                f"{slot} scaled so that the largest coordinate is exactly 1",
                "positions in µm",
                "multiply by the scale factor that was divided out, or read the unscaled slot (--key space=...)",
            )


def _flat(x: Float[np.ndarray, "cells dims"], slot: str) -> Iterator[Problem]:
    constant = np.ptp(x, axis=0) == 0
    for axis in np.flatnonzero(constant):
        yield Problem(
            f"{slot} with one value ({phrases.number(x[0, axis])}) along {_AXES[axis]} for all {len(x)} cells",
            "positions that differ along every axis",
            "read the true coordinate of that axis, or give flat data two columns",
        )
    if constant.any():
        return
    correlation = np.atleast_2d(np.corrcoef(x - x.mean(axis=0), rowvar=False))
    if np.isfinite(correlation).all() and np.linalg.eigvalsh(correlation)[0] < 1e-10:
        yield Problem(
            f"{slot} degenerate: its {x.shape[1]} coordinates are linearly dependent (one is made from the others)",
            f"cells that fill {x.shape[1]} dimensions",
            "check that no column is named twice in --key space, or give flat data two columns",
        )


def scale(
    x: Float[np.ndarray, "cells dims"],
    embryos: Int[np.ndarray, " cells"],
    times: Int[np.ndarray, " cells"],
    names: Sequence[object],
    slot: str,
) -> Iterator[Problem]:
    """Yield embryos whose extent is not that of an embryo in µm, with the unit that would make it one.

    The extent is that of the cells seen at one time; a single cell has none.

    Parameters
    ----------
    x
        Positions, µm by their own account.
    embryos
        Row of `names` for each cell, -1 where unknown.
    times
        Number of each cell's time point.
    names
        Names of the embryos.
    slot
        What the positions are called, for the text.
    """
    whole = np.isfinite(x).all(axis=1) & (embryos >= 0)
    grouped = pd.DataFrame(x[whole]).groupby([embryos[whole], times[whole]])
    extent = (grouped.max() - grouped.min()).max(axis=1)[grouped.size() > 1].groupby(level=0).max()
    odd = extent[(extent > 0) & ((extent < SMALLEST_UM) | (extent > LARGEST_UM))]
    if not len(odd):
        return
    typical = float(odd.median())
    guess = next((u for u, um in _UNITS_UM.items() if 10 * SMALLEST_UM <= typical * um <= LARGEST_UM), None)
    which = (
        ""
        if len(extent) == 1
        else f" in {len(odd)} of {len(extent)} embryos ({phrases.few(names[i] for i in odd.index)})"
    )
    likely = f"; the numbers look like {guess}" if guess else ""
    yield Problem(
        f"{slot} implausible for µm: extent {phrases.number(typical)} µm{which}{likely}",
        f"an extent from {SMALLEST_UM:g} to {LARGEST_UM:g} µm",
        f"read with the unit of the file (--space-unit {guess or 'mm'}, config read.space_unit)",
    )
