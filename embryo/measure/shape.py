"""How big an embryo is, which form it has, and which hand."""

from collections.abc import Sequence
from itertools import combinations
from math import gamma, pi

import numpy as np
import pandas as pd
from jaxtyping import Float, Shaped
from scipy.spatial import cKDTree

from embryo.core.errors import Problem, SchemaError
from embryo.core.state import State
from embryo.measure.arrays import arrays, cloud

_LANDMARKS = 6  # commonest labels, of which a set of landmarks is chosen
_HALF = 1e-9  # rounding of a share of one half

SIZE_UNITS = {
    "cells": "cells",
    "radius_um": "µm",
    "axis_1_um": "µm",
    "axis_2_um": "µm",
    "axis_3_um": "µm",
    "aspect_ratio": "1",
    "volume_um3": "µm³",
    "area_um2": "µm²",
    "spacing_um": "µm",
}


def size(state: State) -> pd.Series:
    """Size and form of an embryo, weighted by mass; none of it depends on the pose.

    Parameters
    ----------
    state
        One moment of the embryo; x in µm, in 3 or 2 dimensions, or without space.

    Returns
    -------
    pd.Series
        Indexed by quantity, units in `SIZE_UNITS`:

        ``cells``
            Total mass.
        ``radius_um``
            Radius of gyration, root mean squared distance to the centroid.
        ``axis_1_um``, ``axis_2_um``, ``axis_3_um``
            Full lengths, longest first, of the uniform ellipsoid with the same weighted covariance:
            ``2 sqrt((d + 2) lambda)`` for eigenvalue lambda in d dimensions, as a uniform ellipsoid of half-axis a has
            variance ``a² / (d + 2)`` along it.
        ``aspect_ratio``
            Longest over shortest axis; infinite for a flat cloud, NaN where no more particles than dimensions leave no
            choice but to be flat.
        ``volume_um3`` (``area_um2`` in 2 dimensions)
            Of that ellipsoid.
        ``spacing_um``
            Median distance to the nearest particle, in cell units: divided by ``m^(1/d)``, m being the mean mass of
            the two, because a particle of m cells takes the room of m. NaN for one particle.

        Without space only ``cells``.

    Raises
    ------
    SchemaError
        If positions are not finite, or no cell has mass.
    """
    _, x, mass = arrays(state)
    x, mass = cloud(x, mass, "size")
    x, mass = x[mass > 0], mass[mass > 0]
    dims = x.shape[1]
    result = {"cells": float(mass.sum())}
    if dims == 0:
        return pd.Series(result, name="size")
    centred = x - np.average(x, axis=0, weights=mass)
    covariance = (centred * mass[:, None]).T @ centred / mass.sum()
    variances = np.clip(np.linalg.eigvalsh(covariance)[::-1], 0, None)
    axes = 2 * np.sqrt((dims + 2) * variances)
    result["radius_um"] = float(np.sqrt(variances.sum()))
    result |= {f"axis_{k}_um": float(axis) for k, axis in enumerate(axes, 1)}
    with np.errstate(divide="ignore", invalid="ignore"):
        result["aspect_ratio"] = float(axes[0] / axes[-1]) if len(x) > dims else float("nan")
    room = pi ** (dims / 2) / gamma(dims / 2 + 1) * float(np.prod(axes / 2))
    result |= {2: {"area_um2": room}, 3: {"volume_um3": room}}.get(dims, {})
    result["spacing_um"] = _spacing_um(x, mass)
    return pd.Series(result, name="size")


def _spacing_um(x: np.ndarray, mass: np.ndarray) -> float:
    if len(x) < 2:
        return float("nan")
    distance, index = cKDTree(x).query(x, k=2)
    own = np.arange(len(x))
    nearest = np.where(index[:, 1] == own, index[:, 0], index[:, 1])  # of coinciding points either may come first
    spacing = distance[:, 1] / ((mass + mass[nearest]) / 2) ** (1 / x.shape[1])
    order = np.argsort(spacing)
    below = np.cumsum(mass[order])
    k = int(np.searchsorted(below, below[-1] / 2))
    return float(spacing[order][k])


