import anndata as ad
import numpy as np
import pytest
import scanpy as sc
from hypothesis import given, settings
from hypothesis import strategies as st

from embryo.core.encoder import Encoder
from embryo.core.errors import SchemaError, StaleError
from embryo.encoders.hvg import HVG, rank
from embryo.encoders.inputs import normalise


def test_it_is_an_encoder():
    assert isinstance(HVG(3), Encoder)


def test_few_genes_are_ranked_by_dispersion(cells):
    adata = cells(genes=20)
    levels = np.expm1(normalise.log1p_normalised(adata).toarray())
    dispersion = levels.var(0, ddof=1) / levels.mean(0)
    assert rank(adata) == list(adata.var_names[np.argsort(-dispersion)])


def test_a_gene_that_varies_at_its_level_leads_and_a_constant_one_comes_last(cells):
    rng = np.random.default_rng(0)
    adata = cells(200, 60, kind="relative", dense=True)
    adata.X = rng.gamma(20, 0.1, adata.shape)
    adata.X[:, 17] = np.where(rng.random(200) < 0.5, 0.1, 4.0)
    adata.X[:, 3] = 2.0
    order = rank(adata)
    assert order[0] == "gene017"
    assert order[-1] == "gene003"
    assert sorted(order) == sorted(adata.var_names)


def test_many_genes_are_compared_with_genes_of_their_level(cells):
    adata = cells(100, 800)
    values = normalise.log1p_normalised(adata).toarray()
    table = sc.pp.highly_variable_genes(ad.AnnData(values), flavor="seurat", n_bins=20, inplace=False)
    assert rank(adata)[:40] == list(adata.var_names[np.argsort(-table["dispersions_norm"].to_numpy())[:40]])


@pytest.mark.parametrize("as_dense", [True, False])
def test_fitted_cells_are_standardised_and_decode_is_exact(cells, as_dense):
    adata = cells(dense=as_dense)
    encoder = HVG(6).fit(adata)
    z = encoder.encode(adata)
    np.testing.assert_allclose(z.mean(0), 0, atol=1e-10)
    np.testing.assert_allclose(z.std(0), 1)
    whole = normalise.log1p_normalised(cells(dense=True))
    where = [list(adata.var_names).index(g) for g in encoder.genes]
    np.testing.assert_allclose(encoder.decode(z), whole[:, where], atol=1e-10)


@settings(deadline=None, max_examples=25)
@given(seed=st.integers(0, 20))
def test_order_of_genes_and_extra_genes_do_not_matter(cells, seed):
    rng = np.random.default_rng(seed)
    adata = cells(30, 12, seed)
    shuffled = adata[:, rng.permutation(12)].copy()
    encoder = HVG(4).fit(adata)
    assert HVG(4).fit(shuffled).genes == encoder.genes
    np.testing.assert_allclose(encoder.encode(shuffled), encoder.encode(adata), atol=1e-9)
    part = HVG(4).fit(adata[:, :9].copy())
    np.testing.assert_allclose(part.encode(adata), part.encode(adata[:, :9].copy()), atol=1e-9)


def test_response_is_the_derivative_of_encode(cells):
    adata = cells(kind="relative", dense=True)
    encoder = HVG(4).fit(adata)
    gene = encoder.genes[2]
    moved = adata.copy()
    moved.X[:, moved.var_names.get_loc(gene)] += 0.5
    change = encoder.encode(moved) - encoder.encode(adata)
    np.testing.assert_allclose(change / 0.5, np.broadcast_to(encoder.response([gene]), change.shape), atol=1e-5)
    assert not encoder.response(["not a gene"]).any()


def test_a_constant_gene_embeds_as_zero(cells):
    adata = cells(kind="relative", dense=True)
    adata.X[:, 0] = 5.0
    encoder = HVG(adata.n_vars).fit(adata)
    np.testing.assert_array_equal(encoder.encode(adata)[:, encoder.genes.index("gene000")], 0)


def test_bad_requests(cells):
    adata = cells(10, 6)
    with pytest.raises(SchemaError, match="6 genes for 7 dimensions"):
        HVG(7).fit(adata)
    with pytest.raises(StaleError, match="before fit"):
        HVG(2).decode(np.zeros((1, 2)))
    with pytest.raises(SchemaError, match="1 of 6 genes missing: gene000"):
        HVG(2).fit(adata).encode(adata[:, 1:].copy())
