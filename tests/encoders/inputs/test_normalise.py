import numpy as np
import pytest
import scanpy as sc
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse

from embryo.core.errors import SchemaError
from embryo.encoders.inputs import normalise


def dense(values):
    return values.toarray() if sparse.issparse(values) else values


@pytest.mark.parametrize("as_dense", [True, False])
def test_counts_are_scaled_to_one_library_size(cells, as_dense):
    adata = cells(dense=as_dense)
    before = dense(adata.layers["counts"]).copy()
    found = normalise.log1p_normalised(adata)
    assert sparse.issparse(found) != as_dense
    np.testing.assert_allclose(np.expm1(dense(found)).sum(axis=1), 1e4)
    np.testing.assert_allclose(dense(found), np.log1p(before / before.sum(1, keepdims=True) * 1e4))
    np.testing.assert_array_equal(dense(adata.layers["counts"]), before)


def test_the_reference_is_scanpy(cells):
    adata = cells()
    expected = adata.copy()
    sc.pp.normalize_total(expected, target_sum=1e4)
    sc.pp.log1p(expected)
    np.testing.assert_allclose(normalise.log1p_normalised(adata).toarray(), expected.X.toarray(), rtol=1e-6)


@settings(deadline=None, max_examples=25)
@given(seed=st.integers(0, 100), depth=st.lists(st.integers(1, 50), min_size=12, max_size=12))
def test_depth_does_not_matter(cells, seed, depth):
    adata = cells(12, 8, seed)
    deeper = adata.copy()
    deeper.layers["counts"] = sparse.csr_matrix(sparse.diags_array(np.array(depth, float)) @ adata.layers["counts"])
    np.testing.assert_allclose(
        normalise.log1p_normalised(deeper).toarray(), normalise.log1p_normalised(adata).toarray(), rtol=1e-12
    )


@pytest.mark.parametrize("kind", ["log1p", "relative"])
def test_other_kinds_pass_through(cells, kind):
    adata = cells(kind=kind)
    np.testing.assert_array_equal(normalise.log1p_normalised(adata).toarray(), adata.X.toarray())


def test_a_cell_without_counts_stays_zero(cells):
    adata = cells(dense=True)
    adata.layers["counts"][3] = 0
    found = normalise.log1p_normalised(adata)
    assert (found[3] == 0).all()
    assert np.isfinite(found).all()


def test_other_genes_do_not_change_the_library(cells):
    adata = cells()
    genes = list(adata.var_names[[4, 2, 9]])
    np.testing.assert_allclose(
        normalise.log1p_normalised(adata, genes).toarray(),
        normalise.log1p_normalised(adata[:, genes].copy()).toarray(),
    )


def test_kind_must_be_stated(cells):
    adata = cells()
    del adata.uns["embryo"]["expression"]
    with pytest.raises(SchemaError, match="expression of kind None"):
        normalise.log1p_normalised(adata)


def test_counts_layer_must_exist(cells):
    adata = cells()
    del adata.layers["counts"]
    with pytest.raises(SchemaError, match=r"without layers\['counts'\]"):
        normalise.log1p_normalised(adata)


def test_bad_values_are_reported_together(cells):
    adata = cells(dense=True)
    adata.layers["counts"][0, :3] = -1
    adata.layers["counts"][1, 0] = np.nan
    with pytest.raises(SchemaError) as error:
        normalise.log1p_normalised(adata)
    assert "1 values that are NaN" in str(error.value)
    assert "3 negative counts" in str(error.value)


def test_missing_genes_are_counted_and_named_with_the_near_miss(cells):
    adata = cells()
    with pytest.raises(SchemaError, match=r"2 of 3 genes missing: Gene_004 \(did you mean 'gene004'\?\), nothing;"):
        normalise.positions(adata, ["gene001", "Gene_004", "nothing"])


def test_many_missing_genes_are_counted(cells):
    with pytest.raises(SchemaError, match=r"30 of 30 genes missing: .* and 10 more"):
        normalise.positions(cells(), [f"absent{i}" for i in range(30)])


def test_double_gene_names_are_refused(cells):
    adata = cells(genes=4)
    adata.var_names = ["a", "b", "b", "c"]
    with pytest.raises(SchemaError, match="1 double gene names: b"):
        normalise.positions(adata, ["a"])
