"""The form of a cloud whatever its pose, and which hand it has: what a mirror or a wrong shape cannot pass."""

import itertools

import numpy as np
from jaxtyping import Float
from scipy.spatial.distance import cdist

from embryo.measure.arrays import cloud
from embryo.measure.discrepancy import Discrepancy

_HALF_WIDTH = 3.0  # of the grid, in RMS radii


def scale_log_ratio(
    a: Float[np.ndarray, "cells_a space"],
    b: Float[np.ndarray, "cells_b space"],
    mass_a: Float[np.ndarray, " cells_a"] | None = None,
    mass_b: Float[np.ndarray, " cells_b"] | None = None,
) -> float:
    """Return the log of the ratio of RMS radii, a over b: above 0 where a is larger; NaN for a point.

    Raises
    ------
    SchemaError
        If a cloud is empty or holds numbers that are not finite.
    """
    radii = [_centred(*cloud(x, m, "scale"))[1] for x, m in ((a, mass_a), (b, mass_b))]
    return float(np.log(radii[0] / radii[1])) if min(radii) > 0 else float("nan")


def d2_shape(
    a: Float[np.ndarray, "cells_a space"],
    b: Float[np.ndarray, "cells_b space"],
    mass_a: Float[np.ndarray, " cells_a"] | None = None,
    mass_b: Float[np.ndarray, " cells_b"] | None = None,
    *,
    pairs: int = 100_000,
    seed: int = 0,
    paired: bool = False,
) -> Discrepancy:
    """Wasserstein distance between distances of random pairs of cells, each in RMS radii: the D2 descriptor of form.

    Blind to pose, scale and mirror; not unbiased: two samples of one form are above 0.

    Parameters
    ----------
    a, b
        Positions, each in any frame and unit.
    mass_a, mass_b
        Cells per particle; 1 each where None.
    pairs
        How many pairs are drawn in proportion to mass; those of a particle with itself are left out.
    seed
        Seed of the draw.
    paired
        Draw the same pairs from both: of the same cells, what is left is their change alone, 0 where nothing moved.

    Returns
    -------
    Discrepancy
        In RMS radii; NaN where a cloud is a single cell, which has no pairs.

    Raises
    ------
    SchemaError
        If a cloud is empty or holds numbers that are not finite.

    References
    ----------
    Osada et al. 2002, Shape distributions, ACM Trans. Graph. 21:807.
    """
    a, mass_a = cloud(a, mass_a, "form, first cloud")
    b, mass_b = cloud(b, mass_b, "form, second cloud")
    theirs = np.sort(_pairs(a, mass_a, pairs, seed)[0])
    distances, i, j = _pairs(b, mass_b, pairs, seed if paired else seed + 1)
    if not len(theirs) or not len(distances):
        return Discrepancy(float("nan"), np.zeros(len(b)))
    order = np.argsort(distances)
    grid = np.sort(np.concatenate([theirs, distances]))
    steps = np.diff(grid, append=grid[-1])
    below, below_b = (np.searchsorted(v, grid, side="right") / max(len(v), 1) for v in (theirs, distances[order]))
    value = float(np.abs(below - below_b) @ steps)
    sign = np.sign(below - below_b)
    to_the_right = np.cumsum((sign * steps)[::-1])[::-1]  # a pair at d adds to the second CDF at all t >= d
    at = np.searchsorted(grid, distances)
    by_pair = -to_the_right[at]
    count = np.maximum(np.bincount(i, minlength=len(b)) + np.bincount(j, minlength=len(b)), 1)
    total = sum(np.bincount(k, weights=by_pair - by_pair.mean(), minlength=len(b)) for k in (i, j))
    centred, radius = _centred(b, mass_b)
    of_radius = ((centred**2).sum(axis=1) / (radius**2 or 1.0) - 1) / 2
    influence = 2 * total / count - float((sign[at] * distances).mean()) * of_radius
    return Discrepancy(value, influence - float(mass_b @ influence) / float(mass_b.sum()))


