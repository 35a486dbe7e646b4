"""How far a score over edits may be off: draws over edits, over the embryos of the truth, and over seeds.

The unit is the edit (its locus), not the cell: a score is the mean (or median) over edits. One set of draws serves all
predictors, so that the difference of two is judged on the very same draws.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int
from scipy.special import stdtrit

from embryo.core.table import LEVEL, Interval

DRAWS = 400


@dataclass(frozen=True, eq=False)
class Sampled:
    """Scores of one predictor in one metric.

    Parameters
    ----------
    values
        Of every edit and seed; NaN where there is none.
    moved
        What draws of the truth's embryos do to the score of each edit.
    embryos
        How many embryos carry each edit.
    """

    values: Float[np.ndarray, "edits seeds"]
    moved: Float[np.ndarray, "draws edits"]
    embryos: Int[np.ndarray, " edits"]

    def minus(self, other: "Sampled") -> "Sampled":
        """Return the paired difference; where one has a single seed it is held against all seeds of the other."""
        a, b = self.values, other.values
        values = a - b if a.shape == b.shape or 1 in (a.shape[1], b.shape[1]) else a - b.mean(axis=1, keepdims=True)
        return Sampled(values, self.moved - other.moved, self.embryos)

    def only(self, edits: Int[np.ndarray, " chosen"]) -> "Sampled":
        """Return some of the edits."""
        return Sampled(self.values[edits], self.moved[:, edits], self.embryos[edits])

    @property
    def known(self) -> "Sampled":
        """Return the edits that have a score with every seed."""
        return self.only(np.flatnonzero(np.isfinite(self.values).all(axis=1)))


def embryo_weights(n: int, seed: list[int], draws: int = DRAWS) -> Float[np.ndarray, "rows n"]:
    """Return weights of n embryos: equal in the first row, then Dirichlet(1, ..., 1) (Rubin 1981, Ann. Stat. 9:130)."""
    drawn = np.random.default_rng(seed).standard_exponential((draws, n))
    return np.vstack([np.full(n, 1 / n), drawn / drawn.sum(axis=1, keepdims=True)])


def moved(scores: Float[np.ndarray, " rows"], embryos: int) -> Float[np.ndarray, " draws"]:
    """Return the draws' departures from their own mean, widened so that the variance of a mean is unbiased.

    Drawn embryos differ more from any prediction than their plain mean does: that part is bias, and left out.
    """
    if embryos < 2:
        return np.zeros(len(scores) - 1)
    return np.asarray((scores[1:] - scores[1:].mean()) * np.sqrt((embryos + 1) / (embryos - 1)))


def edit_weights(n: int, seed: int, draws: int) -> Float[np.ndarray, "draws n"]:
    """Return how often each of n edits is drawn, n draws with replacement."""
    return np.random.default_rng([seed, n]).multinomial(n, np.full(n, 1 / n), size=draws).astype(float)


def interval(sampled: Sampled, *, median: bool = False, seed: int = 0, level: float = LEVEL) -> Interval:
    """Return the mean (or median) over edits with its percentile interval, widened by Student's t for few of them.

    Edits are drawn with replacement, the embryos of each edit by weights, seeds with replacement. With a single edit
    the interval is over the embryos that carry it: ends are NaN where that is one embryo.
    """
    s = sampled.known
    edits, seeds = s.values.shape
    if not edits:
        return Interval(np.nan, np.nan, np.nan, 0)
    centre = np.median if median else np.mean
    per_edit = s.values.mean(axis=1)
    value = float(centre(per_edit))
    units = edits if edits > 1 else int(s.embryos[0])
    if units < 2:
        return Interval(value, np.nan, np.nan, seeds)
    draws = len(s.moved)
    rng = np.random.default_rng([seed, edits, seeds])
    chosen = rng.integers(edits, size=(draws, edits))
    drawn = np.take_along_axis(per_edit + s.moved, chosen, axis=1)
    off = np.asarray(centre(drawn, axis=1)) - value
    if edits > 1:
        off = off * np.sqrt(edits / (edits - 1))
    if seeds > 1:
        over = s.values.mean(axis=0)[rng.integers(seeds, size=(draws, seeds))].mean(axis=1)
        off = off + (over - s.values.mean()) * np.sqrt(seeds / (seeds - 1))
    return widened(value, off, units, seeds, level=level)


def widened(value: float, off: Float[np.ndarray, " draws"], units: int, n: int, *, level: float = LEVEL) -> Interval:
    """Return the percentile interval of departures `off`, widened by Student's t with ``units - 1`` degrees."""
    tail = (1 - level) / 2
    wide = float(stdtrit(units - 1, 1 - tail) / stdtrit(1e9, 1 - tail))
    known = off[np.isfinite(off)]
    if len(known) < 2 or not np.isfinite(value):
        return Interval(value, np.nan, np.nan, n)
    low, high = wide * np.quantile(known, [tail, 1 - tail])
    return Interval(value, value + float(low), value + float(high), n)
