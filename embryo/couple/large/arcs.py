"""Optimal transport over a short list of pairs: entropic by Sinkhorn's iteration, exact by network simplex.

Both need memory linear in the number of pairs.
"""

import warnings
from functools import partial
from typing import NamedTuple, no_type_check

import numba
import numpy as np
import ot
from jaxtyping import Float, Float32, Int, Int32
from scipy import sparse

from embryo.couple.large.candidates import threads

_BLOCK = 1 << 16  # pairs, or cells, that are handled at once
_RELAXATION = 1.5  # of Sinkhorn's iteration (Thibault et al. 2021)
_STILL = 1e-4  # change of a potential, in units of epsilon, that ends the iteration
_TINY = 1e-30  # a cost of zero would be no arc


class Potentials(NamedTuple):
    """What it is worth to leave a source, and to reach a target; in units of the cost."""

    f: Float[np.ndarray, " sources"]
    g: Float[np.ndarray, " targets"]


class Masses(NamedTuple):
    """The marginals that a plan should have."""

    a: Float[np.ndarray, " sources"]
    b: Float[np.ndarray, " targets"]


class Arcs:
    """Pairs of sources and targets that mass may take, each once, with their costs; by source and by target.

    Parameters
    ----------
    a, b
        Features of sources and targets; the cost is their squared distance.
    rows, columns
        The pairs; every source and target has one at least.
    """

    def __init__(
        self,
        a: Float32[np.ndarray, "sources dims"],
        b: Float32[np.ndarray, "targets dims"],
        rows: Int[np.ndarray, " pairs"],
        columns: Int[np.ndarray, " pairs"],
    ) -> None:
        self.shape = (len(a), len(b))
        pairs = np.unique(rows.astype(np.int64) * len(b) + columns)
        self.rows: Int32[np.ndarray, " arcs"] = (pairs // len(b)).astype(np.int32)
        self.columns: Int32[np.ndarray, " arcs"] = (pairs % len(b)).astype(np.int32)
        self.cost = squares(a, b, self.rows, self.columns)
        self._by_row = np.searchsorted(self.rows, np.arange(len(a) + 1))
        turned = np.argsort(self.columns, kind="stable")
        self._by_column = np.searchsorted(self.columns[turned], np.arange(len(b) + 1))
        self._turned_rows, self._turned_cost = self.rows[turned], self.cost[turned]

    def sinkhorn(
        self, p: Potentials, m: Masses, tau: tuple[float, float], epsilon: float, *, iterations: int
    ) -> tuple[Potentials, float]:
        """Iterate towards the entropic optimum; marginals with a finite `tau` are held by a penalty (Chizat 2018).

        Returns
        -------
        tuple
            New potentials, and the last change of a potential in units of epsilon.
        """
        f, g = p.f.copy(), p.g.copy()
        shrink = [1.0 if np.isinf(t) else t / (t + epsilon) for t in tau]
        log_a, log_b = np.log(m.a), np.log(m.b)
        change = np.inf
        with threads() as together:
            for k in range(iterations):
                before = g.copy()
                omega = _RELAXATION if 0 < k < iterations - 1 else 1.0
                to_f = _Half(self._by_row, self.columns, self.cost, g, log_b)
                to_g = _Half(self._by_column, self._turned_rows, self._turned_cost, f, log_a)
                for half, sought, least in ((to_f, f, shrink[0]), (to_g, g, shrink[1])):
                    together(partial(half.update, sought, (epsilon, least, omega)), range(0, len(sought), _BLOCK))
                change = float(np.abs(g - before).max() / epsilon)
                if change < _STILL:
                    break
        return Potentials(f, g), change

    def entropic(self, p: Potentials, m: Masses, epsilon: float) -> Float[np.ndarray, " arcs"]:
        """Mass on every arc."""
        rate = (p.f[self.rows] + p.g[self.columns] - self.cost) / epsilon
        return np.asarray(np.exp(rate) * m.a[self.rows] * m.b[self.columns])

    def sums(self, mass: Float[np.ndarray, " arcs"]) -> Masses:
        """Marginals of a plan."""
        a, b = (np.bincount(i, mass, n) for i, n in zip((self.rows, self.columns), self.shape, strict=True))
        return Masses(a, b)

    def tightened(self, p: Potentials) -> Potentials:
        """Lower the potentials of targets until no arc is worth more than its cost; raise them where there is room."""
        room = self._turned_cost - p.f[self._turned_rows]
        return Potentials(p.f, np.minimum.reduceat(room, self._by_column[:-1]))

    def exact(self, p: Potentials, m: Masses) -> tuple[sparse.coo_array, Potentials, list[str]]:
        """Return the plan of least cost with these marginals, its potentials, and what the solver complained of.

        Costs are given less the potentials at hand: the optimum is the same, and near at hand when they are good.
        """
        reduced = self.cost - (p.f[self.rows] + p.g[self.columns])
        reduced[reduced == 0] = _TINY
        table = sparse.coo_matrix((reduced, (self.rows, self.columns)), shape=self.shape)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            plan, log = ot.emd(m.a, m.b, table, numItermax=100_000_000, log=True, center_dual=False)
        plan = sparse.coo_array(plan)
        return plan, Potentials(p.f + log["u"], p.g + log["v"]), [str(w.message) for w in caught]


def squares(
    a: Float32[np.ndarray, "sources dims"],
    b: Float32[np.ndarray, "targets dims"],
    rows: Int[np.ndarray, " pairs"],
    columns: Int[np.ndarray, " pairs"],
) -> Float[np.ndarray, " pairs"]:
    """Squared distance of every pair."""
    cost = np.empty(len(rows))
    for first in range(0, len(rows), _BLOCK):
        some = slice(first, first + _BLOCK)
        apart = a[rows[some]] - b[columns[some]]
        cost[some] = np.einsum("ij,ij->i", apart, apart)
    return cost


class _Half(NamedTuple):
    """One side of the iteration: the arcs of every cell, and what is known at their other ends."""

    starts: np.ndarray
    other: np.ndarray
    cost: np.ndarray
    known: np.ndarray
    log_mass: np.ndarray

    def update(self, sought: Float[np.ndarray, " cells"], step: tuple[float, float, float], first: int) -> None:
        """Update the block of sought potentials that begins with `first`."""
        some = slice(first, min(first + _BLOCK, len(sought)))
        _update(self.starts[some.start : some.stop + 1], self[1:], sought[some], step)


@numba.njit(nogil=True, cache=True, fastmath={"reassoc", "contract", "arcp", "afn"})
@no_type_check
def _update(starts, ends, sought, step):
    """Move each sought potential towards the soft minimum of cost less known potential, over its arcs."""
    other, cost, known, log_mass = ends
    epsilon, shrink, omega = step
    for r in range(len(sought)):
        top = (known[other[starts[r]]] - cost[starts[r]]) / epsilon + log_mass[other[starts[r]]]
        for k in range(starts[r] + 1, starts[r + 1]):
            top = max(top, (known[other[k]] - cost[k]) / epsilon + log_mass[other[k]])
        total = 0.0
        for k in range(starts[r], starts[r + 1]):
            below = (known[other[k]] - cost[k]) / epsilon + log_mass[other[k]] - top
            if below > -30:
                total += np.exp(np.float32(below))
        sought[r] += omega * (-epsilon * shrink * (top + np.log(total)) - sought[r])
