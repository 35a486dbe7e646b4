"""Tracks -> Couplings: a cell to itself, a mother to her daughters."""

import itertools
from collections.abc import Iterator

import numpy as np
import pandas as pd
from anndata import AnnData
from jaxtyping import Int
from scipy import sparse

from embryo.core import schema
from embryo.core.coupling import Coupling


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
