"""How far a mean over embryos and seeds may be off."""

import numpy as np
from jaxtyping import Float

from embryo.core.table import LEVEL, Interval, student

_DRAWS = 4000


def crossed_interval(values: Float[np.ndarray, "groups seeds"], *, seed: int = 0, level: float = LEVEL) -> Interval:
    """Return the mean of scores of groups (embryos) x seeds with its bootstrap interval.

    Groups and seeds are drawn again with replacement, independently of each other and crossed (the pigeonhole
    bootstrap, Owen 2007, Ann Appl Stat 1:386), as every seed meets every group. The standard error of the draws is
    brought to the size of small samples, ``sqrt(n / (n - 1))`` with n groups, and Student's t with n - 1 degrees of
    freedom makes the interval of it. Without spread over seeds this is the t-interval over groups; percentiles of the
    draws would be far too narrow for a handful of embryos.

    Parameters
    ----------
    values
        Scores; a group that any seed has no score (NaN) of is left out.
    seed
        Seed of the draws.
    level
        Coverage.

    Returns
    -------
    Interval
        Ends are NaN with fewer than two groups: seeds alone say nothing about another embryo.
    """
    known = values[~np.isnan(values).any(axis=1)]
    n, seeds = known.shape
    if n == 0:
        return Interval(np.nan, np.nan, np.nan, 0)
    mean = float(known.mean())
    if n == 1:
        return Interval(mean, np.nan, np.nan, 1)
    rng = np.random.default_rng(seed)
    groups, runs = (rng.multinomial(k, np.full(k, 1 / k), size=_DRAWS) / k for k in (n, seeds))
    error = float(np.std(np.einsum("bg,gs,bs->b", groups, known, runs))) * np.sqrt(n / (n - 1))
    half = student(level, n - 1) * error
    return Interval(mean, mean - half, mean + half, n)
