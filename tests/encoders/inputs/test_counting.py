import numpy as np
import pandas as pd
import pytest
from anndata import AnnData
from hypothesis import given
from hypothesis import strategies as st
from scipy import sparse

from embryo.core import schema
from embryo.core.edit import Edit, Operation
from embryo.core.errors import SchemaError
from embryo.encoders.genes.genemap import GeneMap, map_genes
from embryo.encoders.inputs import counting
from embryo.encoders.inputs.tokens import Profiles

GENES = ["A", "B", "C", "D"]


def cells(counts: list[list[float]] | np.ndarray) -> AnnData:
    matrix = sparse.csr_matrix(np.asarray(counts, float))
    names = [f"c{i}" for i in range(matrix.shape[0])]
    meta = {"embryo": {"expression": "counts"}}
    return AnnData(
        matrix, pd.DataFrame(index=names), pd.DataFrame(index=GENES), uns=meta, layers={"counts": matrix.copy()}
    )


def mapped(adata: AnnData, targets: list[str] = GENES) -> tuple[Profiles, GeneMap]:
    gene_map = map_genes(adata.var, targets, ids="symbol", min_coverage=0.1)
    ((_, block),) = counting.blocks(adata)
    return counting.profiles(block, gene_map), gene_map


def levels(held: Profiles) -> np.ndarray:
    return np.log1p(held.counts.toarray() / held.total[:, None] * schema.TARGET_SUM)


def test_blocks_are_the_matrix_cut_in_rows():
    counts = np.arange(20.0).reshape(5, 4)
    parts = list(counting.blocks(cells(counts), size=2))
    assert [(rows.start, rows.stop) for rows, _ in parts] == [(0, 2), (2, 4), (4, 5)]
    np.testing.assert_array_equal(np.vstack([block.toarray() for _, block in parts]), counts)


def test_counts_may_stand_in_x():
    adata = cells([[1, 2, 3, 4]])
    del adata.layers["counts"]
    ((_, block),) = counting.blocks(adata)
    assert block.toarray().tolist() == [[1, 2, 3, 4]]


@pytest.mark.parametrize("value", [0.5, -1.0, np.nan, np.inf])
def test_a_value_that_is_no_count_is_named_with_its_cell(value):
    adata = cells([[1, 2, 3, 4], [1, value, 3, 4]])
    with pytest.raises(SchemaError, match=r"1 values that are no counts, .*in cells c1"):
        list(counting.blocks(adata))


@pytest.mark.parametrize("kind", ["log1p", "relative"])
def test_values_that_are_declared_normalised_are_refused_though_whole(kind):
    adata = cells([[1, 2, 3, 4]])
    adata.uns["embryo"] = {"expression": kind}
    with pytest.raises(SchemaError, match=f"expression of kind '{kind}'; expected raw counts"):
        list(counting.blocks(adata))


def test_the_library_size_is_over_all_genes_measured():
    held, _ = mapped(cells([[1, 2, 3, 4]]), ["C", "A", "unheard"])
    assert held.counts.toarray().tolist() == [[3, 1, 0]]
    assert held.total.tolist() == [10]


dose = st.floats(0.01, 5.0)


@given(st.lists(st.lists(st.integers(0, 50), min_size=4, max_size=4), min_size=1, max_size=6), dose, st.integers(0, 3))
def test_each_operation_moves_its_gene_as_its_words_say_and_no_other(counts, dose, column):
    table = np.asarray(counts, float) + np.eye(4)[(column + 1) % 4]  # no empty cell
    held, gene_map = mapped(cells(table))
    before, gene = levels(held), GENES[column]
    share = min(dose / 5, 1.0)
    expected = {
        Edit(gene): np.zeros(len(table)),
        Edit(gene, Operation.KNOCKDOWN, share): np.log1p(np.expm1(before[:, column]) * share),
        Edit(gene, Operation.OVEREXPRESS, dose): before[:, column] + dose,
        Edit(gene, Operation.CLAMP, dose): np.full(len(table), dose),
    }
    others = [k for k in range(4) if k != column]
    for edit, level in expected.items():
        edited = counting.edit(held, [edit], gene_map)
        np.testing.assert_allclose(levels(edited)[:, column], level, rtol=1e-9, atol=1e-9)
        np.testing.assert_array_equal(edited.counts.toarray()[:, others], table[:, others])
        np.testing.assert_array_equal(edited.keys, held.keys)
    np.testing.assert_array_equal(held.counts.toarray(), table)


def test_a_double_edit_has_one_order():
    held, gene_map = mapped(cells([[5, 2, 3, 4]]))
    edits = [Edit("A", Operation.OVEREXPRESS, 1.0), Edit("A"), Edit("B", Operation.CLAMP, 2.0)]
    one, other = counting.edit(held, edits, gene_map), counting.edit(held, edits[::-1], gene_map)
    np.testing.assert_array_equal(one.counts.toarray(), other.counts.toarray())
    np.testing.assert_allclose(levels(one)[0, :2], [1.0, 2.0])


def test_only_the_carriers_are_edited():
    held, gene_map = mapped(cells([[5, 2, 3, 4], [6, 2, 3, 4]]))
    edited = counting.edit(held, [Edit("A")], gene_map, np.array([[False, True]]))
    assert edited.counts.toarray()[:, 0].tolist() == [5, 0]


def test_a_gene_that_is_absent_or_not_read_changes_nothing():
    held, gene_map = mapped(cells([[5, 0, 3, 4]]), ["A", "B", "C"])
    assert counting.edit(held, [Edit("B"), Edit("D")], gene_map).counts is held.counts


def test_an_edit_is_carried_by_its_cells_at_its_times():
    adata = cells(np.ones((4, 4)))
    adata.obs["cell_type"], adata.obs["time"] = ["gut", "gut", "skin", "skin"], [0.0, 5.0, 0.0, 5.0]
    edits = [Edit("A"), Edit("A", cell_type="gut"), Edit("A", t_on_h=1.0, t_off_h=5.1), Edit("A", fraction=0.0)]
    assert counting.carriers(adata, edits, seed=0).tolist() == [
        [True, True, True, True],
        [True, True, False, False],
        [False, True, False, True],
        [False, False, False, False],
    ]
    del adata.obs["cell_type"]
    with pytest.raises(SchemaError, match="an edit of gut cells for cells without a type"):
        counting.carriers(adata, edits, seed=0)


def test_a_mosaic_does_not_hang_on_the_other_cells():
    adata = cells(np.ones((400, 4)))
    whole = counting.carriers(adata, [Edit("A", fraction=0.3)], seed=2)[0]
    assert 0.2 < whole.mean() < 0.4
    part = counting.carriers(adata[100:110], [Edit("A", fraction=0.3)], seed=2)[0]
    np.testing.assert_array_equal(part, whole[100:110])
    assert (counting.carriers(adata, [Edit("A", fraction=0.3)], seed=3)[0] != whole).any()
