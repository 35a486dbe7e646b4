"""The words that problems share: a few names out of many, counts of cells, short numbers."""

from collections.abc import Iterable
from difflib import get_close_matches

import numpy as np
import pandas as pd
from jaxtyping import Bool, Int


def few(items: Iterable[object], limit: int = 5) -> str:
    """Return the first `limit` items and how many more there are."""
    listed = [str(item) for item in items]
    more = f" and {len(listed) - limit} more" if len(listed) > limit else ""
    return ", ".join(listed[:limit]) + more


def cells(bad: Bool[np.ndarray, " cells"], names: pd.Index) -> str:
    """Say how many cells are meant and name the first, such as ``3 of 20 cells (rows 4, 7, 9: c4, c7, c9)``."""
    rows: Int[np.ndarray, " bad"] = np.flatnonzero(bad)
    shown = few(rows[:5].tolist()) + (", ..." if len(rows) > 5 else "")
    return f"{len(rows)} of {len(bad)} cells (rows {shown}: {few(names[i] for i in rows[:5])})"


def number(value: float) -> str:
    """Return a number short enough to read."""
    return f"{value:.4g}"


def nearest(name: str, known: Iterable[object]) -> str:
    """Return `` (did you mean 'x'?)`` for the known name most like `name`, else an empty string."""
    names = [str(k) for k in known]
    lower = {k.lower(): k for k in reversed(names)}
    match = get_close_matches(name.lower(), lower, n=1, cutoff=0.6)
    return f" (did you mean {lower[match[0]]!r}?)" if match else ""
