"""Bins: the golden values of scGPT, hand-counted ties, and the laws that hold for any cell."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from embryo.core.errors import ConfigError
from embryo.encoders.inputs.binning import Binning, Ties

rows = st.lists(st.integers(0, 9), min_size=1, max_size=60).map(lambda v: np.array(v, dtype=float))
kinds = st.sampled_from(list(Ties))
few = st.integers(3, 60)


def draws(n: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).random(n)


def test_bins_are_those_of_scgpt(real_folder: Callable[[str], Path]) -> None:
    """No two values of a golden cell tie, so that nothing is drawn."""
    with np.load(real_folder("foundation-golden") / "golden_tiny" / "scgpt" / "golden.npz") as kept:
        levels, values = kept["X"], kept["values"]
    for row, expected in zip(levels, values, strict=True):
        got = Binning(51).bins(row.astype(float), draws(len(row)))
        np.testing.assert_array_equal(got[got > 0], expected[1 : 1 + np.count_nonzero(row)])


def test_ties_spread_over_their_bins() -> None:
    """All values but the greatest are 1: of the edges at quantiles 0, 1/9, ... 1, nine are 1, so a 1 takes 1 to 9."""
    row = np.array([1.0] * 2000 + [5.0])
    got = Binning(11).bins(row, draws(len(row)))
    assert got[-1] == 10
    counts = np.bincount(got[:-1], minlength=10)[1:]
    assert counts.sum() == 2000
    assert np.abs(counts - 2000 / 9).max() < 60  # 4 standard deviations of a bin


@pytest.mark.parametrize(("ties", "expected"), [(Ties.LOWER, [1, 1, 1, 3]), (Ties.UPPER, [2, 2, 2, 3])])
def test_one_side_takes_one_bin(ties: Ties, expected: list[int]) -> None:
    """Edges of 1, 1, 1, 2 for 4 bins are its quantiles 0, 1/2, 1: 1, 1, 2."""
    np.testing.assert_array_equal(Binning(4, ties).bins(np.array([1.0, 1, 1, 2]), draws(4)), expected)


def test_nothing_found_is_all_zero() -> None:
    assert Binning().bins(np.zeros(3), draws(3)).tolist() == [0, 0, 0]
    assert Binning().bins(np.zeros(0), draws(0)).tolist() == []


@given(rows, kinds, few)
def test_bins_lie_in_their_range_and_zero_stays(row: np.ndarray, ties: Ties, n_bins: int) -> None:
    got = Binning(n_bins, ties).bins(row, draws(len(row)))
    assert ((got == 0) == (row == 0)).all()
    assert got.max() <= n_bins - 1
    if row.any() and ties is Ties.UPPER:
        assert got[row == row.max()].max() == n_bins - 1


@given(rows, kinds, few)
def test_a_greater_value_takes_no_lower_bin(row: np.ndarray, ties: Ties, n_bins: int) -> None:
    got = Binning(n_bins, ties).bins(row, draws(len(row)))
    greater = row[:, None] > row[None]
    assert (got[:, None] >= got[None])[greater].all()


@given(rows, kinds, st.permutations(range(60)))
def test_the_order_of_genes_does_not_matter(row: np.ndarray, ties: Ties, order: list[int]) -> None:
    moved = np.array([k for k in order if k < len(row)])
    chance = draws(len(row))
    binning = Binning(7, ties)
    np.testing.assert_array_equal(binning.bins(row[moved], chance[moved]), binning.bins(row, chance)[moved])


@given(rows, kinds)
def test_depth_does_not_matter(row: np.ndarray, ties: Ties) -> None:
    """Quantiles scale with the values; doubling is exact in floating point."""
    chance = draws(len(row))
    np.testing.assert_array_equal(Binning(9, ties).bins(2 * row, chance), Binning(9, ties).bins(row, chance))


def test_two_bins_are_too_few() -> None:
    with pytest.raises(ConfigError, match="2 bins; expected 3 or more"):
        Binning(2)
