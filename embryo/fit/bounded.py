"""Least squares within bounds from moments: what is kept of many rows, and the strengths that explain them best."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from scipy.linalg import cholesky, solve_triangular
from scipy.optimize import lsq_linear

_RIDGE, _SETTLED = 1e-6, 1e-9


@dataclass(frozen=True, eq=False)
class Moments:
    """``X'X``, ``X'v`` and ``v'v`` of some scenes."""

    square: Float[np.ndarray, "columns columns"]
    cross: Float[np.ndarray, " columns"]
    power: float

    @classmethod
    def of(cls, rows: Float[np.ndarray, "rows columns"], wanted: Float[np.ndarray, " rows"]) -> "Moments":
        """Return the moments of rows and what they are to explain."""
        return cls(rows.T @ rows, rows.T @ wanted, float(wanted @ wanted))

    def __add__(self, other: "Moments") -> "Moments":
        return Moments(self.square + other.square, self.cross + other.cross, self.power + other.power)

    def error(self, beta: Float[np.ndarray, " columns"]) -> float:
        """Return the share of the power of velocities that `beta` leaves unexplained; 1 for no movement."""
        left = beta @ self.square @ beta - 2 * beta @ self.cross + self.power
        return float(left / max(self.power, np.finfo(float).tiny))


def sum_of(parts: Iterable[Moments]) -> Moments:
    """Add moments."""
    first, *others = parts
    for other in others:
        first = first + other
    return first


def signed(
    moments: Moments, penalty: np.ndarray, bounds: tuple[np.ndarray, np.ndarray]
) -> Float[np.ndarray, " columns"]:
    """Lasso where some columns may have either sign: the sign of each is that of its fit without a penalty."""
    free = bounded(moments, 0 * penalty, bounds)
    either = (bounds[0] < 0) & (penalty > 0)
    low = np.where(either & (free >= 0), 0.0, bounds[0])
    high = np.where(either & (free < 0), 0.0, bounds[1])
    return bounded(moments, np.where(either & (free < 0), -penalty, penalty), (low, high))


def bounded(
    moments: Moments, penalty: np.ndarray, bounds: tuple[np.ndarray, np.ndarray]
) -> Float[np.ndarray, " columns"]:
    """Minimise ``b'Gb/2 - (c - penalty)'b`` within bounds; columns whose bounds meet are left out."""
    low, high = bounds
    open_ = np.flatnonzero(high > low)
    beta = np.zeros(len(low))
    if not len(open_):
        return beta
    square = moments.square[np.ix_(open_, open_)]
    scale = np.sqrt(np.maximum(square.diagonal(), 1e-300))
    root = cholesky(square / np.outer(scale, scale) + _RIDGE * np.eye(len(open_)))
    wanted = solve_triangular(root, (moments.cross - penalty)[open_] / scale, trans="T")
    done = lsq_linear(root, wanted, (low[open_], high[open_]), method="bvls", tol=_SETTLED)
    beta[open_] = done.x / scale
    return beta
