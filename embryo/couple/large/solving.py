"""Optimal transport between many cells, balanced or with relaxed marginals, in memory linear in their number.

Coarse to fine (Mérigot 2011; Schmitzer 2016; Gerber & Maggioni 2017): both clouds become balanced trees, and the
problem is solved between ever finer nodes on few pairs (`multiscale`). Sinkhorn's iteration finds the prices of a
level, the network simplex its plan. Prices that no pair undercuts prove a plan optimal: how much they are undercut is
measured on cells drawn by lot (`certificate`), pairs are chosen again while that is much, and the person is told.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from jaxtyping import Float
from scipy import sparse

from embryo.core.errors import Problem, SchemaError
from embryo.couple.large.arcs import squares
from embryo.couple.large.certificate import gap
from embryo.couple.large.hierarchy import Hierarchy, hierarchy
from embryo.couple.large.multiscale import Level, Solved, Tau, again, coarsest, finer, sizes, solve

_ROUNDS = 4  # of choosing the pairs of a level, at most
_GOOD = 1e-3  # share of the objective left to gain at which there is no other round
_PROGRESS = 0.8  # of what was left to gain, above which another round is not worth its time
_STAGES, _ITERATIONS = 20, 50  # of Sinkhorn's iteration at the entropy asked for
_STEADY = 1e-2  # largest relative error of a marginal that is held, up to which a plan has converged


def plan(  # noqa: PLR0913  two clouds and their weights, two regularisations, luck, and whom to tell
    a: Float[np.ndarray, "sources dims"],
    b: Float[np.ndarray, "targets same_dims"],
    *,
    weight_a: Float[np.ndarray, " sources"] | None = None,
    weight_b: Float[np.ndarray, " targets"] | None = None,
    tau: Tau = (float("inf"), float("inf")),
    epsilon: float = 0.0,
    seed: int = 0,
    on_progress: Callable[[str, float], None] | None = None,
) -> tuple[sparse.csr_array, dict[str, Any]]:
    """Couple two clouds at least cost, the squared distance of their features.

    Parameters
    ----------
    a, b
        Features of sources and targets, scaled so that ``|a - b|^2`` is the cost.
    weight_a, weight_b
        Masses, of any sum; uniform by default. Each is divided by its sum.
    tau
        Penalties of relaxing the marginals of sources and of targets, in units of the cost: they multiply the
        Kullback-Leibler divergence from the weights. Infinite holds a marginal; finite lets growth differ.
    epsilon
        Entropy, in units of the cost. 0 gives a plan without any, of about one pair for each cell (beyond 200,000
        cells a side next to none, of a few pairs, with small errors of the marginal of sources); above, mass is spread
        over the cheapest 16 partners each way, of which the entropic optimum over all pairs may use more.
    seed
        Starts the search of axes, and draws the cells of the certificate.
    on_progress
        Is told what is being done and the share that is done.

    Returns
    -------
    tuple
        The plan, of total mass 1 where a marginal is held; and diagnostics. ``cost`` is per unit of mass;
        ``source_error``, ``target_error`` the largest relative differences of the marginals from the weights, with
        ``_mean`` the mean ones (growth, where they are relaxed). ``gap`` is an upper bound of the share of the
        objective that the best of all plans would save, entropy apart, and ``gap_error`` the standard error of its
        estimate. ``pairs`` counts the pairs that were considered.

    Raises
    ------
    SchemaError
        If features are not finite or differ in width, weights are negative or sum to nothing, or a regularisation is
        out of range.
    """
    weights = tuple(np.ones(len(x)) if w is None else w for x, w in ((a, weight_a), (b, weight_b)))
    _check((a, b), weights, (*tau, epsilon))
    rng = np.random.default_rng(seed)
    middle = (a.mean(axis=0) + b.mean(axis=0)) / 2
    sources, targets = (_tree(x - middle, w, rng) for x, w in zip((a, b), weights, strict=True))
    solved, left, error = _solved(sources, targets, tau, rng, on_progress or _silent)
    found, complaints = solved.plan, solved.complaints
    if epsilon:
        found, complaints = _smooth(solved, tau, epsilon)
        left, error = gap(solved, found, tau, rng)
    rows, columns = (tree.order[i] for tree, i in zip((sources, targets), found.coords, strict=True))
    coupled = sparse.csr_array((found.data, (rows, columns)), shape=(len(a), len(b)))
    notes = _notes(solved, found)
    notes["gap"], notes["gap_error"], notes["complaints"] = left, error, complaints
    notes["method"] = "transport/multiscale" if np.isinf(tau).all() else "transport/multiscale-unbalanced"
    notes["converged"] = not complaints
    return coupled, notes


def _silent(what: str, share: float) -> None:
    """Tell nobody."""


def _solved(
    sources: Hierarchy, targets: Hierarchy, tau: Tau, rng: np.random.Generator, tell: Callable[[str, float], None]
) -> tuple[Solved, float, float]:
    """Return the last level with the bound of what is left to gain and its standard error."""
    first, *others = sizes(sources, targets)
    solved, left, error = _settled(coarsest(sources, targets, first), tau, rng, lambda what: tell(what, 0.0))
    for k, nodes in enumerate(others, 1):
        level, share = finer(solved, sources, targets, nodes), k / (len(others) + 1)
        solved, left, error = _settled(level, tau, rng, lambda what, share=share: tell(what, share))  # type: ignore[misc]
    return solved, left, error


def _settled(
    level: Level, tau: Tau, rng: np.random.Generator, tell: Callable[[str], None]
) -> tuple[Solved, float, float]:
    """Solve a level, and choose pairs again while much is left to gain and that helps."""
    many = f"{len(level.a)} x {len(level.b)} nodes"
    tell(many)
    solved = solve(level, tau)
    left, error = gap(solved, solved.plan, tau, rng)
    for _ in range(1, _ROUNDS):
        if left <= _GOOD or len(level.pairs[0]) == len(level.a) * len(level.b):
            break
        tell(f"{many}, {100 * left:.2g} % left to gain")
        before, solved = left, solve(again(solved), tau)
        left, error = gap(solved, solved.plan, tau, rng)
        if left > _PROGRESS * before:
            break
    return solved, left, error


def _smooth(solved: Solved, tau: Tau, epsilon: float) -> tuple[sparse.coo_array, list[str]]:
    """Return the entropic plan on the pairs of a solution, and what fell short."""
    arcs, weights, prices = solved.arcs, solved.level.weights, solved.prices
    for _ in range(_STAGES):
        prices, change = arcs.sinkhorn(prices, weights, tau, epsilon, iterations=_ITERATIONS)
        if change < _STEADY:
            break
    mass = arcs.entropic(prices, weights, epsilon)
    found = sparse.coo_array((mass, (arcs.rows, arcs.columns)), shape=arcs.shape)
    found.data[mass < 1e-9 * mass.max()] = 0
    found.eliminate_zeros()
    late = f"Sinkhorn's iteration still moved prices by {change:.2g} epsilon after {_STAGES * _ITERATIONS} iterations"
    return found, [late] if change >= _STEADY else []


def _notes(solved: Solved, found: sparse.coo_array) -> dict[str, Any]:
    """Return what a person should know of a plan."""
    level = solved.level
    notes: dict[str, Any] = {
        "cost": float(found.data @ squares(level.a, level.b, *found.coords) / found.data.sum()),
        "pairs": len(solved.arcs.rows),
    }
    for k, (side, weight) in enumerate(zip(("source", "target"), level.weights, strict=True)):
        mass = np.bincount(found.coords[k], found.data, len(weight))
        apart = np.abs(mass / weight - 1)
        notes[f"{side}_error"], notes[f"{side}_error_mean"] = float(apart.max()), float(apart @ weight)
    return notes


def _tree(x: np.ndarray, weight: np.ndarray, rng: np.random.Generator) -> Hierarchy:
    """Return the tree of the cells that have mass, which sums to 1; rows are those of the whole cloud."""
    kept = np.flatnonzero(weight)
    tree = hierarchy(x[kept].astype(np.float32), weight[kept] / weight[kept].sum(), rng)
    return Hierarchy(tree.x, tree.weight, kept[tree.order], tree.levels)


def _check(clouds: tuple[np.ndarray, ...], weights: tuple[np.ndarray, ...], numbers: tuple[float, ...]) -> None:
    problems = []
    if clouds[0].shape[1] != clouds[1].shape[1]:
        found = f"{clouds[0].shape[1]} features of sources and {clouds[1].shape[1]} of targets"
        problems.append(Problem(found, "the same features", "embed both times together"))
    for side, x, w in zip(("sources", "targets"), clouds, weights, strict=True):
        bad = int(np.sum(~np.isfinite(x).all(axis=1)))
        if bad or not len(x):
            found = f"{bad} of {len(x)} {side} with features that are not finite"
            problems.append(Problem(found, "one cell or more, all finite", "drop those cells, or embed them again"))
        if not (np.isfinite(w).all() and (w >= 0).all() and w.sum() > 0):
            found = f"weights of {side} from {w.min(initial=np.inf):.3g} to {w.max(initial=-np.inf):.3g}"
            problems.append(Problem(found, "0 or more, not all 0", "correct the weights"))
    *tau, epsilon = numbers
    if not (min(tau) > 0 and 0 <= epsilon < np.inf):
        found = f"tau {tau} and epsilon {epsilon}"
        problems.append(Problem(found, "penalties above 0, and an entropy of 0 or more", "correct them"))
    if problems:
        raise SchemaError(*problems, subject="couple")
