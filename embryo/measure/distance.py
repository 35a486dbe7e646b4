"""How far apart two clouds of cells are: energy distance, chamfer distance, shared room."""

import numpy as np
from jaxtyping import Float
from scipy.spatial import cKDTree
from scipy.spatial.distance import cdist

from embryo.core.errors import Problem, SchemaError
from embryo.measure.arrays import cloud

_BLOCK = 512  # rows of the distance matrix held at once
_LEAST_PAIRS = 1e-9  # below this share of mass in pairs of different particles, one particle carries everything


def energy_distance(
    a: Float[np.ndarray, "cells_a dims"],
    b: Float[np.ndarray, "cells_b dims"],
    mass_a: Float[np.ndarray, " cells_a"] | None = None,
    mass_b: Float[np.ndarray, " cells_b"] | None = None,
    *,
    paired: bool = False,
    max_cells: int = 3000,
    seed: int = 0,
) -> float:
    r"""Unbiased energy distance, :math:`2E|X-Y| - E|X-X'| - E|Y-Y'|`, in the unit of the points.

    0 in expectation when both clouds are samples of one law, so the floor is 0 at every sample size, and single
    values may be negative. Unlike the Wasserstein distance between samples it is not lowered by smoothing the
    prediction. The square of `scipy.stats.energy_distance` is the biased (V-statistic) form in one dimension.

    Each mean is the weighted U-statistic

    .. math:: \hat E|X-X'| = \sum_{i \ne j} w_i w_j |x_i - x_j| / (W^2 - \sum_i w_i^2), \quad W = \sum_i w_i,

    unbiased for fixed weights because the particles, not the cells they stand for, are the independent draws. Hence
    only ratios of masses matter, and splitting a particle in two is *not* neutral: it would claim one more draw.

    Parameters
    ----------
    a, b
        Points, one row per particle.
    mass_a, mass_b
        How many cells each particle stands for; 1 each where None. Particles without mass are left out.
    paired
        Whether the i-th rows of both are the same cell (control and edit). Then the i = j terms are left out of the
        cross mean too, as in Gretton et al. 2012, Lemma 6, because the two clouds are not independent; two equal
        clouds give exactly 0.
    max_cells
        Larger clouds are subsampled uniformly to this many particles: more noise, no bias. Below it the value does
        not depend on the order of the cells.
    seed
        Seed of the subsample.

    Returns
    -------
    float
        The distance; NaN where a cloud has fewer than two particles, as nothing within it can be estimated.

    Raises
    ------
    SchemaError
        If a cloud is empty, holds numbers that are not finite, or paired clouds differ in length.

    References
    ----------
    Székely & Rizzo 2013, Energy statistics, J. Stat. Plan. Inference 143:1249 (the distance).
    Sejdinovic et al. 2013, Ann. Stat. 41:2263 (energy distance is an MMD). Gretton et al. 2012, JMLR 13:723.
    """
    a, mass_a = cloud(a, mass_a, "energy distance, first cloud")
    b, mass_b = cloud(b, mass_b, "energy distance, second cloud")
    rng = np.random.default_rng(seed)
    if paired:
        _require_equal_length(a, b)
        chosen_a = chosen_b = _sample(mass_a + mass_b, max_cells, rng)
    else:
        chosen_a, chosen_b = _sample(mass_a, max_cells, rng), _sample(mass_b, max_cells, rng)
    a, b, mass_a, mass_b = a[chosen_a], b[chosen_b], mass_a[chosen_a], mass_b[chosen_b]
    across = _mean_distance(a, mass_a, b, mass_b, different=paired)
    within_a = _mean_distance(a, mass_a, a, mass_a, different=True)
    within_b = _mean_distance(b, mass_b, b, mass_b, different=True)
    return 2 * across - within_a - within_b


def _require_equal_length(a: np.ndarray, b: np.ndarray) -> None:
    if len(a) != len(b):
        raise SchemaError(
            Problem(f"{len(a)} and {len(b)} cells", "the same cells in both", "compare them with paired=False"),
            subject="paired energy distance",
        )


def _sample(mass: np.ndarray, max_cells: int, rng: np.random.Generator) -> np.ndarray:
    alive = np.flatnonzero(mass > 0)
    if len(alive) <= max_cells:
        return alive
    return np.sort(rng.choice(alive, max_cells, replace=False))


def _mean_distance(a: np.ndarray, u: np.ndarray, b: np.ndarray, v: np.ndarray, *, different: bool) -> float:
    """Weighted mean distance between rows of a and b; without the i = j terms where `different`."""
    if not (u.sum() > 0 and v.sum() > 0):
        return float("nan")
    u, v = u / u.sum(), v / v.sum()
    pairs = 1 - float(u @ v) if different else 1.0
    if pairs < _LEAST_PAIRS:
        return float("nan")
    total = 0.0
    for start in range(0, len(a), _BLOCK):
        block = cdist(a[start : start + _BLOCK], b)
        if different:
            rows = np.arange(len(block))
            block[rows, start + rows] = 0
        total += float(u[start : start + _BLOCK] @ block @ v)
    return total / pairs


def chamfer_um(
    a: Float[np.ndarray, "cells_a space"],
    b: Float[np.ndarray, "cells_b space"],
    mass_a: Float[np.ndarray, " cells_a"] | None = None,
    mass_b: Float[np.ndarray, " cells_b"] | None = None,
) -> float:
    """Symmetric chamfer distance in µm: the mean distance to the nearest cell of the other cloud, both ways averaged.

    Parameters
    ----------
    a, b
        Positions in one frame, µm.
    mass_a, mass_b
        Weights of the means; 1 each where None.

    Raises
    ------
    SchemaError
        If a cloud is empty or holds numbers that are not finite.
    """
    a, mass_a = cloud(a, mass_a, "chamfer distance, first cloud")
    b, mass_b = cloud(b, mass_b, "chamfer distance, second cloud")
    there = np.average(cKDTree(b[mass_b > 0]).query(a)[0], weights=mass_a)
    back = np.average(cKDTree(a[mass_a > 0]).query(b)[0], weights=mass_b)
    return float(there + back) / 2


def occupancy_overlap(
    a: Float[np.ndarray, "cells_a space"], b: Float[np.ndarray, "cells_b space"], bin_um: float
) -> float:
    """Dice overlap of the room that two embryos take, ``2 |A and B| / (|A| + |B|)`` on a grid of the common frame.

    A grid box is taken where it holds at least one cell: this compares forms, not densities. The grid is fixed to
    the frame's origin, so both embryos must stand in one frame.

    Parameters
    ----------
    a, b
        Positions in one frame, µm.
    bin_um
        Edge of a grid box, µm; about twice the cell spacing keeps boxes inside a tissue from being empty by chance.

    Returns
    -------
    float
        1 for the same boxes, 0 for none shared.

    Raises
    ------
    SchemaError
        If a cloud is empty or holds numbers that are not finite, or `bin_um` is not above 0.
    """
    if not bin_um > 0:
        raise SchemaError(Problem(f"bin_um = {bin_um}", "an edge above 0 µm", "give a box size"), subject="occupancy")
    boxes_a = _boxes(cloud(a, None, "occupancy, first cloud")[0], bin_um)
    boxes_b = _boxes(cloud(b, None, "occupancy, second cloud")[0], bin_um)
    return 2 * len(boxes_a & boxes_b) / (len(boxes_a) + len(boxes_b))


def _boxes(x: np.ndarray, bin_um: float) -> set[tuple[int, ...]]:
    return set(map(tuple, np.floor(x / bin_um).astype(np.int64).tolist()))
