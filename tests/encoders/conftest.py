"""Small count matrices with structure, and tiny folders of every pretrained encoder."""

from collections.abc import Callable
from functools import cache
from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from scipy import sparse

from embryo import encoders
from embryo.encoders.options import Options
from embryo.encoders.pretrained import Pretrained


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


_EXACT = Options(dtype="float32")


def _gene_names(ids: str, n: int) -> list[str]:
    return [f"ENSG{k:011d}" for k in range(n)] if ids == "ensembl" else [f"GENE{k}" for k in range(n)]


def _human_cells(ids: str = "ensembl", n: int = 12, genes: int = 30, seed: int = 0) -> ad.AnnData:
    """Counts of cells of very different depth; the last gene is found in no cell."""
    rng = np.random.default_rng(seed)
    counts = rng.poisson(rng.gamma(0.6, 3.0, (n, genes)) * rng.uniform(0.2, 4.0, (n, 1))).astype(float)
    counts[:, 0] += 1
    counts[:, -1] = 0
    matrix = sparse.csr_matrix(counts)
    return ad.AnnData(
        matrix,
        obs=pd.DataFrame(index=[f"c{i}" for i in range(n)]),
        var=pd.DataFrame(index=_gene_names(ids, genes)),
        layers={"counts": matrix.copy()},
        uns={"embryo": {"expression": "counts", "time_unit": "h", "organism": "Homo sapiens"}},
    )


@pytest.fixture(scope="session")
def human_cells() -> Callable[..., ad.AnnData]:
    """Return a maker of cells with human gene names."""
    return _human_cells


@pytest.fixture(scope="session")
def tiny_folder(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Return a maker of folders with tiny random models over the genes of `human_cells`, by name of the encoder."""

    @cache
    def make(name: str, genes: int = 30, seed: int = 0) -> Path:
        cls = encoders.model(name)
        return Path(cls.write_tiny(tmp_path_factory.mktemp(name) / name, _gene_names(cls.ids, genes), seed))

    return make


@pytest.fixture(scope="session")
def tiny(tiny_folder: Callable[..., Path]) -> Callable[..., Pretrained]:
    """Return an opener of tiny random models, by name of the encoder."""

    def opened(name: str, options: Options = _EXACT) -> Pretrained:
        return encoders.open_dir(name, tiny_folder(name), options)

    return opened
