"""Who is near whom: the k nearest, or all within a radius, of a cloud of points.

A k-d tree (Maneewongvatana & Mount 1999, as in `scipy.spatial.cKDTree`) is built once per call, so that positions may
move between calls; n points cost about n log n. Distances decide, and where two are equal the lower row number does:
the answer depends on nothing but the positions and their order.
"""

from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int
from scipy.spatial import cKDTree
from torch import Tensor

_ROUNDING = 1e-12  # of distances squared in double precision, relative


class Nearest(NamedTuple):
    """The k nearest points of every query.

    Parameters
    ----------
    rows
        Row numbers of the points, the nearest first.
    distance
        In the unit of the positions.
    """

    rows: Int[Tensor, "queries k"]
    distance: Float[Tensor, "queries k"]


def nearest(
    points: Float[Tensor, "points space"], k: int, *, queries: Float[Tensor, "queries space"] | None = None
) -> Nearest:
    """Return the `k` nearest points of every query.

    Parameters
    ----------
    points
        Positions, of any device and precision; finite.
    k
        How many, 1 or more; where there are fewer points, all of them.
    queries
        Places to search from; by default the points themselves, of which none is its own neighbour.

    Returns
    -------
    Nearest
        ``min(k, points available)`` columns, on the device of the points.

    Raises
    ------
    ValueError
        If `k` is below 1 or there is no point to be found.
    """
    x = _array(points)
    q = x if queries is None else _array(queries)
    itself = queries is None
    available = len(x) - itself
    if k < 1 or available < 1:
        msg = f"{k} nearest of {available} points: both must be 1 or more"
        raise ValueError(msg)
    k = min(k, available)
    distance, rows = cKDTree(x).query(q, k=min(k + itself + 1, len(x)), workers=1)
    distance, rows = distance.reshape(len(q), -1), rows.reshape(len(q), -1)
    if itself:
        distance = np.where(rows == np.arange(len(q))[:, None], -1.0, distance)  # itself first, even among equals
    order = np.lexsort((rows, distance), axis=1)
    rows, distance = np.take_along_axis(rows, order, 1), np.take_along_axis(distance, order, 1)
    last = k + itself - 1
    if rows.shape[1] > last + 1:
        tied = distance[:, last + 1] <= distance[:, last] * (1 + _ROUNDING)
        _untie(x, q, np.flatnonzero(tied), rows, distance, itself=itself)
    kept = slice(int(itself), last + 1)
    return Nearest(
        torch.as_tensor(rows[:, kept].astype(np.int64), device=points.device),
        torch.as_tensor(distance[:, kept], dtype=points.dtype, device=points.device),
    )


def within(points: Float[Tensor, "points space"], radius: float) -> Int[Tensor, "2 pairs"]:
    """Return all ordered pairs (i, j), i not j, that are at most `radius` apart, sorted by i, then j.

    Parameters
    ----------
    points
        Positions, of any device and precision; finite.
    radius
        In their unit.

    Returns
    -------
    Int[Tensor, "2 pairs"]
        Every pair stands there both ways; on the device of the points.
    """
    pairs = cKDTree(_array(points)).query_pairs(radius, output_type="ndarray").astype(np.int64)
    both = np.concatenate([pairs, pairs[:, ::-1]])
    both = both[np.lexsort((both[:, 1], both[:, 0]))]
    return torch.as_tensor(np.ascontiguousarray(both.T), device=points.device)


def _array(x: Tensor) -> np.ndarray:
    return x.detach().to("cpu", torch.float64).numpy()


def _untie(
    x: np.ndarray, q: np.ndarray, tied: np.ndarray, rows: np.ndarray, distance: np.ndarray, *, itself: bool
) -> None:
    """Search again, in place, where the last neighbour is as far as the first that was left out."""
    if not len(tied):
        return
    width = rows.shape[1]
    reach = distance[tied, -1] * (1 + _ROUNDING)
    for i, ball in zip(tied, cKDTree(x).query_ball_point(q[tied], reach), strict=True):
        found = np.asarray(ball)
        far = np.sqrt(((x[found] - q[i]) ** 2).sum(axis=1))
        far = np.round(far / max(reach.max(), np.finfo(float).tiny), 11) * reach.max()
        if itself:
            far[found == i] = -1.0
        first = np.lexsort((found, far))[:width]
        rows[i], distance[i] = found[first], far[first]
