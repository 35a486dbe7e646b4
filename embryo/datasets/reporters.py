"""Reporter levels of tracked embryos, and gene vectors assembled by cell name from embryos of different reporters.

The genes of an assembled vector were never measured together: each comes from other embryos.
"""

import re
from collections.abc import Iterable, Mapping

import numpy as np
import pandas as pd
from jaxtyping import Float32

from embryo.datasets import lineage
from embryo.datasets.movies import Movie

_HIGH, _LOW = 0.99, 0.01  # quantiles that scale a reporter
_GENE = re.compile(r"_([A-Za-z]{3,4})[-_]?(\d+)")


def guess(embryo: str) -> str:
    """Guess the reporter gene from a name such as ``CD20080418_pha-4_3E3C5_1``; ``""`` where it shows none."""
    match = _GENE.search(embryo)
    return f"{match[1].lower()}-{match[2]}" if match else ""


def relative(movie: Movie, until_frame: float = float("inf")) -> Float32[np.ndarray, " rows"]:
    """Return the reporter clipped at 0 and divided by its 99th percentile in this embryo.

    The divisor is no smaller than the depth of the first percentile below 0, so that an embryo without signal does not
    get its noise blown up.

    Parameters
    ----------
    movie
        One embryo.
    until_frame
        Frames after this are not looked at to find the scale.
    """
    seen = movie.level[movie.frame <= until_frame]
    seen = seen[np.isfinite(seen)]
    if not len(seen):
        return np.full(len(movie), np.nan, dtype=np.float32)
    low, high = np.quantile(seen, [_LOW, _HIGH])
    scale = max(float(high), -float(low))
    if not scale > 0:
        scale = float("inf")
    level: np.ndarray = np.clip(movie.level, 0, None) / np.float32(scale)
    return level.astype(np.float32)


def cell_means(movie: Movie, level: Float32[np.ndarray, " rows"]) -> pd.Series:
    """Return the mean level of each named cell over its life, indexed by cell."""
    rows = pd.DataFrame({"code": movie.code, "level": level})
    mean = rows.groupby("code")["level"].mean()
    mean.index = pd.Index([movie.cells[k] for k in mean.index], dtype=object)
    return mean[[lineage.named(c) for c in mean.index]].dropna()


def assemble(means: Mapping[str, pd.Series], genes: Mapping[str, str]) -> pd.DataFrame:
    """Put the reporters of several embryos together by cell name.

    Parameters
    ----------
    means
        Per embryo, level of each named cell; see `cell_means`.
    genes
        Reporter gene of each embryo. Embryos of one gene are averaged.

    Returns
    -------
    DataFrame
        Cells (with all their ancestors) x genes, float32. A cell that no embryo of a gene shows has the value of its
        mother, never of its daughters; without any ancestor seen, 0.
    """
    columns: dict[str, list[pd.Series]] = {}
    for embryo, mean in means.items():
        columns.setdefault(genes[embryo], []).append(mean)
    found = {
        gene: series[0] if len(series) == 1 else pd.concat(series, axis=1).mean(axis=1)
        for gene, series in sorted(columns.items())
        if any(len(s) for s in series)
    }
    return inherit(pd.DataFrame(found, dtype=np.float32))


def inherit(table: pd.DataFrame) -> pd.DataFrame:
    """Fill each missing value with that of the mother, from the root of the lineage downwards; 0 at the root."""
    every = _with_ancestors(table.index)
    filled = table.reindex(every).to_numpy(dtype=np.float32, copy=True)
    row = {cell: k for k, cell in enumerate(every)}
    for k, cell in enumerate(every):  # mothers stand before their daughters
        missing = np.isnan(filled[k])
        if missing.any():
            above = row.get(lineage.mother(cell))
            filled[k, missing] = 0 if above is None else filled[above, missing]
    return pd.DataFrame(filled, index=pd.Index(every, dtype=object), columns=table.columns)


def _with_ancestors(cells: Iterable[str]) -> list[str]:
    depth: dict[str, int] = {}
    for cell in cells:
        line = [cell, *lineage.ancestors(cell)]
        depth.update({c: len(line) - k for k, c in enumerate(line)})
    return sorted(depth, key=lambda c: (depth[c], c))
