"""Rank encoding against upstream's formula written out cell by cell, and against hand-computed cells."""

import json
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import sparse

from embryo.core.edit import Edit, Operation
from embryo.core.errors import EditError, StoreError
from embryo.encoders.inputs import ranking
from embryo.encoders.inputs.ranking import Vocabulary
from embryo.encoders.inputs.tokens import Profiles, Tokens

GENES = tuple(f"ENSG{k:011d}" for k in range(8))


def vocabulary(medians=None, n=8):
    medians = np.arange(1.0, n + 1) if medians is None else np.asarray(medians, float)
    return Vocabulary(GENES[:n], np.arange(2, n + 2), medians, {"<pad>": 0, "<mask>": 1})


def profiles(counts, total=None):
    counts = np.atleast_2d(np.asarray(counts, float))
    total = counts.sum(1) if total is None else np.asarray(total, float)
    return Profiles(sparse.csr_array(counts), total, np.arange(len(counts), dtype=np.uint64))


def upstream(counts, total, medians, ids):
    """One cell as the guide writes it: argsort of the negated values of the nonzero genes."""
    nonzero = np.nonzero(counts)[0]
    values = counts[nonzero] / total * 10_000 / medians[nonzero]
    return ids[nonzero][np.argsort(-values, kind="stable")]


counted = st.lists(st.lists(st.integers(0, 30), min_size=8, max_size=8), min_size=1, max_size=5)
levels = st.lists(st.floats(0.05, 50), min_size=8, max_size=8)


@given(counts=counted, medians=levels, elsewhere=st.integers(0, 500))
def test_it_is_the_formula(counts, medians, elsewhere):
    cells = profiles(counts, np.sum(counts, axis=1) + elsewhere)
    words = vocabulary(medians)
    tokens = ranking.tokenize(cells, words, 8)
    for k, cell in enumerate(np.asarray(counts, float)):
        np.testing.assert_array_equal(tokens.ids[k], upstream(cell, cells.total[k], words.medians, words.ids))
        np.testing.assert_array_equal(words.ids[tokens.columns[k]], tokens.ids[k])


@given(counts=counted, medians=levels, depth=st.lists(st.integers(1, 1000), min_size=5, max_size=5))
def test_depth_cancels(counts, medians, depth):
    counts = np.asarray(counts, float)
    deeper = counts * np.array(depth, float)[: len(counts), None]
    one, two = (ranking.tokenize(profiles(c), vocabulary(medians), 8) for c in (counts, deeper))
    for a, b in zip(one.ids, two.ids, strict=True):
        np.testing.assert_array_equal(a, b)


@given(counts=counted, medians=levels, seed=st.integers(0, 99))
def test_the_order_of_genes_does_not_matter(counts, medians, seed):
    """Columns in another order, each gene with its token: the same tokens, ties included."""
    order = np.random.default_rng(seed).permutation(8)
    words = vocabulary(medians)
    shuffled = Vocabulary(
        tuple(np.array(GENES)[order]), words.ids[order], words.medians[order], words.special, words.symbols
    )
    one = ranking.tokenize(profiles(counts), words, 8)
    two = ranking.tokenize(profiles(np.asarray(counts)[:, order]), shuffled, 8)
    for a, b in zip(one.ids, two.ids, strict=True):
        np.testing.assert_array_equal(a, b)


def test_ties_go_by_token_and_the_lowest_are_cut():
    words = vocabulary([2.0, 1.0, 4.0, 1.0, 1, 1, 1, 1])
    tokens = ranking.tokenize(profiles([6, 3, 12, 9, 0, 0, 0, 1]), words, 4)
    np.testing.assert_array_equal(tokens.ids[0], [5, 2, 3, 4])  # 9, then 3, 3, 3; the 1 is cut
    framed = ranking.tokenize(profiles([6, 3, 12, 9, 0, 0, 0, 1]), words, 5, start=20, end=30)
    np.testing.assert_array_equal(framed.ids[0], [20, 5, 2, 3, 30])
    np.testing.assert_array_equal(framed.columns[0], [-1, 3, 0, 1, -1])


