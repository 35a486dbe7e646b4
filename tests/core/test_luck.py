import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from embryo.core.luck import KeyedRandom, Purpose
from embryo.core.pedigree import founders

CELLS = founders(4000)


def test_numbers_are_uniform_and_normal() -> None:
    """Against scipy's Kolmogorov-Smirnov test, over consecutive cells, as they are used."""
    random = KeyedRandom(3)
    u = random.uniform(Purpose.CYCLE, 0, CELLS, 3)
    assert u.min() > 0
    assert u.max() < 1
    for column in u.T:
        assert stats.kstest(column, "uniform").pvalue > 1e-3
    assert stats.kstest(random.normal(Purpose.MOTION, 5, CELLS, 3).ravel(), "norm").pvalue > 1e-3


def test_neighbouring_keys_are_independent() -> None:
    """Correlation between purposes, steps, seeds, columns and adjacent cells stays within five standard errors."""
    here = KeyedRandom(0).normal(Purpose.EXPRESSION, 7, CELLS, 2)
    others = [
        KeyedRandom(0).normal(Purpose.MOTION, 7, CELLS, 2)[:, 0],
        KeyedRandom(0).normal(Purpose.EXPRESSION, 8, CELLS, 2)[:, 0],
        KeyedRandom(1).normal(Purpose.EXPRESSION, 7, CELLS, 2)[:, 0],
        KeyedRandom(0).normal(Purpose.EXPRESSION, 7, CELLS + 1, 2)[:, 0],
        here[:, 1],
        np.roll(here[:, 0], 1),
    ]
    for other in others:
        assert abs(np.corrcoef(here[:, 0], other)[0, 1]) < 5 / np.sqrt(len(CELLS))


@given(st.integers(0, 2**31), st.integers(0, 300), st.integers(1, 20))
def test_a_number_depends_on_its_cell_only(seed: int, step: int, columns: int) -> None:
    random = KeyedRandom(seed)
    rows = np.array([5, 0, 3])
    whole = random.uniform(Purpose.MOSAIC, step, CELLS[:8], columns)
    np.testing.assert_array_equal(random.uniform(Purpose.MOSAIC, step, CELLS[rows], columns), whole[rows])
