"""Couplings -> pairs: the coupled cells of all intervals, flat, as tensors."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from anndata import AnnData
from jaxtyping import Float, Int
from torch import Tensor

from embryo.core import fresh, schema
from embryo.core.coupling import Coupling
from embryo.core.errors import Problem, SchemaError
from embryo.core.state import State


@dataclass(frozen=True)
class Pairs:
    """Coupled pairs of all intervals, flat.

    Parameters
    ----------
    states
        One row per cell of the data.
    source, target
        Rows of the two ends, one per non-zero entry of a plan.
    weight
        Expected number of descendants on this pair; every interval weighs the same in total.
    t0_h, dt_h
        Start and length of the pair's interval, hours.
    growth
        Growth rate of the source, 1/h.
    """

    states: State
    source: Int[Tensor, " pairs"]
    target: Int[Tensor, " pairs"]
    weight: Float[Tensor, " pairs"]
    t0_h: Float[Tensor, " pairs"]
    dt_h: Float[Tensor, " pairs"]
    growth: Float[Tensor, " pairs"]


def states(adata: AnnData) -> State:
    """Return the rows of `adata` as a `State`: z, g, aligned x (zero columns without space), log mass 0.

    Raises
    ------
    StaleError
        If the embedding, the panel or the aligned positions are absent.
    """
    fresh.require(adata, schema.EMBED, schema.PANEL, *([schema.ALIGNED] if schema.SPATIAL in adata.obsm else []))

    def tensor(slot: str) -> Tensor:
        return torch.as_tensor(np.asarray(adata.obsm[slot]), dtype=torch.float32)

    x = tensor(schema.ALIGNED) if schema.SPATIAL in adata.obsm else torch.zeros(adata.n_obs, 0)
    return State(tensor(schema.EMBED), tensor(schema.PANEL), x, torch.zeros(adata.n_obs))


def pairs(adata: AnnData, couplings: Sequence[Coupling]) -> Pairs:
    """Flatten couplings into pairs of rows.

    Raises
    ------
    SchemaError
        If the couplings hold no pair.
    """
    columns: list[tuple[np.ndarray, ...]] = []
    for c in couplings:
        coo = c.plan.tocoo()
        i, j = coo.coords
        keep = coo.data > 0
        i, j, w = i[keep], j[keep], coo.data[keep]
        one = np.ones(len(w))
        columns.append((c.sources[i], c.targets[j], w / w.sum(), c.t0_h * one, (c.t1_h - c.t0_h) * one, c.growth[i]))
    if not sum(len(c[0]) for c in columns):
        raise SchemaError(Problem("couplings without a single pair", "coupled cells", "couple again"), subject="fit")
    source, target, *rest = (np.concatenate(c) for c in zip(*columns, strict=True))
    weight, t0, dt, growth = (torch.as_tensor(r, dtype=torch.float32) for r in rest)
    return Pairs(states(adata), torch.as_tensor(source), torch.as_tensor(target), weight, t0, dt, growth)
