"""Couplings and a law that agree: each round couples cells where the law carries them, and fits the law anew.

Optimal transport pairs what lies near, and cells that move farther than their spacing are paired with a neighbour of
their descendant. Once a first law is known, the stage before is carried half an interval forward by it and the stage
after half an interval back, and what is paired there is nearer: expectation and maximisation in turn, as in
registration by coherent point drift (Myronenko & Song 2010). Smooth laws gain most; where the first couplings are wrong
everywhere a round confirms them.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from anndata import AnnData
from jaxtyping import Float

from embryo import fit
from embryo.core import schema
from embryo.core.coupling import Coupling
from embryo.core.field import Field

Coupler = Callable[[AnnData], Sequence[Coupling]]
Fitter = Callable[[AnnData, Sequence[Coupling]], Field]


@dataclass(frozen=True)
class Round:
    """What a round of coupling and fitting gave.

    Parameters
    ----------
    couplings
        Between rows of the data.
    field
        Fitted to them.
    residual_um
        Root-mean-square distance between coupled cells, both carried to the middle of their interval.
    """

    couplings: tuple[Coupling, ...]
    field: Field
    residual_um: float


def recoupled(adata: AnnData, coupler: Coupler, fitter: Fitter, *, rounds: int = 3) -> list[Round]:
    """Couple and fit in turn.

    Parameters
    ----------
    adata
        Cells with ``X_embed``, ``X_panel`` and, where there is space, ``spatial_aligned``.
    coupler
        Called with the cells of two consecutive times; ``embryo.couple.series`` with options.
    fitter
        Called with all cells and couplings; ``embryo.fit.flow`` with settings.
    rounds
        How many; the first couples the cells where they were seen.

    Returns
    -------
    list of Round
        The last is the result.
    """
    t = adata.obs[schema.TIME].to_numpy(float)
    z, x = np.zeros_like(adata.obsm[schema.EMBED]), np.zeros_like(adata.obsm.get(schema.ALIGNED, np.zeros((len(t), 0))))
    done: list[Round] = []
    for _ in range(rounds):
        couplings, squares, weights = [], 0.0, 0.0
        for t0, t1 in zip(np.unique(t)[:-1], np.unique(t)[1:], strict=True):
            rows = np.flatnonzero((t == t0) | (t == t1))
            middle = _carried(adata, rows, np.where(t[rows] == t0, 0.5, -0.5) * (t1 - t0), z, x)
            for c in coupler(middle):
                couplings.append(Coupling(c.t0_h, c.t1_h, c.plan, rows[c.sources], rows[c.targets], c.diagnostics))
                i, j = c.plan.nonzero()
                places = np.asarray(middle.obsm.get(schema.ALIGNED, np.zeros((len(rows), 0))), dtype=float)
                apart = ((places[c.sources[i]] - places[c.targets[j]]) ** 2).sum(axis=1)
                squares, weights = squares + float(c.plan[i, j] @ apart), weights + float(c.plan.sum())
        field = fitter(adata, couplings)
        z, x = _velocities(adata, field, t)
        done.append(Round(tuple(couplings), field, float(np.sqrt(squares / weights))))
    return done


def _carried(
    adata: AnnData,
    rows: np.ndarray,
    hours: Float[np.ndarray, " cells"],
    z: Float[np.ndarray, "all dims"],
    x: Float[np.ndarray, "all space"],
) -> AnnData:
    """Return the cells of two times, each moved by its velocity for its own number of hours."""
    part = adata[rows].copy()
    for slot, velocity in ((schema.EMBED, z), (schema.ALIGNED, x)):
        if slot in part.obsm:
            part.obsm[slot] = (part.obsm[slot] + hours[:, None] * velocity[rows]).astype(np.float32)
    return part


def _velocities(adata: AnnData, field: Field, t: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    cells = fit.states(adata)
    z, x = np.zeros(tuple(cells.z.shape)), np.zeros(tuple(cells.x.shape))
    for time in np.unique(t):
        rows = np.flatnonzero(t == time)
        with torch.no_grad():
            v = field(torch.tensor(time, dtype=torch.float32), cells[torch.as_tensor(rows)])
        z[rows], x[rows] = v.dz.numpy(), v.dx.numpy()
    return z, x
