"""Coupling: who becomes whom between two times."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from jaxtyping import Float, Int
from scipy import sparse

from embryo.core.axes import disagreements
from embryo.core.errors import Problem, SchemaError

AXES = {"plan": ("sources", "targets"), "sources": ("sources",), "targets": ("targets",)}


@dataclass(frozen=True, eq=False)
class Coupling:
    """Expected descent between the cells of two times.

    Parameters
    ----------
    t0_h, t1_h
        The two times, hours.
    plan
        Sparse (sources, targets); entry (i, j) is the expected number of cells like j that descend from cell i.
        Where every target has one mother a column sums to 1; a row sums to the number of descendants of i.
    sources, targets
        Row numbers of the cells in the AnnData that was coupled.
    diagnostics
        What the solver reports: method, marginal errors, convergence.

    Raises
    ------
    SchemaError
        Listing what is wrong: times out of order, a plan of another shape, with negative or non-finite entries.
    """

    t0_h: float
    t1_h: float
    plan: sparse.csr_array
    sources: Int[np.ndarray, " sources"]
    targets: Int[np.ndarray, " targets"]
    diagnostics: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        shapes = {name: tuple(getattr(self, name).shape) for name in AXES}
        problems = disagreements(shapes, AXES)
        if not -np.inf < self.t0_h < self.t1_h < np.inf:
            found = f"a coupling from {self.t0_h} to {self.t1_h} h"
            problems.append(Problem(found, "finite times, the first before the second", "swap or correct the times"))
        bad = int(np.sum(~(np.isfinite(self.plan.data) & (self.plan.data >= 0))))
        if bad:
            found = f"{bad} of {self.plan.nnz} entries of the plan negative or not finite"
            problems.append(Problem(found, "expected numbers of cells, 0 or more", "check the solver's convergence"))
        if problems:
            raise SchemaError(*problems, subject="coupling")

    @property
    def descendants(self) -> Float[np.ndarray, " sources"]:
        """Expected number of descendants per source cell."""
        return np.asarray(self.plan.sum(axis=1), dtype=float).ravel()

    @property
    def growth(self) -> Float[np.ndarray, " sources"]:
        """Growth rate per source cell, ``log(descendants) / (t1 - t0)``, 1/h; -inf for cells that leave nothing."""
        with np.errstate(divide="ignore"):
            return np.asarray(np.log(self.descendants) / (self.t1_h - self.t0_h))

    def at(self, s: float) -> sparse.csr_array:
        """Return the mass on each pair at share `s` of the interval, in cells, if each source grows evenly.

        At 0 a source's own mass of 1, shared among its descendants; at 1 the plan; between the two the path's weight
        for interpolation and regression. The plan itself would weigh the middle as if all growth had happened.
        """
        descendants = self.descendants
        grown = np.zeros_like(descendants)
        np.power(descendants, s - 1, out=grown, where=descendants > 0)
        return sparse.csr_array(self.plan * grown[:, None])

    def push(self, values: Float[np.ndarray, " sources *dims"]) -> Float[np.ndarray, " targets *dims"]:
        """Carry values of sources to targets: the mean over each target's ancestors; NaN where it has none."""
        return _average(self.plan.T.tocsr(), values)

    def pull(self, values: Float[np.ndarray, " targets *dims"]) -> Float[np.ndarray, " sources *dims"]:
        """Carry values of targets to sources: the mean over each source's descendants; NaN where it leaves none."""
        return _average(self.plan, values)

    def sample(self, n: int, rng: np.random.Generator) -> tuple[Int[np.ndarray, " n"], Int[np.ndarray, " n"]]:
        """Draw `n` (source, target) pairs with probability proportional to the plan.

        Returns
        -------
        tuple of arrays
            Positions along the plan's rows and columns.

        Raises
        ------
        SchemaError
            If the plan is empty.
        """
        coo = self.plan.tocoo()
        cumulative = np.cumsum(coo.data, dtype=float)
        if not coo.nnz or not cumulative[-1] > 0:
            found = f"no pair between {self.t0_h} and {self.t1_h} h to draw from"
            raise SchemaError(
                Problem(found, "a plan with entries above 0", "couple these times again"), subject="coupling"
            )
        k = np.searchsorted(cumulative, rng.random(n) * cumulative[-1], side="right")
        k = np.minimum(k, coo.nnz - 1)
        rows, columns = coo.coords
        return rows[k].astype(np.int64), columns[k].astype(np.int64)


def _average(plan: sparse.csr_array, values: np.ndarray) -> np.ndarray:
    weight = np.asarray(plan.sum(axis=1), dtype=float).ravel()
    flat = values.reshape(len(values), -1)
    with np.errstate(divide="ignore", invalid="ignore"):
        mean = (plan @ flat) / weight[:, None]
    return np.asarray(mean).reshape(len(weight), *values.shape[1:])
