"""Consecutive times -> Couplings: who becomes whom, from tracks where there are any, else by optimal transport."""

import itertools
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
import ot
import pandas as pd
from anndata import AnnData
from jaxtyping import Float, Int
from scipy import sparse

from embryo.core import fresh, schema
from embryo.core.coupling import Coupling
from embryo.core.errors import Problem, SchemaError

Solver = Literal["exact", "unbalanced"]
_TARGET_PENALTY = 100.0  # every target has ancestors: its marginal is all but hard


@dataclass(frozen=True)
class Transport:
    """How unpaired cells are coupled.

    Parameters
    ----------
    solver
        ``exact``: balanced optimal transport by network simplex; ``unbalanced``: entropic with relaxed source
        marginal, so that growth may differ between cells (Chizat et al. 2018).
    space_weight
        Share of the cost that is squared distance in space, 0 to 1; the rest is squared distance in z. Both are
        divided by their mean first, so that the share means the same for every dataset.
    epsilon, tau
        Entropy and marginal penalty of the unbalanced solver, in units of the mean cost.
    max_cells
        Larger populations are subsampled with the seed, per embryo and time together.
    counts_grow
        Whether the ratio of cell numbers per embryo between two times is growth; False for data sampled at will.
    """

    solver: Solver = "exact"
    space_weight: float = 0.5
    epsilon: float = 0.02
    tau: float = 1.0
    max_cells: int = 2000
    counts_grow: bool = True


def series(
    adata: AnnData,
    *,
    method: Literal["auto", "tracks", "transport"] = "auto",
    transport: Transport | None = None,
    seed: int = 0,
) -> list[Coupling]:
    """Couple every pair of consecutive times.

    Parameters
    ----------
    adata
        Checked data; transport needs an embedding and, where there is space, aligned positions.
    method
        ``tracks`` follows cell names and parents inside each embryo; ``transport`` ignores them; ``auto`` takes
        tracks where at least half of the cells of the later times have an ancestor at the earlier one.
    transport
        Options of optimal transport.
    seed
        Draws subsamples.

    Returns
    -------
    list of Coupling
        In order of time; plans hold expected numbers of descendants.

    Raises
    ------
    SchemaError
        If tracks are asked for and the data have none, or there is only one time.
    StaleError
        If transport lacks a slot that it needs.
    """
    if method != "transport" and schema.CELL in adata.obs:
        couplings = list(tracks(adata))
        found = sum(c.plan.shape[1] for c in couplings)
        wanted = sum(c.diagnostics["cells_at_t1"] for c in couplings)
        if wanted and (method == "tracks" or found >= wanted / 2):
            return couplings
    if method == "tracks":
        raise SchemaError(
            Problem(
                "no cell of a later time with its own name, or its mother's, at the time before",
                f"obs[{schema.CELL!r}] and obs[{schema.PARENT!r}] that link times inside an embryo",
                "name the track columns (read.keys.cell, read.keys.parent), or couple by transport",
            )
        )
    return list(_transports(adata, transport or Transport(), seed))


def tracks(adata: AnnData) -> Iterator[Coupling]:
    """Couple consecutive times by lineage: a cell to itself, a mother to each daughter present later.

    Every embryo is followed by itself; embryos that share two consecutive times share one coupling. A cell whose
    track ends is left out rather than called dead; ``diagnostics`` says how many.
    """
    obs = adata.obs
    parent = _parents(obs)
    t = obs[schema.TIME].to_numpy(float)
    links: dict[tuple[float, float], list[tuple[np.ndarray, np.ndarray]]] = {}
    seen: dict[tuple[float, float], list[int]] = {}
    for embryo, rows in _by_embryo(obs).items():
        names = obs[schema.CELL].astype(str).to_numpy()[rows]
        times = np.unique(t[rows])
        for t0, t1 in itertools.pairwise(times):
            early, late = rows[t[rows] == t0], rows[t[rows] == t1]
            where = dict(zip(names[t[rows] == t0], early.tolist(), strict=True))
            mother = [_ancestor(name, where, parent.get(embryo, {})) for name in names[t[rows] == t1]]
            has = np.array([m is not None for m in mother], dtype=bool)
            sources = np.array([m for m in mother if m is not None], dtype=np.int64)
            links.setdefault((t0, t1), []).append((sources, late[has]))
            counts = seen.setdefault((t0, t1), [0, 0])
            counts[0] += len(early)
            counts[1] += len(late)
    for (t0, t1), pairs in sorted(links.items()):
        i, j = (np.concatenate(part) for part in zip(*pairs, strict=True))
        if len(i):
            yield _link(t0, t1, i, j, seen[t0, t1])


