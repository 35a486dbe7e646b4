r"""Unbalanced entropic optimal transport that converges, and says how far it is from the optimum.

Minimised over plans P with row sums r and column sums c, with the cost C, weights a and b, entropy epsilon and
penalties tau (Chizat et al. 2018, Math. Comput. 87:2563; Liero, Mielke and Savaré 2018, Invent. Math. 211:969):

.. math:: \langle C, P \rangle + \epsilon\, KL(P | a b^T) + \tau_a KL(r | a) + \tau_b KL(c | b)

An infinite tau makes that marginal hard. The dual is concave in potentials f and g, with
``P = a b^T exp((f + g - C) / epsilon)``. It is climbed by Sinkhorn steps on a kernel that holds the potentials
(Schmitzer 2019, SIAM J. Sci. Comput. 41:A1443) with epsilon falling to its value, then by Newton steps (Brauer, Clason,
Lorenz and Wirth 2017, arXiv:1710.06635), because the Sinkhorn rate ``(1 + epsilon / tau)^-2`` tends to 1 as epsilon
falls. Totals of a and b only scale the plan.

With epsilon 0 it falls until the plan is certified for the problem without entropy: its cost, less the dual value of
``f = min_j (C - g)``, bounds how much better any plan can be.
"""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from jaxtyping import Float
from scipy import sparse
from scipy.sparse.linalg import LinearOperator, cg
from scipy.special import kl_div, logsumexp

_FALL = 4.0  # factor between two values of epsilon
_STEPS = 20  # Sinkhorn steps at each
_ROUNDS = 60  # Newton steps at most
_ROUGH = 1e-2  # residual that is good enough to go on to the next epsilon
_LEAST, _CERTIFIED = 1e-6, 1e-3  # without entropy: where epsilon stops falling, of the spread; the gap that is enough
_SPARSE = 1e-8  # entries of the plan below this share of their marginals do not bend the dual


@dataclass(frozen=True, eq=False)
class Solution:
    """A plan and its certificate.

    Parameters
    ----------
    plan
        Mass from each source to each target.
    f, g
        Dual potentials, in units of the cost.
    source_residual, target_residual
        Share of the mass by which a marginal differs from the one that its potential asks for: ``a exp(-f / tau)``,
        which is the weight itself where tau is infinite. Zero at the optimum.
    objective
        Primal objective: the cost with all penalties.
    gap
        Primal less dual objective, relative to the primal: bounds how much better any other plan can be.
    iterations
        Sinkhorn and Newton steps together.
    converged
        Whether the residuals are within the tolerance.
    """

    plan: Float[np.ndarray, "sources targets"]
    f: Float[np.ndarray, " sources"]
    g: Float[np.ndarray, " targets"]
    source_residual: float
    target_residual: float
    objective: float
    gap: float
    iterations: int
    converged: bool

    def notes(self) -> dict[str, Any]:
        """Return what to tell the user."""
        return {
            "source_residual": self.source_residual,
            "target_residual": self.target_residual,
            "gap": self.gap,
            "iterations": self.iterations,
            "converged": self.converged,
        }


