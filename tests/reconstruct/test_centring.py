"""Embryos without a common pose are moved to their centroid, and not turned."""

import anndata as ad
import numpy as np
import pandas as pd

from embryo import reconstruct
from embryo.core import schema


def test_each_embryo_lies_about_its_own_centroid_as_it_fell() -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(30, 3)) * [30, 20, 10] + 100
    obs = pd.DataFrame({schema.EMBRYO: np.repeat(["a", "b"], [10, 20])}, index=[f"c{k}" for k in range(30)])
    adata = ad.AnnData(np.ones((30, 1), dtype=np.float32), obs=obs, obsm={schema.SPATIAL: x})
    reconstruct.centred(adata)
    for name in ("a", "b"):
        own = (adata.obs[schema.EMBRYO] == name).to_numpy()
        np.testing.assert_allclose(adata.obsm[schema.ALIGNED][own], x[own] - x[own].mean(axis=0))
        np.testing.assert_allclose(reconstruct.motion(adata, name)(x[own]), adata.obsm[schema.ALIGNED][own])
    assert schema.meta(adata)["posed"] is False
