"""Expression matrices: finite, counts where counts are needed, never densified."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pandas as pd
from jaxtyping import Float
from scipy import sparse

from embryo.core.checks import phrases
from embryo.core.errors import Problem

_BLOCK = 1 << 22  # values looked at in one go
_LOG_LIMIT = 25.0  # log1p of more counts than any cell holds


@dataclass(frozen=True)
class Summary:
    """What a matrix holds: how many NaN, infinite, negative and fractional values, and the range of the finite ones."""

    nan: int = 0
    infinite: int = 0
    negative: int = 0
    fractional: int = 0
    lowest: float = 0.0
    highest: float = 0.0

    def __add__(self, other: "Summary") -> "Summary":
        return Summary(
            self.nan + other.nan,
            self.infinite + other.infinite,
            self.negative + other.negative,
            self.fractional + other.fractional,
            min(self.lowest, other.lowest),
            max(self.highest, other.highest),
        )


def readable(matrix: Any) -> bool:
    """Whether the matrix lies in memory and holds numbers."""
    kind = getattr(getattr(matrix, "dtype", None), "kind", "O")
    return (isinstance(matrix, np.ndarray) or sparse.issparse(matrix)) and matrix.ndim == 2 and kind in "fiub"


def summary(matrix: Any) -> Summary:
    """Summarise the values of a dense or sparse matrix block by block; zeros that are not stored are not looked at."""
    total = Summary()
    for block in _blocks(matrix):
        total = total + _summary(block)
    return total


def kind(matrix: Any) -> Literal["counts", "log1p", "relative"]:
    """Return what the values look like: whole and non-negative, log1p-normalised, or neither."""
    held = summary(matrix)
    if held.negative or held.nan or held.infinite:
        return "relative"
    if not held.fractional:
        return "counts"
    return "log1p" if held.highest <= _LOG_LIMIT else "relative"


def problems(matrix: Any, slot: str, *, counts: bool, signed: bool) -> Iterator[Problem]:
    """Yield what is wrong with the values of a matrix.

    Parameters
    ----------
    matrix
        (cells, genes), dense or sparse.
    slot
        What it is called, for the text.
    counts
        Whether it must hold raw counts.
    signed
        Whether negative values are meant (background-corrected reporters).
    """
    if not readable(matrix):
        kind_ = getattr(matrix, "dtype", "")
        yield Problem(
            f"{slot} as {type(matrix).__name__} {kind_}".rstrip(),
            "a dense or sparse matrix of numbers in memory",
            "load it (adata.to_memory()) or convert it to numbers",
        )
        return
    held = summary(matrix)
    if held.nan or held.infinite:
        yield Problem(
            f"{held.nan} NaN and {held.infinite} infinite values in {slot}",
            "finite numbers",
            "put 0 where nothing was counted, or drop these genes or cells",
        )
    if held.negative and not signed:
        yield Problem(
            f"{held.negative} negative values in {slot} (lowest {phrases.number(held.lowest)})",
            "values of 0 or more",
            "read the raw counts instead of scaled or corrected values (config read.keys.counts), or declare "
            'the values as relative levels (adata.uns["embryo"]["expression"] = "relative")',
        )
    if counts and held.fractional:
        yield Problem(
            f"{held.fractional} non-integer values in {slot} ({_look(matrix, held)})",
            "raw counts, whole numbers",
            "read the layer that holds raw counts (config read.keys.counts), or undo the normalisation",
        )


def empty(matrix: Any, slot: str, names: pd.Index, *, counts: bool) -> Iterator[Problem]:
    """Yield cells without any count where counts are needed, and a matrix without any value but zero."""
    if not readable(matrix) or 0 in matrix.shape:
        return
    held = summary(matrix)
    if not (held.highest or held.lowest or held.nan or held.infinite):
        yield Problem(
            f"{slot} all zero: {matrix.shape[0]} cells x {matrix.shape[1]} genes without a value",
            "expression of at least some genes",
            "check which layer was read (config read.keys.counts)",
        )
    elif counts and not held.negative:
        bad = np.asarray(matrix.sum(axis=1)).ravel() == 0
        if bad.any():
            yield Problem(
                f"no counts in {slot} for {phrases.cells(bad, names)}",
                "at least one count in every cell",
                "drop empty cells before reading",
            )


def no_counts(x: Any, slot: str, layers: Sequence[object]) -> Iterator[Problem]:
    """Yield the problem of missing counts, saying what X and the other layers hold instead."""
    held = f"X holds {_look(x, summary(x))}" if x is not None and readable(x) and 0 not in x.shape else "no usable X"
    yield Problem(
        f"no {slot} (layers: {phrases.few(layers) or 'none'}; {held})",
        "raw counts, whole numbers",
        f"name the layer that holds raw counts when reading (config read.keys.counts), or copy them there ({slot})",
    )


def _look(matrix: Any, held: Summary) -> str:
    largest = f"largest {phrases.number(held.highest)}"
    head = matrix[:200] if isinstance(matrix, np.ndarray) else matrix.tocsr()[:200].toarray()
    head = np.asarray(head, dtype=float)
    if not held.fractional:
        return f"whole numbers, lowest {phrases.number(held.lowest)}, {largest}"
    if held.highest <= _LOG_LIMIT and not held.negative and np.isfinite(head).all():
        total = _common_total(np.expm1(head))
        of = f" of counts scaled to {phrases.number(total)} per cell" if total else ""
        return f"log-normalised values: log1p{of}, {largest}"
    total = _common_total(head)
    return f"values normalised to {phrases.number(total)} per cell, {largest}" if total else f"values, {largest}"


def _common_total(rows: Float[np.ndarray, "cells genes"]) -> float | None:
    totals = rows.sum(axis=1)
    totals = totals[totals > 0]
    if len(totals) < 2 or not np.isfinite(totals).all() or np.ptp(totals) > 1e-3 * totals.max():
        return None
    return float(np.median(totals))


def _blocks(matrix: Any) -> Iterator[np.ndarray]:
    if sparse.issparse(matrix):
        values = matrix.data if matrix.format in ("csr", "csc", "coo", "bsr", "dia") else matrix.tocsr().data
        values = np.asarray(values).reshape(-1)
        for start in range(0, len(values), _BLOCK):
            yield values[start : start + _BLOCK]
        return
    step = max(1, _BLOCK // max(1, matrix.shape[1]))
    for start in range(0, len(matrix), step):
        yield np.asarray(matrix[start : start + step]).reshape(-1)


def _summary(block: np.ndarray) -> Summary:
    if not len(block):
        return Summary()
    if block.dtype.kind in "bu":
        return Summary(highest=float(block.max()))
    nan, infinite = 0, 0
    if block.dtype.kind == "f":
        nan, infinite = int(np.isnan(block).sum()), int(np.isinf(block).sum())
        if nan or infinite:
            block = block[np.isfinite(block)]
    if not len(block):
        return Summary(nan, infinite)
    fractional = int((block != np.floor(block)).sum()) if block.dtype.kind == "f" else 0
    low, high = float(block.min()), float(block.max())
    negative = int((block < 0).sum()) if low < 0 else 0
    return Summary(nan, infinite, negative, fractional, min(low, 0.0), max(high, 0.0))
