"""Steady genes: the truth is who was made to change."""

import numpy as np
from anndata import AnnData

from embryo import embed
from embryo.core import schema


def cells(seed: int = 0, change: float = 3.0) -> tuple[AnnData, np.ndarray]:
    """Ten steady genes, two that wander from cell to cell, and thirty that come on along the first axis of z."""
    rng = np.random.default_rng(seed)
    on = rng.random((1500, 1))
    size = np.exp(0.3 * rng.normal(size=(1500, 1)))
    steady = np.full((1500, 10), 8.0)
    wander = 8.0 * np.exp(rng.normal(size=(1500, 2)) - 0.5)
    coming = 1.0 + change * on * rng.exponential(1.0, size=30)
    counts = rng.poisson(size * np.concatenate([steady, wander, coming], 1)).astype(np.float32)
    adata = AnnData(counts, obsm={schema.EMBED: np.hstack([10 * on, rng.normal(size=(1500, 1))])})
    names = [*(f"steady{k}" for k in range(10)), "wander0", "wander1", *(f"on{k}" for k in range(30))]
    adata.var_names = names
    adata.layers[schema.COUNTS] = adata.X.copy()
    adata.uns[schema.META] = {"expression": "counts"}
    return adata, on[:, 0]


def test_steady_genes_are_found_among_many_that_change() -> None:
    adata, _ = cells()
    found = embed.steady(adata, seed=0)
    assert {f"steady{k}" for k in range(10)} <= set(found)
    assert not {"wander0", "wander1"} & set(found)
    assert sum(name.startswith("on") for name in found) <= 3  # those of little change


def test_a_steady_gene_stays_where_others_come_on() -> None:
    adata, on = cells()
    late, early = on > 0.9, on < 0.1
    change = []
    for steady in ((), embed.steady(adata, seed=0)):
        embed.panel(adata, ["steady0", "on0"], steady=steady)
        level = np.expm1(adata.obsm[schema.PANEL][:, 0])
        change.append(level[late].mean() / level[early].mean())
    assert change[0] < 0.8
    assert 0.95 < change[1] < 1.05
    assert schema.meta(adata)["steady"] == embed.steady(adata, seed=0)
    counted = np.expm1(adata.obsm[schema.PANEL][:, 0]) * adata.obs[schema.PER_LEVEL]
    np.testing.assert_allclose(counted, adata.X[:, 0], rtol=1e-4, atol=1e-4)


def test_where_none_are_steady_none_are_named() -> None:
    adata, _ = cells()
    assert embed.steady(adata[:, adata.var_names.str.startswith("on")][:, :4].copy(), seed=0) == []
    adata.uns[schema.META] = {"expression": "log1p"}
    assert embed.steady(adata, seed=0) == []
