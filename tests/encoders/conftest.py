"""Small count matrices with structure."""

from collections.abc import Callable

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from scipy import sparse


def _cells(n: int = 60, genes: int = 25, seed: int = 0, kind: str = "counts", *, dense: bool = False) -> ad.AnnData:
    rng = np.random.default_rng(seed)
    profile = np.exp(rng.normal(size=(n, 4)) @ rng.normal(size=(4, genes)) * 0.7)
    counts = rng.poisson(profile * rng.uniform(1, 5, (n, 1))).astype(np.float64)
    counts[:, 0] += 1  # no cell without counts
    values = {"counts": counts, "log1p": np.log1p(counts), "relative": rng.normal(size=(n, genes))}[kind]
    values = values if dense else sparse.csr_matrix(values)
    adata = ad.AnnData(
        values,
        obs=pd.DataFrame(index=[f"c{i}" for i in range(n)]),
        var=pd.DataFrame(index=[f"gene{j:03d}" for j in range(genes)]),
        uns={"embryo": {"expression": kind, "time_unit": "h"}},
    )
    if kind == "counts":
        adata.layers["counts"] = values.copy()
    return adata


@pytest.fixture(scope="session")
def cells() -> Callable[..., ad.AnnData]:
    return _cells