def test_cells_without_counts_have_special_tokens_only():
    counts = np.zeros((3, 8))
    counts[1, 2] = 4
    tokens = ranking.tokenize(profiles(counts), vocabulary(), 8, start=9, end=10)
    assert [list(ids) for ids in tokens.ids] == [[9, 10], [9, 4, 10], [9, 10]]
    assert ranking.tokenize(profiles(np.zeros((0, 8))), vocabulary(), 8).ids == ()


def test_stored_zeros_are_not_found():
    counts = sparse.csr_array((np.array([0.0, 2.0]), np.array([1, 3]), np.array([0, 2])), shape=(1, 8))
    tokens = ranking.tokenize(Profiles(counts, np.array([2.0]), np.zeros(1, np.uint64)), vocabulary(), 8)
    assert tokens.columns[0].tolist() == [3]


# ---------------------------------------------------------------- real dictionaries


def test_real_medians_by_hand(real_folder):
    """Ten counts each of four genes: the order is that of their medians, the lowest first."""
    folder = real_folder("foundation-vocabularies") / "geneformer_v1"
    words = Vocabulary.find(folder, 25_426)
    assert len(words) == 25_426
    assert words.special == {"<pad>": 0, "<mask>": 1}
    genes = [words.symbols[name] for name in ("NKX2-5", "GATA4", "ACTB", "TTN")]
    medians = json.loads((folder / "gene_median_dictionary.json").read_text())
    dictionary = json.loads((folder / "token_dictionary.json").read_text())
    counts = np.zeros(len(words.genes))
    counts[[words.genes.index(g) for g in genes]] = 10
    tokens = ranking.tokenize(profiles(counts, [12_345.0]), words, 2048)
    assert tokens.ids[0].tolist() == [dictionary[g] for g in sorted(genes, key=medians.__getitem__)]
    assert words.genes[tokens.columns[0][-1]] == max(genes, key=medians.__getitem__)


def test_real_maxtoki_dictionary(real_folder):
    folder = real_folder("foundation-vocabularies") / "maxtoki_v1"
    words = Vocabulary.find(folder, 20_275)
    assert words.special == {"<pad>": 0, "<mask>": 1, "<bos>": 2, "<eos>": 3}
    assert (len(words), words.symbols) == (20_275, None)
    with pytest.raises(StoreError, match="20,275 tokens for an embedding of 20,276 rows"):
        Vocabulary.find(folder, 20_276)


# ---------------------------------------------------------------- edits of tokens


def cell(*columns):
    columns = np.array(columns)
    return Tokens((columns + 2,), (columns,))


def columns(tokens):
    return tokens.columns[0].tolist()


def test_knockout_takes_the_token_out():
    new, old = ranking.edited(cell(4, 1, 3), [(Operation.KNOCKOUT, 1, 3)], 8)
    assert columns(new) == [4, 3]
    assert columns(old) == [4, 1, 3]
    same, _ = ranking.edited(cell(4, 3), [(Operation.KNOCKOUT, 1, 3)], 8)
    assert columns(same) == [4, 3]
    assert same.ids[0].tolist() == [6, 5]


def test_overexpression_moves_or_brings_to_the_front():
    assert columns(ranking.edited(cell(4, 1, 3), [(Operation.OVEREXPRESS, 3, 5)], 3)[0]) == [3, 4, 1]
    new, old = ranking.edited(cell(4, 1, 3), [(Operation.OVEREXPRESS, 0, 2)], 4)
    assert (columns(new), columns(old)) == ([0, 4, 1, 3], [4, 1, 3])


def test_a_full_cell_makes_room_and_is_compared_at_equal_positions():
    new, old = ranking.edited(cell(4, 1, 3), [(Operation.OVEREXPRESS, 0, 2)], 3)
    assert (columns(new), columns(old)) == ([0, 4, 1], [4, 1])
    framed = Tokens((np.array([2, 6, 3, 5, 3]),), (np.array([-1, 4, 1, 3, -1]),))
    new, old = ranking.edited(framed, [(Operation.OVEREXPRESS, 0, 2)], 5)
    assert (columns(new), columns(old)) == ([-1, 0, 4, 1, -1], [-1, 4, 1, -1])
    assert new.ids[0].tolist() == [2, 2, 6, 3, 3]


def test_edits_are_done_in_turn():
    edits = [(Operation.OVEREXPRESS, 3, 5), (Operation.KNOCKOUT, 4, 6), (Operation.OVEREXPRESS, 7, 9)]
    assert columns(ranking.edited(cell(4, 1, 3), edits, 8)[0]) == [7, 3, 1]


