"""A cost of pairs -> a plan, by the solver asked for, with what it says of its own convergence."""

import warnings
from dataclasses import dataclass
from math import inf
from typing import Any

import numpy as np
import ot
from jaxtyping import Float

from embryo.couple import entropic
from embryo.couple.costs import mean_square, squares
from embryo.couple.options import Transport

_FORBIDDEN = 1e4  # of the largest cost: what a solver without infinity pays for a forbidden pair
_ROUNDS = 1000  # of fused Gromov-Wasserstein, at most


@dataclass(frozen=True, eq=False)
class Solved:
    """A plan between populations of mass 1, what it costs with all penalties, and what to tell the user."""

    plan: Float[np.ndarray, "sources targets"]
    objective: float
    notes: dict[str, Any]
    potentials: tuple[np.ndarray, np.ndarray] | None = None


def solve(
    body: Float[np.ndarray, "sources targets"],
    x: Float[np.ndarray, "sources space"],
    y: Float[np.ndarray, "targets space"],
    options: Transport,
    *,
    last: Solved | None = None,
) -> Solved:
    """Couple two populations of equal weights.

    Parameters
    ----------
    body
        The part of the cost that does not turn with the frame; infinite where a pair is forbidden.
    x, y
        Positions in units of the cost; no columns where space has no share.
    options
        Solver and its parameters.
    last
        Solution at nearly the same cost, to go on from.

    Returns
    -------
    Solved
        Cells without any allowed partner have no mass.
    """
    if options.solver == "fgw" and x.shape[1]:
        return _gromov(body, x, y)
    cost = body + squares(x, y) if x.shape[1] else body
    if options.solver == "unbalanced":
        return _unbalanced(cost, options, None if last is None else last.potentials)
    return _exact(cost)


def _exact(cost: np.ndarray) -> Solved:
    a, b = _even(cost)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        plan, log = ot.emd(a, b, _priced(cost), numItermax=10_000_000, log=True)
    paid = float(log["cost"])
    gap = (paid - float(a @ log["u"] + b @ log["v"])) / max(abs(paid), np.finfo(float).tiny)
    return _allowed(plan, cost, paid, {"gap": gap}, [str(w.message) for w in caught])


def _unbalanced(cost: np.ndarray, options: Transport, start: tuple[np.ndarray, np.ndarray] | None) -> Solved:
    rows, columns = np.isfinite(cost).any(axis=1), np.isfinite(cost).any(axis=0)
    plan = np.zeros(cost.shape)
    if not rows.any():
        return Solved(plan, inf, {"converged": False, "complaints": ["every pair is forbidden"]})
    a, b = _even(cost)
    some = np.ix_(rows, columns)
    found = entropic.solve(
        a[rows] / a[rows].sum(), b[columns] / b[columns].sum(), cost[some],
        epsilon=options.epsilon, tau=(options.tau, options.tau_target), start=start,
    )  # fmt: skip
    plan[some] = found.plan
    return Solved(plan, found.objective, {**found.notes(), "complaints": []}, (found.f, found.g))


def _gromov(body: np.ndarray, x: np.ndarray, y: np.ndarray) -> Solved:
    """Fused Gromov-Wasserstein: space weighs by the mean squared difference of distances instead of positions."""
    a, b = _even(body)
    near, far = (np.sqrt(squares(u, u)) for u in (x, y))
    share = mean_square(x - x.mean(axis=0), y - y.mean(axis=0))
    difference = mean_square(near.reshape(-1, 1), far.reshape(-1, 1))
    unit = np.sqrt(2 * share / max(difference, np.finfo(float).tiny))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        plan, log = ot.gromov.fused_gromov_wasserstein(
            2 * _priced(body), unit * near, unit * far, a, b, alpha=0.5, max_iter=_ROUNDS, tol_rel=1e-7, log=True
        )
    said = [str(w.message) for w in caught]
    rounds = len(log["loss"])
    if rounds >= _ROUNDS:
        said.append(f"still improving after {_ROUNDS} rounds")
    return _allowed(plan, body, float(log["fgw_dist"]), {"iterations": rounds}, said)


def _priced(cost: np.ndarray) -> np.ndarray:
    """Return the cost with a high price in place of infinity."""
    allowed = np.isfinite(cost)
    return cost if allowed.all() else np.where(allowed, cost, _FORBIDDEN * (1 + cost[allowed].max(initial=0)))


def _allowed(plan: np.ndarray, cost: np.ndarray, objective: float, notes: dict[str, Any], said: list[str]) -> Solved:
    """Take back what a solver with hard marginals moved between forbidden pairs, and say so."""
    lost = float(plan[~np.isfinite(cost)].sum())
    if lost > 0:
        said = [*said, f"{lost:.1%} of the mass found no allowed partner; let marginals relax (solver unbalanced)"]
        plan = np.where(np.isfinite(cost), plan, 0)
    return Solved(plan, objective, {**notes, "converged": not said, "complaints": said})


def _even(cost: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    n, m = cost.shape
    return np.full(n, 1 / n), np.full(m, 1 / m)
