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
from embryo.core.state import State, Velocity


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

    def __len__(self) -> int:
        return len(self.source)

    def to(self, device: torch.device | str) -> "Pairs":
        """Return a copy on `device`."""
        return Pairs(**{name: getattr(self, name).to(device) for name in self.__dataclass_fields__})

    def ends(self, k: Int[Tensor, " chosen"] | slice) -> tuple[State, State]:
        """Return the two cells of chosen pairs, with the mass of each in units of the source."""
        a, b = self.states[self.source[k]], self.states[self.target[k]]
        grown = self.growth[k] * self.dt_h[k]
        return State(a.z, a.g, a.x, torch.zeros_like(grown)), State(b.z, b.g, b.x, grown)

    @property
    def odds(self) -> Float[Tensor, " pairs"]:
        """Mass of a pair, mean of its two ends: how often it is drawn."""
        return self.weight * (1 + (-self.growth * self.dt_h).exp()) / 2


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


def angles(data: Pairs, spread: State, delta: float) -> Float[Tensor, " pairs"]:
    """Return the angle of each pair on the cone, ``|b - a| / (2 delta)``; see `embryo.fit.path`.

    Parameters
    ----------
    data
        Coupled pairs.
    spread
        Standard deviation of each coordinate, one row: lengths are measured in z and x, each coordinate in units of it.
    delta
        In the same units.
    """
    a, b = data.ends(slice(None))
    squared = sum(((q - p) / w).square().sum(-1) for p, q, w in ((a.z, b.z, spread.z), (a.x, b.x, spread.x)))
    return torch.as_tensor(squared).sqrt() / (2 * delta)


def tangents(data: Pairs) -> Velocity:
    """Return the velocity of each cell through the couplings before and after it, per hour (zero growth).

    That of the parabola through its mean ancestor, itself and its mean descendant: the two mean velocities, each
    weighted by the length of the other interval; at the first and the last time the one that there is.
    """
    a, b = data.ends(slice(None))
    after, before = _mean(data, data.source, data.dt_h[:, None]), _mean(data, data.target, data.dt_h[:, None])

    def rate(p: Tensor, q: Tensor) -> Tensor:
        v = (q - p) / data.dt_h[:, None]
        ahead, behind = _mean(data, data.source, v), _mean(data, data.target, v)
        both = (ahead * before + behind * after) / (before + after)
        return torch.where(both.isfinite(), both, torch.where(ahead.isfinite(), ahead, behind)).nan_to_num()

    return Velocity(rate(a.z, b.z), rate(a.g, b.g), rate(a.x, b.x), data.weight.new_zeros(len(data.states)))


def _mean(
    data: Pairs, rows: Int[Tensor, " pairs"], values: Float[Tensor, "pairs columns"]
) -> Float[Tensor, "cells columns"]:
    """Return the mean of the values of each row's pairs by weight; NaN for rows without one."""
    n = len(data.states)
    weight = data.weight.new_zeros(n, 1).index_add_(0, rows, data.weight[:, None])
    return values.new_zeros(n, values.shape[1]).index_add_(0, rows, values * data.weight[:, None]) / weight