def laterality(
    x: Float[np.ndarray, "cells space"],
    labels: Shaped[np.ndarray, " cells"],
    landmarks: Sequence[str],
    mass: Float[np.ndarray, " cells"] | None = None,
) -> float:
    r"""Handedness of an embryo: the signed volume spanned by the directions from its centroid to its landmarks.

    :math:`\det[\hat u_1, ..., \hat u_d]`, :math:`\hat u_k` the unit vector from the centroid of all cells to that of
    the cells labelled with the k-th landmark (three landmarks in 3D, two in 2D). Mirroring the embryo changes its
    sign and nothing else; moving, turning or scaling it changes nothing; swapping two landmarks changes the sign.

    Parameters
    ----------
    x
        Positions, µm, in any right-handed frame.
    labels
        Label or name of each cell.
    landmarks
        As many labels as there are dimensions, in a fixed order.
    mass
        Cells per particle; 1 each where None.

    Returns
    -------
    float
        From -1 to 1; 0 for landmarks in a plane with the centroid; NaN where a landmark has no cells left.

    Raises
    ------
    SchemaError
        If the number of landmarks is not that of dimensions, or positions are not finite.
    """
    x, weights = cloud(x, mass, "laterality")
    if len(landmarks) != x.shape[1]:
        raise SchemaError(
            Problem(
                f"{len(landmarks)} landmarks {list(landmarks)}", f"{x.shape[1]}, one per dimension", "name as many"
            ),
            subject="laterality",
        )
    centre = np.average(x, axis=0, weights=weights)
    chosen = [(labels == landmark) & (weights > 0) for landmark in landmarks]
    if not all(mask.any() for mask in chosen):
        return float("nan")
    arms = np.array([np.average(x[mask], axis=0, weights=weights[mask]) - centre for mask in chosen])
    lengths = np.linalg.norm(arms, axis=1, keepdims=True)
    return float(np.linalg.det(arms / lengths)) if (lengths > 0).all() else 0.0


def landmarks(x: Float[np.ndarray, "cells space"], labels: Shaped[np.ndarray, " cells"]) -> tuple[str, ...]:
    """Return the common labels whose centres tell an embryo from its mirror image best; none where too few are named.

    Parameters
    ----------
    x
        Positions, µm, in any right-handed frame.
    labels
        Label of each cell; empty for none.

    Returns
    -------
    tuple[str, ...]
        One per dimension, of the largest `laterality` in size, among the 6 labels that most cells have.
    """
    names, counts = np.unique(labels[labels != ""], return_counts=True)
    common = [str(n) for n in names[np.argsort(-counts, kind="stable")][:_LANDMARKS]]
    sets = list(combinations(common, x.shape[1]))
    return max(sets, key=lambda c: abs(laterality(x, labels, c)), default=())


def sides(
    along: Float[np.ndarray, " cells"], labels: Shaped[np.ndarray, " cells"], mass: Float[np.ndarray, " cells"]
) -> dict[str, float]:
    """Return on which side of the middle each label lies: its share of mass beyond it less that before it.

    The middle is the mean of the lower and the upper median of all mass, so that the embryo as a whole lies on neither
    side and a mirrored one has all signs turned.

    Parameters
    ----------
    along
        Places on the axis from left to right, in a frame that tells these apart.
    labels
        Label of each cell.
    mass
        Cells per particle; those without any count for nothing.

    Returns
    -------
    dict[str, float]
        By label, from -1 (all of it before the middle) to 1 (all beyond it).
    """
    order = np.argsort(along, kind="stable")
    share = np.cumsum(mass[order]) / mass.sum()
    ends = (np.searchsorted(share, 0.5 + side * _HALF) for side in (-1, 1))
    middle = np.mean([along[order][min(int(k), len(order) - 1)] for k in ends])
    side = np.sign(along - middle) * mass
    chosen = {str(name): labels == name for name in np.unique(labels[mass > 0])}
    return {name: float(side[rows].sum() / mass[rows].sum()) for name, rows in chosen.items()}
