"""Pairs of cells of two stages, by the solvers of `embryo.couple`: what the floors lie between."""

from typing import Any

import numpy as np
import pandas as pd
from anndata import AnnData
from jaxtyping import Float, Int
from scipy import sparse
from scipy.spatial.distance import cdist

from embryo import couple, measure
from embryo.core import schema
from embryo.core.state import State
from embryo.couple import entropic
from embryo.evaluate.time.clouds import Cloud

Pairs = tuple[Int[np.ndarray, " pairs"], Int[np.ndarray, " pairs"], Float[np.ndarray, " pairs"]]

_CELLS = 2000  # of a stage; of more, so many are drawn, the same every time
_FUSED_CELLS = 400  # in the plan that compares distances within bodies, whose cost is cubic per round
_EPSILON, _TAU = 0.01, 0.3  # entropy and penalty of both marginals, in units of the mean cost
_LEAST = 1e-6  # pairs below this share of the heaviest are left out


def balanced(a: State, b: State) -> Pairs:
    """Return the pairs of the exact balanced plan on states and, with space, positions in equal parts."""
    return _pairs(a, b, couple.Transport(solver="exact"), _CELLS)


def unbalanced(a: State, b: State, *, epsilon: float = _EPSILON, tau: float = _TAU) -> Pairs:
    """Return the pairs of an entropic plan with both marginals relaxed alike, on the same cost.

    Parameters
    ----------
    a, b
        Two stages.
    epsilon, tau
        Entropy and penalty of both marginals, in units of the mean cost; infinite tau keeps them.
    """
    first, last, rows, columns = _drawn(a, b, _CELLS)
    parts = [(p, q) for p, q in ((first.z, last.z), (first.x, last.x)) if p.shape[1]]
    costs = [cdist(p, q, "sqeuclidean") for p, q in parts]
    cost = np.mean([c / max(c.mean(), np.finfo(float).tiny) for c in costs], axis=0)
    u, v = (np.full(len(k), 1 / len(k)) for k in (rows, columns))
    return _listed(entropic.solve(u, v, cost, epsilon=epsilon, tau=(tau, tau)).plan, rows, columns)


def fused(a: State, b: State) -> Pairs:
    """Return the pairs of a fused Gromov-Wasserstein plan: states, and distances within each body, in equal parts."""
    return _pairs(a, b, couple.Transport(solver="fgw"), _FUSED_CELLS)


def _pairs(a: State, b: State, options: couple.Transport, most: int) -> Pairs:
    first, last, rows, columns = _drawn(a, b, most)
    z, x = np.concatenate([first.z, last.z]), np.concatenate([first.x, last.x])
    obs = pd.DataFrame({schema.TIME: np.repeat([0.0, 1.0], [len(rows), len(columns)])})
    adata = AnnData(obs=obs.set_index(obs.index.astype(str)), obsm={schema.EMBED: z})
    if x.shape[1]:
        adata.obsm[schema.SPATIAL] = adata.obsm[schema.ALIGNED] = x
    where = np.arange(len(z))
    found = couple.transport(adata, where[: len(rows)], where[len(rows) :], options=options)
    return _listed(found.plan, rows, columns)


def _drawn(a: State, b: State, most: int) -> tuple[Cloud, Cloud, np.ndarray, np.ndarray]:
    """Return at most so many cells of each, and which they are."""
    clouds = [Cloud.of(state, "stage") for state in (a, b)]
    rows, columns = (measure.thin(c.mass, most)[0] for c in clouds)
    return clouds[0][rows], clouds[1][columns], rows, columns


def _listed(plan: Any, rows: Int[np.ndarray, " sources"], columns: Int[np.ndarray, " targets"]) -> Pairs:
    found = sparse.coo_array(plan)
    kept = found.data > _LEAST * found.data.max()
    return rows[found.row[kept]], columns[found.col[kept]], np.asarray(found.data[kept], dtype=float)