def _pairs(x: np.ndarray, mass: np.ndarray, pairs: int, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return distances of random pairs of different particles in RMS radii, and who they are."""
    i, j = np.random.default_rng(seed).choice(len(x), (2, pairs), p=mass / mass.sum())
    i, j = i[i != j], j[i != j]
    return np.linalg.norm(x[i] - x[j], axis=1) / (_centred(x, mass)[1] or 1.0), i, j


def form_overlap(
    a: Float[np.ndarray, "cells_a space"], b: Float[np.ndarray, "cells_b space"], *, boxes: int = 16
) -> float:
    """Dice overlap of the room that two clouds take, each on its principal axes and in units of its RMS radius.

    Principal axes have no sign: the best of the sign changes that are rotations is taken, never of those that mirror.
    Give clouds of equal numbers of cells: a denser one takes more boxes.

    Parameters
    ----------
    a, b
        Positions, any pose and scale.
    boxes
        Per axis, on a grid over three RMS radii to either side.

    Returns
    -------
    float
        1 for the same boxes, 0 for none shared.

    Raises
    ------
    SchemaError
        If a cloud is empty or holds numbers that are not finite.
    """
    on_a, on_b = (_on_axes(*cloud(x, None, "form overlap")) for x in (a, b))
    taken = _boxes(on_b, boxes)
    found = [_boxes(on_a * flip, boxes) for flip in flips(a.shape[1], proper=True)]
    return max(2 * len(taken & one) / (len(taken) + len(one)) for one in found)


def flips(dims: int, *, proper: bool) -> list[Float[np.ndarray, " space"]]:
    """Return the sign changes of axes that are rotations (determinant 1), or those that mirror (-1)."""
    signs = [np.array(s, dtype=float) for s in itertools.product((1, -1), repeat=dims)]
    return [s for s in signs if (s.prod() > 0) == proper]


def handedness_margin(
    z_a: Float[np.ndarray, "cells_a dims"],
    x_a: Float[np.ndarray, "cells_a space"],
    z_b: Float[np.ndarray, "cells_b dims"],
    x_b: Float[np.ndarray, "cells_b space"],
    mass_a: Float[np.ndarray, " cells_a"],
    mass_b: Float[np.ndarray, " cells_b"],
) -> float:
    """Return by how much a mirrored prediction would be further from the truth than the prediction as it stands.

    Half turns about, and mirrors across, the truth's principal axes are tried on the prediction in joint space; the
    margin is the energy distance of the best mirror image less that of the best rotation. Above 0: the hand of the
    truth. Near 0: the truth itself looks like its mirror image, or the prediction says nothing. Below 0: mirrored.

    Parameters
    ----------
    z_a, x_a, mass_a
        Prediction: states and positions in units in which they are comparable, cells per particle.
    z_b, x_b, mass_b
        Truth, in the same frame and units.
    """
    a, b = mass_a / mass_a.sum(), mass_b / mass_b.sum()
    axes = np.linalg.svd(x_b - b @ x_b, full_matrices=False)[2]
    on_a, on_b = ((x - w @ x) @ axes.T for x, w in ((x_a, a), (x_b, b)))
    states = cdist(z_a, z_b, "sqeuclidean")

    def apart(flip: Float[np.ndarray, " space"]) -> float:  # what stays the same under a flip drops out of the margin
        return float(2 * a @ np.sqrt(states + cdist(on_a * flip, on_b, "sqeuclidean")) @ b)

    mirrored, turned = (min(map(apart, flips(x_a.shape[1], proper=p))) for p in (False, True))
    return mirrored - turned


def _centred(x: np.ndarray, mass: np.ndarray) -> tuple[np.ndarray, float]:
    """Return centred positions and the RMS radius."""
    w = mass / mass.sum()
    x = x - w @ x
    return x, float(np.sqrt(w @ (x**2).sum(axis=1)))


def _on_axes(x: np.ndarray, mass: np.ndarray) -> np.ndarray:
    """Return positions on their principal axes, of right-handed order, in RMS radii."""
    x, radius = _centred(x, mass)
    axes = np.linalg.svd(x, full_matrices=len(x) < x.shape[1])[2]  # few cells span few axes: the others complete them
    if np.linalg.det(axes) < 0:
        axes[-1] *= -1
    return np.asarray(x @ axes.T / (radius or 1.0))


def _boxes(x: np.ndarray, boxes: int) -> set[tuple[int, ...]]:
    inside = np.clip(x, -_HALF_WIDTH, _HALF_WIDTH - 1e-9)
    return set(map(tuple, np.floor((inside + _HALF_WIDTH) / (2 * _HALF_WIDTH) * boxes).astype(np.int64).tolist()))
