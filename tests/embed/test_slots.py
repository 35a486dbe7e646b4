import anndata as ad
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse

from embryo import embed, encoders
from embryo.core import schema
from embryo.core.errors import SchemaError, StaleError


def cells(n=40, genes=15, seed=0):
    rng = np.random.default_rng(seed)
    counts = sparse.csr_matrix(rng.poisson(np.exp(rng.normal(size=(n, 3)) @ rng.normal(size=(3, genes)))) + 1.0)
    return ad.AnnData(
        counts,
        obs=pd.DataFrame(index=[f"c{i}" for i in range(n)]),
        var=pd.DataFrame(index=[f"gene{j:02d}" for j in range(genes)]),
        layers={"counts": counts.copy()},
        uns={"embryo": {"expression": "counts", "time_unit": "h"}},
    )


@pytest.mark.parametrize("name", ["pca", "hvg"])
def test_cells_writes_one_slot_with_its_provenance(name):
    adata = cells()
    encoder = encoders.build(name, dims=4, seed=7).fit(adata[:30].copy())
    assert embed.cells(adata, encoder) is None
    assert list(adata.obsm) == ["X_embed"]
    assert adata.obsm["X_embed"].dtype == np.float32
    np.testing.assert_allclose(adata.obsm["X_embed"], encoder.encode(cells()), rtol=1e-5, atol=1e-5)
    record = {"encoder": name, "dims": 4, "seed": 7, "genes_used": 15, "weights": "fitted"}
    assert adata.uns["embryo"]["embeddings"] == {"X_embed": record | {"corpus": "cells of the fit"}}
    assert adata.uns["embryo"]["time_unit"] == "h"


def test_copy_leaves_the_input_alone():
    adata = cells()
    for annotated in (
        embed.cells(adata, "pca", key_added="X_a", copy=True),
        embed.panel(adata, ["gene01"], copy=True),
        embed.latent(embed.cells(adata, "hvg", copy=True), "X_embed", key_added="X_b", copy=True),
    ):
        assert annotated.uns["embryo"] != adata.uns["embryo"]
    assert not adata.obsm
    assert adata.uns["embryo"] == {"expression": "counts", "time_unit": "h"}


def test_two_embeddings_stand_side_by_side():
    adata = cells()
    embed.cells(adata, "pca")
    embed.cells(adata, "hvg", key_added="X_hvg")
    assert {k: v["encoder"] for k, v in adata.uns["embryo"]["embeddings"].items()} == {"X_embed": "pca", "X_hvg": "hvg"}
    assert adata.obsm["X_embed"].shape == (40, 15)


def test_an_unfitted_encoder_is_refused_and_nothing_is_written():
    adata = cells()
    with pytest.raises(StaleError, match="before fit"):
        embed.cells(adata, encoders.build("pca", dims=2))
    assert not adata.obsm


def test_panel_levels_are_those_of_scanpy():
    adata = cells()
    counts = adata.layers["counts"].toarray()
    embed.panel(adata, ["gene09", "gene02"])
    expected = np.log1p(counts / counts.sum(1, keepdims=True) * schema.TARGET_SUM)[:, [9, 2]]
    np.testing.assert_allclose(adata.obsm["X_panel"], expected, rtol=1e-6)
    assert adata.uns["embryo"]["panel"] == ["gene09", "gene02"]


def test_a_second_panel_keeps_the_names_of_the_first():
    adata = cells()
    embed.panel(adata, ["gene01"])
    embed.panel(adata, ["gene03", "gene04"], key_added="X_ligands")
    assert adata.uns["embryo"]["panel"] == ["gene01"]
    assert adata.uns["embryo"]["panel:X_ligands"] == ["gene03", "gene04"]


def test_unknown_and_double_panel_genes_are_all_reported():
    adata = cells()
    with pytest.raises(SchemaError) as error:
        embed.panel(adata, ["Gene01", "gene02", "gene02", "nonsense"])
    text = str(error.value)
    assert len(error.value.problems) == 3
    assert "gene 'Gene01', which the data do not hold (did you mean 'gene01'?)" in text
    assert "gene 'nonsense', which the data do not hold;" in text
    assert "gene02 more than once" in text
    with pytest.raises(SchemaError, match="an empty panel"):
        embed.panel(adata, [])
    assert not adata.obsm


def test_latent_takes_what_is_there():
    adata = cells()
    adata.obsm["X_pca"] = np.arange(80.0).reshape(40, 2)
    embed.latent(adata, "X_pca")
    np.testing.assert_array_equal(adata.obsm["X_embed"], adata.obsm["X_pca"])
    assert adata.uns["embryo"]["embeddings"]["X_embed"] == {"encoder": "precomputed", "source": "X_pca", "dims": 2}


def test_latent_refuses_what_is_not_an_embedding():
    adata = cells()
    adata.obsm["X_pca"] = np.zeros((40, 2))
    with pytest.raises(SchemaError, match="did you mean 'X_pca'"):
        embed.latent(adata, "X_pcs")
    adata.obsm["X_pca"][3, 1] = np.nan
    with pytest.raises(SchemaError, match="NaN"):
        embed.latent(adata, "X_pca")
    adata.obsm["X_cube"] = np.zeros((40, 2, 2))
    with pytest.raises(SchemaError, match=r"shape \(40, 2, 2\)"):
        embed.latent(adata, "X_cube")


@settings(deadline=None, max_examples=20)
@given(seed=st.integers(0, 100))
def test_order_of_genes_and_cells_carries_through(seed):
    rng = np.random.default_rng(seed)
    adata = cells(25, 10, seed)
    encoder = encoders.build("pca", dims=3).fit(adata)
    rows, columns = rng.permutation(25), rng.permutation(10)
    shuffled = adata[rows][:, columns].copy()
    for data in (adata, shuffled):
        embed.cells(data, encoder)
        embed.panel(data, ["gene03", "gene07"])
    for slot in ("X_embed", "X_panel"):
        np.testing.assert_allclose(shuffled.obsm[slot], adata.obsm[slot][rows], rtol=1e-5, atol=1e-5)


@pytest.mark.filterwarnings("ignore:Writing zarr v2 data:UserWarning")  # anndata, about its own default
@pytest.mark.parametrize("suffix", ["h5ad", "zarr"])
def test_annotations_survive_the_disk(tmp_path, suffix):
    adata = cells()
    embed.cells(adata, "pca")
    embed.panel(adata, ["gene03", "gene07"])
    path = tmp_path / f"cells.{suffix}"
    adata.write_h5ad(path) if suffix == "h5ad" else adata.write_zarr(path)
    again = ad.read_h5ad(path) if suffix == "h5ad" else ad.read_zarr(path)
    assert list(again.uns["embryo"]["panel"]) == ["gene03", "gene07"]
    record = again.uns["embryo"]["embeddings"]["X_embed"]
    assert (record["encoder"], int(record["dims"]), int(record["genes_used"])) == ("pca", 15, 15)
