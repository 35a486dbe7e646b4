"""Pairs of cells of two stages, by the plans of `embryo.couple`: what the floors lie between."""

import numpy as np
import pandas as pd
from anndata import AnnData
from jaxtyping import Float, Int
from scipy import sparse

from embryo import couple, measure
from embryo.core import schema
from embryo.core.state import State
from embryo.evaluate.time.clouds import Cloud

Pairs = tuple[Int[np.ndarray, " pairs"], Int[np.ndarray, " pairs"], Float[np.ndarray, " pairs"]]

_CELLS = 2000  # of a stage; of more, so many are drawn, the same every time
_FUSED_CELLS = 400  # in the plan that compares distances within bodies, whose cost is cubic per round
_EPSILON, _TAU = 0.01, 0.3  # entropy and penalty of both marginals, in units of the mean cost
_LEAST = 1e-6  # pairs below this share of the heaviest are left out


def balanced(a: State, b: State) -> Pairs:
    """Return the pairs of the exact balanced plan on states and, with space, positions in equal parts."""
    return _pairs(a, b, couple.Transport(solver="exact"), _CELLS)


def unbalanced(a: State, b: State) -> Pairs:
    """Return the pairs of an entropic plan with both marginals relaxed alike, on the same cost."""
    return _pairs(a, b, couple.Transport(solver="unbalanced", epsilon=_EPSILON, tau=_TAU, tau_target=_TAU), _CELLS)


def fused(a: State, b: State) -> Pairs:
    """Return the pairs of a fused Gromov-Wasserstein plan: states, and distances within each body, in equal parts."""
    return _pairs(a, b, couple.Transport(solver="fgw"), _FUSED_CELLS)


def _pairs(a: State, b: State, options: couple.Transport, most: int) -> Pairs:
    clouds = [Cloud.of(state, "stage") for state in (a, b)]
    rows, columns = (measure.thin(c.mass, most)[0] for c in clouds)
    z, x = (
        np.concatenate([first[rows], last[columns]]) for first, last in zip(*((c.z, c.x) for c in clouds), strict=True)
    )
    obs = pd.DataFrame({schema.TIME: np.repeat([0.0, 1.0], [len(rows), len(columns)])})
    adata = AnnData(obs=obs.set_index(obs.index.astype(str)), obsm={schema.EMBED: z})
    if x.shape[1]:
        adata.obsm[schema.SPATIAL] = adata.obsm[schema.ALIGNED] = x
    where = np.arange(len(z))
    plan = sparse.coo_array(couple.transport(adata, where[: len(rows)], where[len(rows) :], options=options).plan)
    kept = plan.data > _LEAST * plan.data.max()
    return rows[plan.row[kept]], columns[plan.col[kept]], np.asarray(plan.data[kept], dtype=float)
