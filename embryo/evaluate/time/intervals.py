"""How far a score may be off: Bayesian bootstrap over the cells or embryos of the truth, times seeds, one set of draws.

Every score comes with the influence of each cell of the truth on it, so that a draw of weights moves all scores at once
without computing any of them again, and the difference of two predictions is judged on the very same draws.

Read with care: the draws move a score along its derivative, which says little of scores that are folded at 0 (error of
scale, D2 form) where a prediction is all but right, and few embryos tell little of how embryos differ.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int
from scipy.special import stdtrit

from embryo.core.table import LEVEL, Interval

DRAWS = 1000


@dataclass(frozen=True)
class Sample:
    """A score of each seed, and what each cell of the truth does to it.

    Parameters
    ----------
    values
        One per seed; a single one for what is not random.
    influence
        How the mean over seeds answers to weight on each cell of the truth, mean 0; None where the truth is one number
        that cannot be drawn again.
    random
        Whether seeds differ: one seed of something random has no interval.
    wobble
        What the draws do to the part of a score that is quadratic in the truth's weights; see `Bootstrap.wobble`.
    """

    values: Float[np.ndarray, " seeds"]
    influence: Float[np.ndarray, " cells"] | None
    random: bool = False
    wobble: Float[np.ndarray, " draws"] | None = None

    def minus(self, other: "Sample") -> "Sample":
        """Return the paired difference, seed by seed; what is quadratic in the truth is common and drops out."""
        own, theirs = self.values, other.values
        values = own - theirs if min(len(own), len(theirs)) == 1 or len(own) == len(theirs) else own - theirs.mean()
        known = self.influence is not None and other.influence is not None
        influence = self.influence - other.influence if known else None  # type: ignore[operator]
        return Sample(values, influence, self.random or other.random)


@dataclass(frozen=True)
class Bootstrap:
    """Draws of weights for the cells of the truth, shared by all scores.

    Parameters
    ----------
    deviations
        Of the weights of the cells from ``1 / cells``.
    units
        How many independent units there were: embryos where the truth has several, else cells.
    unit
        Which they were.
    seed
        Of the draws over seeds.
    """

    deviations: Float[np.ndarray, "draws cells"]
    units: int
    unit: str
    seed: int

    @classmethod
    def over(cls, groups: np.ndarray, *, draws: int = DRAWS, seed: int = 0) -> "Bootstrap":
        r"""Draw Dirichlet(1, ..., 1) weights (Rubin 1981, Ann. Stat. 9:130) for embryos, or for cells of the only one.

        Deviations are widened by :math:`\sqrt{(n+1)/(n-1)}`, n units, which makes the variance of a mean over the draws
        the unbiased :math:`s^2/n` instead of :math:`s^2 (n-1)/(n(n+1))`: with three embryos that is half as wide.

        Parameters
        ----------
        groups
            Embryo of every cell.
        draws
            How many.
        seed
            Seed.
        """
        names, member = np.unique(groups.astype(str), return_inverse=True)
        cells, several = len(groups), len(names) > 1
        units = len(names) if several else cells
        deviations = _dirichlet(draws, units, np.random.default_rng(seed))
        if several:  # the weight of an embryo is that of its cells, in the proportion in which it has them
            sizes = np.bincount(member)
            shares = (deviations + 1 / units) * sizes
            shares /= shares.sum(axis=1, keepdims=True)
            deviations = (shares / sizes)[:, member] - 1 / cells
        return cls(deviations, units, "embryos" if several else "cells", seed)

    def wobble(self, within: Float[np.ndarray, "cells cells"]) -> Float[np.ndarray, " draws"]:
        """Return what the draws do to ``-E d(Y, Y')`` beyond its linear part, without the mean, which is bias.

        Parameters
        ----------
        within
            d between the cells of the truth: distances, or the negative of a kernel.
        """
        moved = -np.einsum("dc,dc->d", self.deviations @ within, self.deviations)
        return np.asarray(moved - moved.mean())

    def interval(self, sample: Sample, *, level: float = LEVEL) -> Interval:
        """Return the mean over seeds with its percentile interval, widened for few units by Student's t.

        Variances over units and over seeds add. The degrees of freedom of their sum (Satterthwaite 1946, Biometrics
        Bulletin 2:110) widen the percentiles by the ratio of Student's quantile to the normal one.

        Parameters
        ----------
        sample
            Scores of all seeds.
        level
            Coverage.

        Returns
        -------
        Interval
            Ends are NaN where there is nothing to draw from: no influence, or one seed of something random.
        """
        value, seeds = float(sample.values.mean()), len(sample.values)
        if sample.influence is None or self.units < 2 or (sample.random and seeds < 2) or not np.isfinite(value):
            return Interval(value, np.nan, np.nan, seeds)
        over_units = self.deviations @ sample.influence
        if sample.wobble is not None:
            over_units = over_units + sample.wobble
        parts, free = [over_units], [self.units - 1]
        if seeds > 1:
            rng = np.random.default_rng([self.seed, seeds])
            parts.append(_dirichlet(len(over_units), seeds, rng) @ sample.values)
            free.append(seeds - 1)
        variances = np.array([p.var() for p in parts])
        total = float(variances.sum())
        df = total**2 / float((variances**2 / np.array(free)).sum()) if total > 0 else float(free[0])
        tail = (1 - level) / 2
        wide = float(stdtrit(df, 1 - tail) / stdtrit(1e9, 1 - tail))
        low, high = wide * np.quantile(np.sum(parts, axis=0), [tail, 1 - tail])
        return Interval(value, value + float(low), value + float(high), seeds)


def _dirichlet(draws: int, n: int, rng: np.random.Generator) -> Float[np.ndarray, "draws n"]:
    weights = rng.standard_exponential((draws, n))
    weights /= weights.sum(axis=1, keepdims=True)
    return np.asarray((weights - 1 / n) * np.sqrt((n + 1) / max(n - 1, 1)))


def blocks(groups: np.ndarray, *, parts: int = 20, seed: int = 0) -> tuple[Int[np.ndarray, " cells"], bool]:
    """Return a block for every cell of the truth, for scores without a derivative, and whether blocks are embryos."""
    names, member = np.unique(groups.astype(str), return_inverse=True)
    if len(names) > 1:
        return np.asarray(member, dtype=np.int64), True
    n = min(parts, len(groups))
    return np.random.default_rng(seed).permutation(np.arange(len(groups)) % n).astype(np.int64), False


def jackknife(
    whole: float, left_out: Float[np.ndarray, " blocks"], block: Int[np.ndarray, " cells"], *, embryos: bool
) -> Float[np.ndarray, " cells"]:
    """Return influences from values with one block left out (Tukey's jackknife), for draws over cells or embryos.

    Parameters
    ----------
    whole
        The score with all cells.
    left_out
        The score without each block.
    block
        Of every cell.
    embryos
        Whether blocks are embryos, whose cells are drawn together; else the mean influence of a random block is
        multiplied by the root of its size, which gives draws over single cells the variance of the blocks.
    """
    sizes = np.bincount(block)
    mean = (whole - left_out) * (len(block) - sizes) / sizes
    mean = mean if embryos else mean * np.sqrt(sizes)
    influence = mean[block]
    return np.asarray(influence - influence.mean())
