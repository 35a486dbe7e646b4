"""A time series -> Couplings of its consecutive times: from tracks where there are any, else by optimal transport."""

import itertools
from collections.abc import Iterator
from typing import Literal

import numpy as np
from anndata import AnnData

from embryo.core import fresh, schema
from embryo.core.coupling import Coupling
from embryo.core.errors import Problem, SchemaError
from embryo.couple.lineage import tracks
from embryo.couple.options import Transport
from embryo.couple.unpaired import transport as transport_between


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
        kept[time] = rows if options.linear else np.sort(rng.permutation(rows)[: options.max_cells])
    for t0, t1 in itertools.pairwise(times):
        size = [np.sum(t == u) / len(np.unique(embryos[t == u])) for u in (t0, t1)]
        growth = size[1] / size[0] if options.counts_grow else 1.0
        yield transport_between(adata, kept[t0], kept[t1], options=options, growth=float(growth), seed=seed)
