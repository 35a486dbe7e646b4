import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from embryo.core.encoder import Encoder
from embryo.core.errors import SchemaError, StaleError
from embryo.encoders.inputs import normalise
from embryo.encoders.pca import PCA


def test_it_is_an_encoder():
    assert isinstance(PCA(3), Encoder)


@pytest.mark.parametrize("as_dense", [True, False])
def test_scores_and_variances_are_those_of_the_singular_value_decomposition(cells, as_dense):
    adata = cells(dense=as_dense)
    values = np.asarray(normalise.log1p_normalised(cells(dense=True)))
    u, s, _ = np.linalg.svd(values - values.mean(0), full_matrices=False)
    encoder = PCA(5).fit(adata)
    z = encoder.encode(adata)
    np.testing.assert_allclose(np.abs(z), np.abs(u[:, :5] * s[:5]), atol=1e-8)
    np.testing.assert_allclose(encoder.variance, s[:5] ** 2 / (len(values) - 1), rtol=1e-8)


def test_many_genes_take_the_lanczos_path_and_agree(cells):
    adata = cells(40, 1200)
    values = normalise.log1p_normalised(adata).toarray()
    s = np.linalg.svd(values - values.mean(0), compute_uv=False)
    one, two = PCA(4, seed=0).fit(adata), PCA(4, seed=9).fit(adata)
    np.testing.assert_allclose(one.variance, s[:4] ** 2 / 39, rtol=1e-8)
    np.testing.assert_allclose(one.encode(adata), two.encode(adata), atol=1e-8)


def test_all_components_of_many_genes(cells):
    adata = cells(12, 1200)
    encoder = PCA(12).fit(adata)
    np.testing.assert_allclose(
        encoder.decode(encoder.encode(adata)), normalise.log1p_normalised(adata).toarray(), atol=1e-8
    )


def test_full_rank_decode_returns_the_expression(cells):
    adata = cells(60, 10)
    encoder = PCA(10).fit(adata)
    np.testing.assert_allclose(
        encoder.decode(encoder.encode(adata)), normalise.log1p_normalised(adata).toarray(), atol=1e-8
    )


def test_new_cells_do_not_move_the_fit(cells):
    train, test = cells(seed=1), cells(seed=2)
    encoder = PCA(4).fit(train)
    expected = (normalise.log1p_normalised(test).toarray() - encoder.mean) @ encoder.components.T
    np.testing.assert_allclose(encoder.encode(test), expected, atol=1e-10)
    np.testing.assert_allclose(encoder.encode(train).mean(0), 0, atol=1e-10)


@settings(deadline=None, max_examples=25)
@given(seed=st.integers(0, 50))
def test_order_of_genes_and_extra_genes_do_not_matter(cells, seed):
    rng = np.random.default_rng(seed)
    adata = cells(30, 12, seed)
    shuffled = adata[:, rng.permutation(adata.n_vars)].copy()
    encoder = PCA(3).fit(adata)
    np.testing.assert_allclose(encoder.encode(shuffled), encoder.encode(adata), atol=1e-9)
    np.testing.assert_allclose(PCA(3).fit(shuffled).encode(adata), encoder.encode(adata), atol=1e-6)
    part = PCA(3).fit(adata[:, :9].copy())
    np.testing.assert_allclose(part.encode(adata), part.encode(adata[:, :9].copy()), atol=1e-9)


@settings(deadline=None, max_examples=25)
@given(seed=st.integers(0, 50))
def test_a_cell_is_embedded_alone_as_in_company(cells, seed):
    adata = cells(20, 10, seed)
    order = np.random.default_rng(seed).permutation(20)[:7]
    encoder = PCA(3, seed=seed).fit(adata)
    np.testing.assert_allclose(encoder.encode(adata[order].copy()), encoder.encode(adata)[order], atol=1e-10)
    np.testing.assert_array_equal(PCA(3, seed=seed).fit(adata).encode(adata), encoder.encode(adata))


def test_response_is_the_derivative_of_encode(cells):
    """On log1p values, where a gene can be moved alone."""
    adata = cells(kind="relative", dense=True)
    encoder = PCA(4).fit(adata)
    genes = ["gene007", "gene002"]
    for row, gene in zip(encoder.response(genes), genes, strict=True):
        moved = adata.copy()
        moved.X[:, moved.var_names.get_loc(gene)] += 0.5
        change = encoder.encode(moved) - encoder.encode(adata)
        np.testing.assert_allclose(change / 0.5, np.broadcast_to(row, change.shape), atol=1e-5)
    assert not encoder.response(["not a gene"]).any()


def test_bad_requests(cells):
    adata = cells(10, 6)
    with pytest.raises(SchemaError, match="10 cells by 6 genes for 7 dimensions"):
        PCA(7).fit(adata)
    with pytest.raises(StaleError, match="before fit"):
        PCA(2).encode(adata)
    encoder = PCA(2).fit(adata)
    with pytest.raises(SchemaError, match=r"2 of 6 genes missing: gene000.*, gene001"):
        encoder.encode(adata[:, 2:].copy())
    with pytest.raises(SchemaError, match="expression 'relative' for an encoder fitted on 'counts'"):
        encoder.encode(cells(10, 6, kind="relative"))
