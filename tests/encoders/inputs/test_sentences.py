"""Cell sentences against scanpy's normalisation and numpy's least squares."""

import numpy as np
import pytest
import scanpy as sc
from anndata import AnnData
from hypothesis import given
from hypothesis import strategies as st
from scipy import sparse

from embryo.core.errors import SchemaError
from embryo.encoders.inputs import sentences
from embryo.encoders.inputs.sentences import RankLine
from embryo.encoders.inputs.tokens import Profiles

WORDS = [f"GENE{k}" for k in range(9)]
HASHES = sentences.hashed(WORDS)


def profiles(counts):
    counts = np.atleast_2d(np.asarray(counts, float))
    cells = Profiles(sparse.csr_array(counts), counts.sum(1) + 7, np.zeros(len(counts), np.uint64))
    return Profiles(cells.counts, cells.total, sentences.keys(cells, HASHES))


counted = st.lists(st.lists(st.integers(0, 4), min_size=9, max_size=9), min_size=1, max_size=4)


@given(counts=counted, seed=st.integers(0, 3), k=st.integers(1, 9))
def test_the_most_expressed_come_first(counts, seed, k):
    counts = np.asarray(counts, np.float64) + (np.arange(9) == 8)  # scanpy warns of empty cells
    cells = profiles(counts)
    scaled = AnnData(counts.copy())
    sc.pp.normalize_total(scaled, target_sum=1e4)
    for level, columns in zip(np.log10(1 + scaled.X), sentences.order(cells, HASHES, seed, k), strict=True):
        assert len(columns) == min(k, np.count_nonzero(level)) == len(set(columns))
        np.testing.assert_array_equal(level[columns], np.sort(level)[::-1][: len(columns)])


@given(counts=counted, seed=st.integers(0, 9), depth=st.integers(1, 50))
def test_neither_columns_nor_depth_change_a_sentence(counts, seed, depth):
    order = np.random.default_rng(seed).permutation(9)
    cells = profiles(counts)
    turned = Profiles(cells.counts[:, order], cells.total, cells.keys)
    turned = Profiles(turned.counts, turned.total, sentences.keys(turned, HASHES[order]))
    deeper = Profiles(cells.counts * depth, cells.total * depth, cells.keys)
    deeper = Profiles(deeper.counts, deeper.total, sentences.keys(deeper, HASHES))
    one, two, three = (
        [[words[c] for c in columns] for columns in sentences.order(which, sentences.hashed(words), seed, 9)]
        for which, words in ((cells, WORDS), (turned, [WORDS[k] for k in order]), (deeper, WORDS))
    )
    assert one == two == three


def test_ties_are_drawn_evenly_and_by_the_seed():
    """Among three tied genes every order comes about equally often; another seed draws another order."""
    cells = profiles(np.repeat([[0, 2, 2, 2, 0, 0, 0, 0, 1]], 600, axis=0) + np.diag(np.zeros(9))[:1])
    cells = Profiles(cells.counts, cells.total, sentences.hashed([f"cell{k}" for k in range(600)]))
    drawn = [tuple(s[:3]) for s in sentences.order(cells, HASHES, 0, 9)]
    counts = np.unique(drawn, axis=0, return_counts=True)[1]
    assert len(counts) == 6
    assert np.abs(counts - 100).max() < 40  # four standard deviations
    again = [tuple(s[:3]) for s in sentences.order(cells, HASHES, 0, 9)]
    other = [tuple(s[:3]) for s in sentences.order(cells, HASHES, 1, 9)]
    assert drawn == again
    assert 50 < sum(a == b for a, b in zip(drawn, other, strict=True)) < 150


def test_an_edit_of_one_gene_leaves_the_order_of_the_others():
    before = np.array([2, 2, 2, 2, 2, 2, 2, 2, 5])
    cells = profiles(before)
    after = sparse.csr_array(np.where(np.arange(9) == 3, 0, before)[None].astype(float))
    (one,), (two,) = (
        sentences.order(Profiles(c, cells.total, cells.keys), HASHES, 0, 9) for c in (cells.counts, after)
    )
    assert [c for c in one if c != 3] == list(two)


def test_the_line_is_least_squares_and_leads_back():
    """Levels that are a line in log10(rank) come back as they were."""
    rank = np.arange(1, 10)
    level = 10 ** (3.0 - 1.5 * np.log10(rank)) - 1
    cells = profiles(level[None] * 0.5)
    cells = Profiles(cells.counts, np.array([1e4 * 0.5]), cells.keys)
    (order,) = sentences.order(cells, HASHES, 0, 9)
    line = RankLine.fit(cells, [order])
    assert (line.slope, line.intercept, line.r2) == pytest.approx((-1.5, 3.0, 1.0))
    back = line.expression([WORDS[c] for c in order], [w.lower() for w in WORDS])
    np.testing.assert_allclose(back, np.log1p(level), rtol=1e-9)


@given(counts=counted)
def test_the_line_is_that_of_lstsq(counts):
    cells = profiles(counts)
    order = sentences.order(cells, HASHES, 0, 9)
    if max(map(len, order)) < 2:
        with pytest.raises(SchemaError, match="two genes or more"):
            RankLine.fit(cells, order)
        return
    x = np.concatenate([np.log10(np.arange(1, len(o) + 1)) for o in order])
    dense = cells.counts.toarray() / cells.total[:, None] * 1e4
    y = np.concatenate([np.log10(1 + dense[k, o]) for k, o in enumerate(order)])
    slope, intercept = np.linalg.lstsq(np.stack([x, np.ones_like(x)], 1), y, rcond=None)[0]
    line = RankLine.fit(cells, order)
    np.testing.assert_allclose([line.slope, line.intercept], [slope, intercept], atol=1e-8)


def test_words_that_are_no_gene_take_a_rank_and_repeats_their_mean():
    line = RankLine(-1.0, 2.0, 1.0)
    found = line.expression(["A", "the", "B", "A"], ["a", "B", "C"])
    expected = np.array([2 - np.log10(2.5), 2 - np.log10(3), 0]) * np.log(10)
    np.testing.assert_allclose(found, expected)
    assert line.expression(["x"] * 1000 + ["A"], ["A"]) == 0  # never negative