def test_ranks_know_two_operations():
    edits = [Edit("A", Operation.CLAMP, 1.0), Edit("B"), Edit("C", Operation.KNOCKDOWN, 0.5)]
    with pytest.raises(EditError) as error:
        ranking.require_native(edits, model="geneformer")
    assert len(error.value.problems) == 2
    assert "clamp A" in str(error.value)


# ---------------------------------------------------------------- dictionaries


def write(folder, tokens, medians, ending=""):
    folder.mkdir(exist_ok=True)
    (folder / f"token_dictionary{ending}.json").write_text(json.dumps(tokens))
    (folder / f"gene_median_dictionary{ending}.json").write_text(json.dumps(medians))
    return folder


GOOD = {"<pad>": 0, "<mask>": 1, "B": 3, "A": 2}


def test_dictionaries_lie_in_the_folder_or_beside_it(tmp_path):
    weights = tmp_path / "weights"
    weights.mkdir()
    write(tmp_path, GOOD, {"A": 1.0, "B": 2.0, "unused": -1}, "_gc104M")
    write(tmp_path, {"<pad>": 0, "A": 1}, {"A": 9.0}, "_gc30M")
    words = Vocabulary.find(weights, 4)
    assert words.genes == ("A", "B")
    assert words.ids.tolist() == [2, 3]
    assert words.medians.tolist() == [1.0, 2.0]
    assert Vocabulary.find(weights, 2).medians.tolist() == [9.0]
    with pytest.raises(StoreError, match="without <cls>"):
        words.token("<cls>", subject="weights")


@pytest.mark.parametrize(
    ("tokens", "medians", "says"),
    [
        (GOOD | {"B": 2}, {"A": 1, "B": 1}, "not 0, 1, 2"),
        (GOOD | {"B": "3x"}, {"A": 1, "B": 1}, "not 0, 1, 2"),
        (GOOD, {"A": 1}, "1 genes without a positive median: B"),
        (GOOD, {"A": 1, "B": 0}, "1 genes without a positive median: B"),
        (GOOD, {"A": 1, "B": "x"}, "1 genes without a positive median: B"),
        (GOOD, [1], "holds no mapping"),
        ([1, 2, 3, 4], {}, "0 tokens for an embedding of 4 rows"),
    ],
)
def test_damaged_dictionaries_are_named(tmp_path, tokens, medians, says):
    with pytest.raises(StoreError, match=says):
        Vocabulary.find(write(tmp_path, tokens, medians), 4)


def test_everything_wrong_with_a_dictionary_at_once(tmp_path):
    with pytest.raises(StoreError) as error:
        Vocabulary.find(write(tmp_path, GOOD | {"B": 7}, {"A": 1}), 4)
    assert len(error.value.problems) == 2


def test_a_pickle_is_not_opened_and_the_line_that_converts_it_works(tmp_path):
    """The line that the error prints, run in another interpreter, makes what is then read."""
    write(tmp_path, GOOD, {})
    make = "import pickle, sys; pickle.dump({}, open(sys.argv[1], 'wb'))"
    for name, content in (("token_dictionary_x", GOOD), ("gene_median_dictionary_x", {"A": 1.5, "B": 2.5})):
        subprocess.run([sys.executable, "-c", make.format(content), tmp_path / f"{name}.pkl"], check=True)
    for name in ("token_dictionary", "gene_median_dictionary"):
        (tmp_path / f"{name}.json").unlink()
    for _ in range(2):
        with pytest.raises(StoreError, match=r"never opens one; .* in an interpreter of your own: python -c") as error:
            Vocabulary.find(tmp_path, 4)
        line = str(error.value).split("of your own: python ")[1].rstrip(".")
        subprocess.run(f'"{sys.executable}" {line}', shell=True, cwd=tmp_path, check=True)  # noqa: S602  our own line
    assert Vocabulary.find(tmp_path, 4).medians.tolist() == [1.5, 2.5]


def test_nothing_at_all_says_what_is_needed(tmp_path):
    with pytest.raises(StoreError, match=r"no token_dictionary\*.json in the folder of weights or beside it"):
        Vocabulary.find(tmp_path, 4)