def _link(
    t0: float, t1: float, i: Int[np.ndarray, " links"], j: Int[np.ndarray, " links"], seen: list[int]
) -> Coupling:
    sources, row = np.unique(i, return_inverse=True)
    plan = sparse.csr_array((np.ones(len(i)), (row, np.arange(len(j)))), shape=(len(sources), len(j)))
    notes = {
        "method": "tracks",
        "cells_at_t0": seen[0],
        "cells_at_t1": seen[1],
        "sources_without_descendants": seen[0] - len(sources),
        "targets_without_ancestor": seen[1] - len(j),
    }
    return Coupling(t0, t1, plan, sources, j, notes)


def _by_embryo(obs: pd.DataFrame) -> dict[str, np.ndarray]:
    if schema.EMBRYO not in obs:
        return {"": np.arange(len(obs))}
    groups = obs.groupby(obs[schema.EMBRYO].astype(str), observed=True).indices
    return {str(k): np.asarray(v) for k, v in groups.items()}


def _parents(obs: pd.DataFrame) -> dict[str, dict[str, str]]:
    """Mother of every cell, per embryo."""
    if schema.PARENT not in obs:
        return {}
    embryo = obs[schema.EMBRYO].astype(str) if schema.EMBRYO in obs else pd.Series("", index=obs.index)
    table = pd.DataFrame(
        {"e": embryo, "c": obs[schema.CELL].astype(str), "p": obs[schema.PARENT].astype(str)}
    ).drop_duplicates(["e", "c"])
    return {str(e): dict(zip(part["c"], part["p"], strict=True)) for e, part in table.groupby("e", observed=True)}


def _ancestor(name: str, where: dict[str, int], parent: dict[str, str]) -> int | None:
    """Row of the nearest ancestor of `name` among `where`, itself first; None if the chain breaks."""
    visited: set[str] = set()
    while name not in visited:
        if name in where:
            return where[name]
        visited.add(name)
        if name not in parent:
            return None
        name = parent[name]
    return None


def _transports(adata: AnnData, options: Transport, seed: int) -> Iterator[Coupling]:
    fresh.require(adata, schema.EMBED)
    if schema.SPATIAL in adata.obsm:
        fresh.require(adata, schema.ALIGNED)
    t = adata.obs[schema.TIME].to_numpy(float)
    times = np.unique(t)
    if len(times) < 2:
        raise SchemaError(Problem("one time point", "two or more", "give a time series"), subject="couple")
    rng = np.random.default_rng(seed)
    embryos = adata.obs[schema.EMBRYO].astype(str).to_numpy() if schema.EMBRYO in adata.obs else np.zeros(len(t), str)
    kept = {}
    for time in times:
        rows = np.flatnonzero(t == time)
        kept[time] = np.sort(rng.permutation(rows)[: options.max_cells])
    for t0, t1 in itertools.pairwise(times):
        size = [np.sum(t == u) / len(np.unique(embryos[t == u])) for u in (t0, t1)]
        growth = size[1] / size[0] if options.counts_grow else 1.0
        yield transport(adata, kept[t0], kept[t1], options=options, growth=float(growth))


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