@dataclass(frozen=True, eq=False)
class _Problem:
    """The problem at one epsilon; `rate` is 1 / tau of each side."""

    a: np.ndarray
    b: np.ndarray
    cost: np.ndarray
    epsilon: float
    rate: tuple[float, float]

    def plan(self, f: np.ndarray, g: np.ndarray) -> np.ndarray:
        log = (f[:, None] + g[None, :] - self.cost) / self.epsilon
        np.minimum(log, 500.0, out=log)  # a trial step of Newton may leave the range of exp
        return np.asarray(np.exp(log, out=log) * (self.a[:, None] * self.b))

    def wanted(self, f: np.ndarray, g: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return self.a * np.exp(-f * self.rate[0]), self.b * np.exp(-g * self.rate[1])

    def dual(self, f: np.ndarray, g: np.ndarray, mass: float) -> float:
        ends = zip((self.a, self.b), (f, g), self.rate, strict=True)
        value = sum(np.sum(w * p) if r == 0 else -np.sum(w * np.expm1(-p * r)) / r for w, p, r in ends)
        return float(value + self.epsilon * (self.a.sum() * self.b.sum() - mass))

    def primal(self, plan: np.ndarray) -> float:
        sides = zip((plan.sum(1), plan.sum(0)), (self.a, self.b), self.rate, strict=True)
        relaxed = sum(kl_div(s, w).sum() / r for s, w, r in sides if r > 0)
        positive = plan > 0
        moved = np.sum(plan[positive] * self.cost[positive])
        return float(moved + self.epsilon * kl_div(plan, self.a[:, None] * self.b).sum() + relaxed)


def solve(
    a: Float[np.ndarray, " sources"],
    b: Float[np.ndarray, " targets"],
    cost: Float[np.ndarray, "sources targets"],
    *,
    epsilon: float,
    tau: tuple[float, float],
    tolerance: float = 1e-6,
    start: tuple[Float[np.ndarray, " sources"], Float[np.ndarray, " targets"]] | None = None,
) -> Solution:
    """Solve the problem of the module's docstring.

    Parameters
    ----------
    a, b
        Weights above 0; with both tau infinite they must have the same total.
    cost
        Cost of each pair; infinite where a pair is forbidden, but not for a whole row or column.
    epsilon, tau
        Entropy, 0 or more, and the penalties of the source and target marginals, above 0, in units of the cost.
    tolerance
        Of the residuals.
    start
        Potentials of a similar problem; saves the fall of epsilon.

    Returns
    -------
    Solution
    """
    spread = max(float(np.ptp(cost[np.isfinite(cost)])), np.finfo(float).tiny)
    sharp = epsilon == 0
    last = _LEAST * spread if sharp else epsilon
    highest = max(spread if start is None else 0.0, last)
    f, g = (np.zeros(len(a)), np.zeros(len(b))) if start is None else start
    done = 0
    for power in range(int(np.ceil(np.log(highest / last) / np.log(_FALL))), -1, -1):
        p = _Problem(a, b, cost, last * _FALL**power, (1 / tau[0], 1 / tau[1]))
        f, g = _sinkhorn(p, f, g)
        f, g, plan, steps = _newton(p, f, g, tolerance if power == 0 or sharp else _ROUGH)
        done += _STEPS + steps
        gap = _sharp_gap(p, g, plan) if sharp else _gap(p, f, g, plan)
        if sharp and gap <= _CERTIFIED:
            break
    residuals = _residuals(p, f, g, plan)
    met = max(residuals) <= tolerance and (not sharp or gap <= _CERTIFIED)
    return Solution(plan, f, g, *residuals, p.primal(plan), gap, done, met)


def _gap(p: _Problem, f: np.ndarray, g: np.ndarray, plan: np.ndarray) -> float:
    primal = p.primal(plan)
    return float((primal - p.dual(f, g, plan.sum())) / max(abs(primal), np.finfo(float).tiny))


def _sharp_gap(p: _Problem, g: np.ndarray, plan: np.ndarray) -> float:
    """Return the gap of the problem without entropy; `f` is the largest that `g` allows, so the bound is true."""
    sharp = replace(p, epsilon=0.0)
    return _gap(sharp, (p.cost - g).min(axis=1), g, plan)


def _sinkhorn(p: _Problem, f: np.ndarray, g: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Climb along f and g in turn, the potentials held in the kernel so that nothing under- or overflows."""
    for side in (0, 1):
        log = np.log(p.b) + (g - p.cost) / p.epsilon if side == 0 else (np.log(p.a) + (f - p.cost.T) / p.epsilon)
        best = -p.epsilon * logsumexp(log, axis=1) / (1 + p.epsilon * p.rate[side])
        f, g = (best, g) if side == 0 else (f, best)
    kernel = p.plan(f, g)
    want = np.log(p.a) - f * p.rate[0], np.log(p.b) - g * p.rate[1]
    damp = 1 + p.epsilon * p.rate[0], 1 + p.epsilon * p.rate[1]
    df, dg = np.zeros(len(f)), np.zeros(len(g))
    tiny = np.finfo(float).tiny
    for _ in range(_STEPS):
        df = (want[0] - np.log(np.maximum(kernel @ np.exp(dg), tiny))) / damp[0]
        dg = (want[1] - np.log(np.maximum(np.exp(df) @ kernel, tiny))) / damp[1]
    return f + p.epsilon * df, g + p.epsilon * dg


def _newton(
    p: _Problem, f: np.ndarray, g: np.ndarray, tolerance: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray, int]:
    """Climb by Newton steps, each no lower than where it starts."""
    plan = p.plan(f, g)
    for k in range(_ROUNDS):
        if max(_residuals(p, f, g, plan)) <= tolerance:
            return f, g, plan, k
        df, dg, slope = _direction(p, f, g, plan)
        value, size = p.dual(f, g, plan.sum()), 1.0
        while size > 1e-8:
            trial = p.plan(f + size * df, g + size * dg)
            if p.dual(f + size * df, g + size * dg, trial.sum()) >= value + 1e-4 * size * slope:
                break
            size /= 2
        else:
            return f, g, plan, k
        f, g, plan = f + size * df, g + size * dg, trial
    return f, g, plan, _ROUNDS


def _direction(p: _Problem, f: np.ndarray, g: np.ndarray, plan: np.ndarray) -> tuple[np.ndarray, np.ndarray, float]:
    """Return the Newton step of f and g and the slope of the dual along it; f is eliminated, g found by CG."""
    want_a, want_b = p.wanted(f, g)
    up_f, up_g = want_a - plan.sum(1), want_b - plan.sum(0)
    over = p.epsilon * (want_a * p.rate[0]) + plan.sum(1)
    under = p.epsilon * (want_b * p.rate[1]) + plan.sum(0)
    forth, back = _products(plan)
    right = up_g - back @ (up_f / over)

    def schur(v: np.ndarray) -> np.ndarray:
        v = np.ravel(v)
        return np.asarray(under * v - back @ ((forth @ v) / over))

    n = len(g)
    operator = LinearOperator((n, n), matvec=schur, dtype=float)
    inverse = LinearOperator((n, n), matvec=lambda v: np.ravel(v) / under, dtype=float)
    dg, _ = cg(operator, right, rtol=1e-3, maxiter=300, M=inverse)
    df = (up_f - forth @ dg) / over
    df, dg = p.epsilon * df, p.epsilon * dg
    return df, dg, float(up_f @ df + up_g @ dg)


def _products(plan: np.ndarray) -> tuple[Any, Any]:
    """Return the plan and its transpose for products with vectors, sparse where most entries are nothing."""
    kept = plan > _SPARSE * plan.sum(1)[:, None]
    if kept.mean() > 0.2:
        return plan, plan.T
    few = sparse.csr_array(np.where(kept, plan, 0))
    return few, few.T.tocsr()


def _residuals(p: _Problem, f: np.ndarray, g: np.ndarray, plan: np.ndarray) -> tuple[float, float]:
    mass = max(float(plan.sum()), np.finfo(float).tiny)
    sides = zip((plan.sum(1), plan.sum(0)), p.wanted(f, g), strict=True)
    source, target = (float(np.abs(s - w).sum()) / mass for s, w in sides)
    return source, target
