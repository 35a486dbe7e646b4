"""Two populations -> a Coupling, by optimal transport."""

import warnings

import numpy as np
import ot
from anndata import AnnData
from jaxtyping import Float, Int
from scipy import sparse

from embryo.core import schema
from embryo.core.coupling import Coupling
from embryo.couple.options import Transport

_TARGET_PENALTY = 100.0  # every target has ancestors: its marginal is all but hard


def transport(
    adata: AnnData,
    sources: Int[np.ndarray, " sources"],
    targets: Int[np.ndarray, " targets"],
    *,
    options: Transport,
    growth: float = 1.0,
) -> Coupling:
    """Couple two populations by optimal transport on a fused cost of expression and space.

    Parameters
    ----------
    adata
        Data with ``obsm["X_embed"]`` and, where there is space, ``obsm["spatial_aligned"]``.
    sources, targets
        Row numbers of the two populations.
    options
        Solver and weights.
    growth
        Cells at t1 per cell at t0; the plan's total is ``growth`` times the number of sources.

    Returns
    -------
    Coupling
        Diagnostics: transport cost per unit mass and the largest relative error of each marginal.
    """
    cost = _cost(adata, sources, targets, options.space_weight)
    a, b = np.full(len(sources), 1 / len(sources)), np.full(len(targets), 1 / len(targets))
    plan, complaints = _solve(a, b, cost, options)
    mass = plan.sum()
    notes = {
        "method": f"transport/{options.solver}",
        "cost": float((plan * cost).sum() / mass),
        "source_error": float(np.abs(plan.sum(1) / mass - a).max() * len(a)),
        "target_error": float(np.abs(plan.sum(0) / mass - b).max() * len(b)),
        "converged": not complaints,
        "complaints": complaints,
        "growth": growth,
    }
    plan = np.where(plan > plan.max() * 1e-6, plan, 0)
    plan *= growth * len(sources) / plan.sum()
    t = adata.obs[schema.TIME].to_numpy(float)
    return Coupling(float(t[sources[0]]), float(t[targets[0]]), sparse.csr_array(plan), sources, targets, notes)


def _solve(
    a: Float[np.ndarray, " sources"],
    b: Float[np.ndarray, " targets"],
    cost: Float[np.ndarray, "sources targets"],
    options: Transport,
) -> tuple[Float[np.ndarray, "sources targets"], list[str]]:
    """Return the plan and what the solver complained of; empty when it converged."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        if options.solver == "exact":
            plan = ot.emd(a, b, cost, numItermax=10_000_000)
        else:
            plan = ot.unbalanced.sinkhorn_unbalanced(
                a,
                b,
                cost,
                options.epsilon,
                (options.tau, _TARGET_PENALTY),
                method="sinkhorn_stabilized",
                numItermax=5000,
            )
    return plan, [str(w.message) for w in caught]


def _cost(
    adata: AnnData, i: Int[np.ndarray, " sources"], j: Int[np.ndarray, " targets"], space_weight: float
) -> Float[np.ndarray, "sources targets"]:
    z = np.asarray(adata.obsm[schema.EMBED], float)
    cost = _scaled_squares(z[i], z[j])
    if schema.SPATIAL in adata.obsm and space_weight > 0:
        x = np.asarray(adata.obsm[schema.ALIGNED], float)
        cost = (1 - space_weight) * cost + space_weight * _scaled_squares(x[i], x[j])
    return np.ascontiguousarray(cost)


def _scaled_squares(
    a: Float[np.ndarray, "sources dims"], b: Float[np.ndarray, "targets dims"]
) -> Float[np.ndarray, "sources targets"]:
    c: np.ndarray = ot.dist(a, b, metric="sqeuclidean")
    return np.asarray(c / max(c.mean(), np.finfo(float).tiny))
