"""How many descendants a cell has, told from the luck of one plan: rates smoothed along the couplings' own graph.

A plan gives each source 0, 1 or 2 descendants, more by luck than by rate. Cells that are alike and near, and mothers
and their daughters, have like rates. With d_i descendants over an interval dt_i, u_i the log of the expected number per
median interval tau, and L the Laplacian of a graph that joins every cell to its nearest cells (in x and z together) of
its own stage, and to its coupled ones of the next,

    u = argmin  sum_i [exp(u_i dt_i / tau) - d_i u_i dt_i / tau] + strength / 2 * u' L u,

a Poisson regression with a Gaussian Markov field as prior (Rue & Held 2005, ch. 4). Constants cost nothing, so that
with equal intervals the expected number of cells is exactly the number that the plans hold, dead ones counted.
"""

from collections.abc import Sequence

import numpy as np
import torch
from anndata import AnnData
from jaxtyping import Float
from scipy import sparse
from scipy.sparse.linalg import spsolve

from embryo.blocks.neighbours import nearest
from embryo.core import schema
from embryo.core.coupling import Coupling
from embryo.core.state import State
from embryo.fit.coupled import states

_NEIGHBOURS, _ROUNDS, _LONGEST, _SETTLED = 10, 50, 2.0, 1e-8
_RIDGE = 1e-9  # keeps a part of the graph without a coupling solvable


def smoothed(
    adata: AnnData, couplings: Sequence[Coupling], *, strength: float = 16.0
) -> list[Float[np.ndarray, " sources"]]:
    """Return the expected number of descendants of every source of every coupling.

    Parameters
    ----------
    adata
        The coupled cells, with ``X_embed`` and, where there is space, ``spatial_aligned``.
    couplings
        Between rows of `adata`.
    strength
        Of the prior; in the plane an estimate rests on some ``4 pi strength`` cells.

    Returns
    -------
    list of arrays
        In the order of the couplings and of their sources; above 0.

    Raises
    ------
    StaleError
        If a slot is missing.
    """
    laplacian = _laplacian(states(adata), adata.obs[schema.TIME].to_numpy(float), couplings)
    spans = np.array([c.t1_h - c.t0_h for c in couplings])
    rows = np.concatenate([c.sources for c in couplings])
    seen = np.concatenate([c.descendants for c in couplings])
    dt = np.repeat(spans / np.median(spans), [len(c.sources) for c in couplings])
    pick = sparse.csr_array((dt, (np.arange(len(rows)), rows)), shape=(len(rows), adata.n_obs))
    u = np.full(adata.n_obs, np.log(seen.sum() / dt.sum()))
    prior = strength * laplacian + _RIDGE * sparse.eye_array(adata.n_obs)
    for _ in range(_ROUNDS):
        expected = np.exp(pick @ u)
        slope = pick.T @ (expected - seen) + strength * (laplacian @ u)
        curve = (pick.T @ sparse.diags_array(expected) @ pick + prior).tocsc()
        step = np.clip(spsolve(curve, slope), -_LONGEST, _LONGEST)
        u = u - step
        if np.abs(step).max() < _SETTLED:
            break
    ends = np.cumsum([len(c.sources) for c in couplings])
    return np.split(np.exp(pick @ u), ends[:-1])


def rescaled(adata: AnnData, couplings: Sequence[Coupling], *, strength: float = 16.0) -> list[Coupling]:
    """Return couplings whose sources have their smoothed numbers of descendants; see `smoothed`.

    Who descends from whom is kept in proportion. A source without any descendant in the plan keeps none.
    """
    made = []
    for c, expected in zip(couplings, smoothed(adata, couplings, strength=strength), strict=True):
        held = c.descendants
        factor = np.where(held > 0, expected / np.where(held > 0, held, 1.0), 0.0)
        plan = sparse.csr_array(sparse.diags_array(factor) @ c.plan)
        made.append(Coupling(c.t0_h, c.t1_h, plan, c.sources, c.targets, {**c.diagnostics, "smoothing": strength}))
    return made


def _laplacian(cells: State, t: np.ndarray, couplings: Sequence[Coupling]) -> sparse.csr_array:
    """Join cells to their nearest of the same stage (weight 1) and to their coupled ones (weight: the plan)."""
    features = torch.cat([_scaled(cells.z), _scaled(cells.x)], dim=1)
    first, second, weight = [], [], []
    for time in np.unique(t):
        rows = np.flatnonzero(t == time)
        if len(rows) > 1:
            near = nearest(features[torch.as_tensor(rows)], _NEIGHBOURS).rows.numpy()
            first.append(np.repeat(rows, near.shape[1]))
            second.append(rows[near].ravel())
            weight.append(np.ones(near.size))
    for c in couplings:
        coo = c.plan.tocoo()
        i, j = coo.coords
        first.append(c.sources[i])
        second.append(c.targets[j])
        weight.append(coo.data)
    edges = np.concatenate(weight), (np.concatenate(first), np.concatenate(second))
    graph = sparse.coo_array(edges, shape=(len(t), len(t))).tocsr()
    graph = graph + graph.T
    return sparse.csr_array(sparse.diags_array(np.asarray(graph.sum(axis=1)).ravel()) - graph)


def _scaled(part: torch.Tensor) -> torch.Tensor:
    """Standardise by one number, so that distances keep their form."""
    if not part.shape[1]:
        return part
    centred = part - part.mean(0)
    return centred / centred.square().sum(1).mean().sqrt().clamp(min=torch.finfo(part.dtype).tiny)
