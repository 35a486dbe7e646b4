"""A transport problem between two trees of cells, solved from few nodes to all cells, each level on few pairs.

A finer level considers the children of pairs that the coarser plan joined, and for every node the partners that are
cheapest at the prices (dual potentials) found so far; so mass can always be moved, and wrong turns of a coarse level
are put right (Gerber & Maggioni 2017).
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import takewhile

import numpy as np
from jaxtyping import Float32, Int
from scipy import sparse

from embryo.couple.large.arcs import Arcs, Masses, Potentials
from embryo.couple.large.candidates import cheapest
from embryo.couple.large.hierarchy import Hierarchy

_ALL_PAIRS = 1 << 16  # so many pairs are not worth choosing among
_FIRST, _FINER = 256, 4  # nodes of the coarsest level, and children of each at the next
_PARTNERS = 16  # cheapest partners of every node, each way
_GUESS = 4096  # nodes of the coarser level that are searched for a first guess of a price
_COOLING = 0.5  # of the entropy, from stage to stage
_COLD = 0.06  # entropy at the end, in units of what the last of the cheapest partners costs more than the first
_WARM = 5.0  # entropy to begin with where prices are known, in units of that at the end
_ITERATIONS = 40  # of Sinkhorn at each stage
_EXACT = 200_000  # nodes of a side up to which the network simplex is worth its time: nearly their square
_COLDER = (0.5, 0.25, 0.12, 0.06)  # of the entropy at the end: there a plan beyond that costs .005 % more (measured)
_NEARLY = 100  # iterations of Sinkhorn at each of them
_FAINT = 1e-3  # share of a cell's mass below which a pair is left out of such a plan
_NOT_THERE = 5e-2  # relative error of a marginal above which such a plan has not converged

Tau = tuple[float, float]


@dataclass(frozen=True, eq=False)
class Level:
    """The problem between the nodes of one level.

    Parameters
    ----------
    a, b
        Centres of the nodes of sources and targets.
    weights
        Masses of the nodes.
    bounds
        First cell of every node, and the number of cells, of sources and of targets.
    prices
        A guess of the dual potentials.
    pairs
        Pairs to be considered whatever the prices say.
    hot
        Entropy to begin with, in units of the cost; None where the prices are worth something.
    """

    a: Float32[np.ndarray, "sources dims"]
    b: Float32[np.ndarray, "targets dims"]
    weights: Masses
    bounds: tuple[np.ndarray, np.ndarray]
    prices: Potentials
    pairs: tuple[np.ndarray, np.ndarray]
    hot: float | None = None


@dataclass(frozen=True, eq=False)
class Solved:
    """A level with its plan.

    Parameters
    ----------
    level
        The problem.
    arcs
        Pairs that were considered.
    prices
        Potentials at a small entropy: of all that nearly prove the plan, those in the midst. They choose other pairs.
    sharp
        Potentials of the plan: of one by the simplex no arc is worth more than its cost, and all that it uses are worth
        as much; of an entropic one nearly so.
    plan
        The cheapest plan on these arcs. Where a marginal is relaxed, or between more nodes than the network simplex is
        tried on: an entropic plan of so little entropy that it is next to the best, whose sources keep their weights
        nearly where they are held.
    complaints
        Of the solver; empty when it converged.
    """

    level: Level
    arcs: Arcs
    prices: Potentials
    sharp: Potentials
    plan: sparse.coo_array
    complaints: list[str]


def sizes(sources: Hierarchy, targets: Hierarchy) -> Iterator[int]:
    """Yield the numbers of nodes of the levels, the coarsest first; the last is that of all cells."""
    n, m = len(sources.x), len(targets.x)
    if n * m > _ALL_PAIRS:
        yield from takewhile(lambda nodes: nodes <= max(n, m) / 2, (_FIRST * _FINER**k for k in range(64)))
    yield max(n, m)


def coarsest(sources: Hierarchy, targets: Hierarchy, nodes: int) -> Level:
    """Return the problem of the first level: all pairs, no prices."""
    (a, mass_a, bounds_a), (b, mass_b, bounds_b) = (_nodes(tree, nodes) for tree in (sources, targets))
    rows, columns = np.divmod(np.arange(len(a) * len(b)), len(b))
    nothing = Potentials(np.zeros(len(a)), np.zeros(len(b)))
    hot = sum(float(((x - b.mean(axis=0)) ** 2).sum(axis=1).mean()) for x in (a, b))  # the mean cost
    return Level(a, b, Masses(mass_a, mass_b), (bounds_a, bounds_b), nothing, (rows, columns), hot)


def finer(coarse: Solved, sources: Hierarchy, targets: Hierarchy, nodes: int) -> Level:
    """Return the problem of the next level, with prices and pairs taken from the coarser plan."""
    (a, mass_a, bounds_a), (b, mass_b, bounds_b) = (_nodes(tree, nodes) for tree in (sources, targets))
    above = coarse.level
    f = cheapest(a, above.b, coarse.prices.g, 1, reach=_GUESS).cost[:, 0].astype(float)
    g = cheapest(b, above.a, coarse.prices.f, 1, reach=_GUESS).cost[:, 0].astype(float)
    first_a, first_b = (np.searchsorted(bounds_a, above.bounds[0]), np.searchsorted(bounds_b, above.bounds[1]))
    rows, columns = coarse.plan.coords
    pairs = _children(rows, columns, first_a, first_b)
    return Level(a, b, Masses(mass_a, mass_b), (bounds_a, bounds_b), Potentials(f, g), pairs)


def again(solved: Solved) -> Level:
    """Return the same problem with better prices, to choose other pairs by them; those of the plan are kept."""
    level = solved.level
    return Level(level.a, level.b, level.weights, level.bounds, solved.prices, solved.plan.coords)


def solve(level: Level, tau: Tau) -> Solved:
    """Solve the problem of a level on its pairs and the partners that are cheapest at its prices."""
    k = min(_PARTNERS, len(level.a), len(level.b))
    to_b = cheapest(level.a, level.b, level.prices.g, k)
    to_a = cheapest(level.b, level.a, level.prices.f, k)
    rows = np.concatenate([level.pairs[0], np.repeat(np.arange(len(level.a)), k), to_a.rows.ravel()])
    columns = np.concatenate([level.pairs[1], to_b.rows.ravel(), np.repeat(np.arange(len(level.b)), k)])
    arcs = Arcs(level.a, level.b, rows, columns)
    spread = float((to_b.cost[:, -1] - to_b.cost[:, 0]).mean() + (to_a.cost[:, -1] - to_a.cost[:, 0]).mean()) / 2
    cold = _COLD * max(spread, 1e-6 * float(arcs.cost.mean()), float(np.finfo(np.float32).tiny))
    prices = _cooled(arcs, level, tau, cold)
    if max(arcs.shape) > _EXACT or not np.isinf(tau).all():
        plan, sharp, complaints = _nearly(arcs, prices, level.weights, tau, cold)
        return Solved(level, arcs, prices, sharp, plan, complaints)
    plan, sharp, complaints = arcs.exact(prices, level.weights)
    # a simplex ends in a corner of the prices that prove its plan: take them to the midst
    prices, _ = arcs.sinkhorn(sharp, level.weights, tau, 2 * cold, iterations=_ITERATIONS)
    prices, _ = arcs.sinkhorn(prices, level.weights, tau, cold, iterations=_ITERATIONS)
    return Solved(level, arcs, prices, sharp, plan, complaints)


def _nearly(
    arcs: Arcs, prices: Potentials, weights: Masses, tau: Tau, cold: float
) -> tuple[sparse.coo_array, Potentials, list[str]]:
    """Return a plan at next to no entropy, without its faint pairs; targets that are held have their weights."""
    for share in _COLDER:
        prices, _ = arcs.sinkhorn(prices, weights, tau, share * cold, iterations=_NEARLY)
    mass = arcs.entropic(prices, weights, _COLDER[-1] * cold)
    a, b = arcs.sums(mass)
    mass[mass < _FAINT * np.minimum(a[arcs.rows], b[arcs.columns])] = 0
    left = arcs.sums(mass)
    k = 1 if np.isinf(tau[1]) or not np.isinf(tau[0]) else 0  # the side that is held to its last digit, if any is
    sought = weights[k] if np.isinf(tau[k]) else (a, b)[k]
    mass *= (sought / np.maximum(left[k], np.finfo(float).tiny))[(arcs.rows, arcs.columns)[k]]
    kept = mass > 0
    plan = sparse.coo_array((mass[kept], (arcs.rows[kept], arcs.columns[kept])), shape=arcs.shape)
    apart = [np.abs(s / w - 1).max() for s, w, t in zip(arcs.sums(mass), weights, tau, strict=True) if np.isinf(t)]
    worst = max(apart, default=0.0)
    late = f"a marginal differs from its weight by {worst:.2g} of it: little entropy converges slowly"
    return plan, prices, [late] if worst > _NOT_THERE else []


def _cooled(arcs: Arcs, level: Level, tau: Tau, cold: float) -> Potentials:
    """Return prices at an entropy that is lowered step by step."""
    prices, entropy = level.prices, max(_WARM * cold if level.hot is None else level.hot, cold)
    while entropy > cold:
        prices, _ = arcs.sinkhorn(prices, level.weights, tau, entropy, iterations=_ITERATIONS)
        entropy *= _COOLING
    return arcs.sinkhorn(prices, level.weights, tau, cold, iterations=2 * _ITERATIONS)[0]


def _nodes(tree: Hierarchy, nodes: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    depth = tree.level(nodes)
    return *tree.nodes(depth), tree.levels[depth]


def _children(
    rows: Int[np.ndarray, " pairs"],
    columns: Int[np.ndarray, " pairs"],
    first_a: Int[np.ndarray, " bounds_a"],
    first_b: Int[np.ndarray, " bounds_b"],
) -> tuple[Int[np.ndarray, " children"], Int[np.ndarray, " children"]]:
    """All pairs of a child of a pair's source and a child of its target."""
    wide = first_b[columns + 1] - first_b[columns]
    many = (first_a[rows + 1] - first_a[rows]) * wide
    pair = np.repeat(np.arange(len(rows)), many)
    down, across = np.divmod(np.arange(many.sum()) - np.repeat(np.cumsum(many) - many, many), wide[pair])
    return first_a[rows][pair] + down, first_b[columns][pair] + across
