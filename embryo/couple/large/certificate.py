"""How much any plan could save over the one at hand: the gap to a dual bound, estimated from cells drawn by lot.

Prices f and g with ``f_i + g_j <= cost_ij`` for all pairs bound every plan from below (Kantorovich duality; Chizat et
al. 2018 for relaxed marginals). The prices of a plan on few pairs keep this on those pairs; over all others they are
lowered as far as it takes for targets drawn by lot, each against all sources, and the bound is lowered by the mean.
"""

import numpy as np
from jaxtyping import Float
from scipy import sparse
from scipy.special import logsumexp

from embryo.couple.large.arcs import Masses, Potentials, squares
from embryo.couple.large.candidates import cheapest
from embryo.couple.large.multiscale import Solved, Tau

_LOT = 1000  # targets that are compared with all sources
_STEEP = 300.0  # exponent at which a price has lost the bound already
_CLOSEST = 4  # candidates of single precision that are compared in double


def gap(solved: Solved, plan: sparse.coo_array, tau: Tau, rng: np.random.Generator) -> tuple[float, float]:
    """Return the share of the objective that is left to gain at most, and its standard error."""
    level = solved.level
    reached = objective(plan, squares(level.a, level.b, *plan.coords), level.weights, tau)
    lot = rng.choice(len(level.b), size=_LOT, p=level.weights.b / level.weights.b.sum())
    bounds = []
    for prices in (solved.sharp, solved.prices):
        known = solved.arcs.tightened(_balanced(prices, level.weights, tau))
        near = cheapest(level.b[lot], level.a, known.f, _CLOSEST, reach=None).rows
        cost = squares(level.a, level.b, near.ravel(), np.repeat(lot, near.shape[1])).reshape(near.shape)
        g = np.minimum(known.g[lot], (cost - known.f[near]).min(axis=1))
        lowered = _worth(known.g[lot], tau[1]) - _worth(g, tau[1])
        whole = level.weights.a @ _worth(known.f, tau[0]) + level.weights.b @ _worth(known.g, tau[1])
        bounds.append((whole - lowered.mean(), lowered.std() / np.sqrt(len(lot))))
    best, error = max(bounds)
    scale = max(abs(reached), np.finfo(float).tiny)
    return float((reached - best) / scale), float(error / scale)


def objective(plan: sparse.coo_array, cost: Float[np.ndarray, " pairs"], weights: Masses, tau: Tau) -> float:
    """Cost of a plan and the penalties of its marginals."""
    total = float(plan.data @ cost)
    for axis, (weight, penalty) in enumerate(zip(weights, tau, strict=True)):
        if np.isfinite(penalty):
            mass = np.bincount(plan.coords[axis], plan.data, len(weight))
            ratio = np.maximum(mass, np.finfo(float).tiny) / weight
            total += penalty * float((mass * np.log(ratio) - mass + weight).sum())
    return total


def _worth(price: Float[np.ndarray, " cells"], penalty: float) -> Float[np.ndarray, " cells"]:
    """Return what a unit of weight adds to the bound at a price."""
    return price if np.isinf(penalty) else -penalty * np.expm1(np.minimum(-price / penalty, _STEEP))


def _balanced(p: Potentials, weights: Masses, tau: Tau) -> Potentials:
    """Shift prices from one side to the other so that the bound is highest."""
    rate = 1 / tau[0] + 1 / tau[1]
    if not rate:
        return p
    a, b = (float(logsumexp(-x / t, b=w)) for w, x, t in zip(weights, p, tau, strict=True))
    shift = (a - b) / rate
    return Potentials(p.f + shift, p.g - shift)
