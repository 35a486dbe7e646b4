"""How far a mean over embryos and seeds may be off."""

import numpy as np
from jaxtyping import Float

from embryo.core.table import LEVEL, Interval, student


def crossed_interval(values: Float[np.ndarray, "groups seeds"], *, level: float = LEVEL) -> Interval:
    """Return the mean of scores of groups (embryos) x seeds with its interval, for new groups and new seeds.

    Groups and seeds are random and crossed, as every seed meets every group. The variance of the mean over groups,
    ``var(means of groups) / groups``, and that over seeds, ``var(means of seeds) / seeds``, are added, and Student's t
    makes the interval of the sum, with the degrees of freedom of Satterthwaite (1946, Biometrics Bulletin 2:110). What
    neither groups nor seeds explain is in both parts: counted twice, on the safe side, rather than taken off with an
    estimate that may leave nothing. Without spread over seeds this is the t-interval over groups.

    Parameters
    ----------
    values
        Scores; a group that any seed has no score (NaN) of is left out.
    level
        Coverage.

    Returns
    -------
    Interval
        Ends are NaN with fewer than two groups: seeds alone say nothing about another embryo. With one seed the
        interval is over groups alone.
    """
    known = values[~np.isnan(values).any(axis=1)]
    n = len(known)
    if n < 2:
        return Interval(float(known.mean()) if n else np.nan, np.nan, np.nan, n)
    means = [known.mean(axis=axis) for axis in (1, 0) if known.shape[1 - axis] > 1]
    parts = np.array([part.var(ddof=1) / len(part) for part in means])
    free = np.array([len(part) - 1 for part in means])
    value, variance = float(known.mean()), float(parts.sum())
    df = 1 / float(((parts / variance) ** 2 / free).sum()) if variance > 0 else n - 1
    half = student(level, df) * np.sqrt(variance)
    return Interval(value, value - half, value + half, n)
