"""Embryos drawn with replacement: laws fitted to several such draws differ as laws fitted to other embryos would.

The bootstrap (Efron 1979, Ann. Stat. 7:1) over embryos and not over cells, for cells of one embryo are no repeats.
"""

import numpy as np
import pandas as pd
from anndata import AnnData

from embryo.core import schema
from embryo.core.errors import Problem, SchemaError

ORIGIN = "drawn_from"  # obs: the embryo that a copy is of; copies are left out together


def drawn(adata: AnnData, seed: int) -> AnnData:
    """Return as many embryos, drawn with replacement, without their expression matrix; one drawn again has a new name.

    ``obs["drawn_from"]`` says of which embryo each is.

    Embryos seen at all times are drawn once; where times have embryos of their own they are drawn time by time.

    Parameters
    ----------
    adata
        Cells with ``time`` (hours) and ``embryo``; not modified.
    seed
        Of the draw.

    Raises
    ------
    SchemaError
        If a time has fewer than two embryos: there is nothing to draw.
    """
    t = adata.obs[schema.TIME].to_numpy(float)
    known = schema.EMBRYO in adata.obs
    name = adata.obs[schema.EMBRYO].astype(str).to_numpy() if known else np.full(adata.n_obs, "embryo")
    problems = [
        Problem(f"one embryo at {u:g} h", "two or more to draw from at every time", "set fit.bootstrap to false")
        for u in np.unique(t)
        if len(np.unique(name[t == u])) < 2
    ]
    if problems:
        raise SchemaError(*problems, subject="fit.bootstrap")
    draw = np.random.default_rng(seed)
    everywhere = all(len(np.unique(name[t == u])) == len(np.unique(name)) for u in np.unique(t))
    rows, names = [], []
    for group in [np.ones(len(t), bool)] if everywhere else [t == u for u in np.unique(t)]:
        present = np.unique(name[group])
        chosen = draw.choice(present, len(present)).tolist()
        for k, embryo in enumerate(chosen):
            own = np.flatnonzero(group & (name == embryo))
            again = chosen[:k].count(embryo)
            rows.append(own)
            names += [f"{embryo} ({again + 1})" if again else embryo] * len(own)
    order = np.concatenate(rows)
    obs = adata.obs.iloc[order].assign(**{schema.EMBRYO: names, ORIGIN: name[order]})
    obs.index = pd.RangeIndex(len(order)).astype(str)  # a cell may be there twice
    return AnnData(obs=obs, obsm={key: adata.obsm[key][order] for key in adata.obsm}, uns=dict(adata.uns))
