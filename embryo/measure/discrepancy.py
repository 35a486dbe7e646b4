"""Unbiased discrepancies of two samples from their matrices of distances or kernels: energy distance and MMD."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

_BANDS = 5  # kernels: widths that rise by sqrt(2), the third being the median distance


@dataclass(frozen=True)
class Discrepancy:
    """How far two samples are apart.

    Parameters
    ----------
    value
        The discrepancy.
    influence
        Of every cell of the second sample: how the value answers, to first order, when weight is moved to it.
    """

    value: float
    influence: Float[np.ndarray, " cells_b"]


def discrepancy(
    across: Float[np.ndarray, "cells_a cells_b"],
    within_a: Float[np.ndarray, "cells_a cells_a"],
    within_b: Float[np.ndarray, "cells_b cells_b"],
    mass_a: Float[np.ndarray, " cells_a"],
    mass_b: Float[np.ndarray, " cells_b"],
) -> Discrepancy:
    r"""Return :math:`2 E d(X, Y) - E d(X, X') - E d(Y, Y')` from the matrices of d, as weighted U-statistics.

    With distances this is the energy distance (as `embryo.measure.energy_distance`, which needs no matrices), with the
    negative of a positive kernel it is the squared MMD (Sejdinovic et al. 2013, Ann. Stat. 41:2263). Terms of a
    particle with itself are left out.

    Parameters
    ----------
    across, within_a, within_b
        Values of d; symmetric within a sample.
    mass_a, mass_b
        Cells per particle: only their ratios matter.

    Returns
    -------
    Discrepancy
        0 in expectation for two samples of one law; may be negative.
    """
    a, b = mass_a / mass_a.sum(), mass_b / mass_b.sum()
    to_a, to_b = a @ across, within_b @ b - b * np.diagonal(within_b)
    pairs = max(1 - float(b @ b), np.finfo(float).tiny)
    inner_b = float(b @ to_b) / pairs
    value = 2 * float(to_a @ b) - u_mean(within_a, a) - inner_b
    influence = 2 * (to_a - to_b / pairs)
    return Discrepancy(value, influence - float(b @ influence))


def u_mean(within: Float[np.ndarray, "cells cells"], mass: Float[np.ndarray, " cells"]) -> float:
    """Return the weighted mean of a symmetric matrix over pairs of different particles; NaN for one particle."""
    w = mass / mass.sum()
    pairs = 1 - float(w @ w)
    if pairs < 1e-9:
        return float("nan")
    return float(w @ within @ w - (w * w) @ np.diagonal(within)) / pairs


def median_square(squares: Float[np.ndarray, "cells cells"]) -> float:
    """Return the median of the squared distances above 0: the middle bandwidth of `kernels`; 1 where none is."""
    above = squares[squares > 0]
    return float(np.median(above)) if len(above) else 1.0


def kernels(squares: Float[np.ndarray, "rows columns"], median: float) -> Float[np.ndarray, "rows columns"]:
    r"""Return the mean of five Gaussian kernels, :math:`\exp(-s |x - y|^2 / m)`, s = 1/4, 1/2, 1, 2, 4.

    Parameters
    ----------
    squares
        Squared distances.
    median
        m, the `median_square` of the truth alone, so that no prediction chooses the scale it is judged on.
    """
    kernel = np.exp(-squares / (4 * median))
    total = kernel.copy()
    for _ in range(_BANDS - 1):
        np.square(kernel, out=kernel)
        total += kernel
    return np.asarray(total / _BANDS)


def thin(
    mass: Float[np.ndarray, " cells"], most: int, *, seed: int = 0
) -> tuple[Int[np.ndarray, " kept"], Float[np.ndarray, " kept"]]:
    """Draw at most so many particles in proportion to mass, by systematic sampling of a shuffled list.

    Systematic sampling takes a particle of mass m either floor or ceil of ``m most / total`` times, and keeps it once
    with that multiple as its mass; so the draw is as even as can be.

    Parameters
    ----------
    mass
        Cells per particle; those of 0 are never kept.
    most
        No more particles than this; a smaller cloud is kept as it is.
    seed
        Seed of the order.

    Returns
    -------
    rows, masses
        Rising rows; the masses sum to the old total.
    """
    alive = np.flatnonzero(mass > 0)
    if len(alive) <= most:
        return alive, np.asarray(mass[alive], dtype=float)
    rng = np.random.default_rng(seed)
    order = rng.permutation(alive)
    edges = np.cumsum(mass[order], dtype=float)
    ticks = (np.arange(most) + rng.random()) * edges[-1] / most
    times = np.bincount(np.searchsorted(edges, ticks, side="right").clip(max=len(order) - 1), minlength=len(order))
    kept = np.flatnonzero(times)
    kept = kept[np.argsort(order[kept])]
    return order[kept], times[kept] * edges[-1] / most
