"""Two populations -> a Coupling, by optimal transport."""

from typing import Any

import numpy as np
from anndata import AnnData
from jaxtyping import Int
from scipy import sparse

from embryo.core import schema
from embryo.core.coupling import Coupling
from embryo.core.errors import Problem, SchemaError
from embryo.couple import large
from embryo.couple.alignment import align
from embryo.couple.costs import Populations, penalties, populations, squares
from embryo.couple.options import Transport
from embryo.couple.solvers import solve

_DUST = 1e-6  # of both marginals: smaller entries of a plan are dropped


def transport(
    adata: AnnData,
    sources: Int[np.ndarray, " sources"],
    targets: Int[np.ndarray, " targets"],
    *,
    options: Transport,
    growth: float = 1.0,
    seed: int = 0,
) -> Coupling:
    """Couple two populations by optimal transport on a fused cost of expression, space, niche and types.

    Parameters
    ----------
    adata
        Data with ``obsm["X_embed"]`` and, where there is space, ``obsm["spatial_aligned"]``.
    sources, targets
        Row numbers of the two populations.
    options
        Solver, cost and weights.
    growth
        Cells at t1 per cell at t0; the plan's total is ``growth`` times the number of sources.
    seed
        Draws the samples on which large populations are aligned and certified.

    Returns
    -------
    Coupling
        Every target descends from someone: columns sum to ``growth * sources / targets`` however far the solver let
        the target marginal relax, and what it took from a target is growth of the cells that reach it (the end of the
        optimal semi-couplings of Chizat et al. 2018; Liero et al. 2018, Invent. Math. 211:969). Targets that nothing
        may reach are left out. `Coupling.at` is the mass on the way. Diagnostics: cost per unit mass,
        how far the plan's marginals are from even, residuals, duality gap, iterations and the alignment.

    Raises
    ------
    SchemaError
        If the data lack what the options read, or no pair is allowed.
    """
    pair = populations(adata, sources, targets, options)
    extra = None if options.transitions is None else penalties(adata, sources, targets, options.transitions)
    notes: dict[str, Any] = {"method": f"transport/{options.solver}", "growth": growth}
    if options.align != "no" and pair.space[0].shape[1]:
        aligned = align(pair, extra, options, seed)
        pair = pair.moved(aligned.motion)
        notes["alignment"] = aligned.notes
    few = max(len(sources), len(targets)) <= options.max_cells or not options.linear
    plan, found = _dense(pair, extra, options) if few else _linear(pair, options, seed)
    notes |= found
    t = adata.obs[schema.TIME].to_numpy(float)
    ends = float(t[sources[0]]), float(t[targets[0]])
    return Coupling(*ends, *descent(plan, growth, sources, targets), notes)


def _dense(pair: Populations, extra: np.ndarray | None, options: Transport) -> tuple[sparse.csr_array, dict[str, Any]]:
    body = squares(*pair.body) if extra is None else squares(*pair.body) + extra
    x, y = (pair.scale * u for u in pair.space)
    solved = solve(body, x, y, options)
    plan, mass = solved.plan, float(solved.plan.sum())
    if not mass > 0:
        problem = Problem("no allowed pair of cells", "some", "allow transitions that happen (couple.transitions)")
        raise SchemaError(problem, subject="couple")
    cost = squares(*(np.hstack(part) for part in zip(pair.body, (x, y), strict=True)))
    rows, columns = plan.sum(axis=1), plan.sum(axis=0)
    notes = {
        "cost": float((plan * cost).sum() / mass),
        "source_error": float(np.abs(rows / mass * len(rows) - 1).max()),
        "target_error": float(np.abs(columns / mass * len(columns) - 1).max()),
        **solved.notes,
    }
    kept = (plan > _DUST * rows[:, None]) | (plan > _DUST * columns)
    return sparse.csr_array(np.where(kept, plan, 0)), notes


def _linear(pair: Populations, options: Transport, seed: int) -> tuple[sparse.csr_array, dict[str, Any]]:
    a, b = pair.features()
    if options.solver == "unbalanced":
        return large.plan(a, b, tau=(options.tau, options.tau_target), epsilon=options.epsilon, seed=seed)
    return large.plan(a, b, seed=seed)


def descent(
    plan: sparse.csr_array, growth: float, sources: Int[np.ndarray, " sources"], targets: Int[np.ndarray, " targets"]
) -> tuple[sparse.csr_array, Int[np.ndarray, " sources"], Int[np.ndarray, " reached"]]:
    """Return a plan of mass as expected numbers of descendants, with the rows of its sources and targets."""
    columns = np.asarray(plan.sum(axis=0), dtype=float).ravel()
    reached = np.flatnonzero(columns > 0)
    each = growth * len(sources) / len(targets)
    return sparse.csr_array(plan[:, reached] * (each / columns[reached])), sources, targets[reached]
