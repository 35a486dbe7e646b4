"""Couplings against dense numpy, and sampling against its own probabilities."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import sparse, stats

from embryo.core.coupling import Coupling
from embryo.core.errors import SchemaError


@st.composite
def plans(draw: st.DrawFn) -> np.ndarray:
    shape = draw(st.tuples(st.integers(1, 6), st.integers(1, 6)))
    entries = st.just(0.0) | st.floats(1e-3, 10)
    return draw(hnp.arrays(np.float64, shape, elements=entries))


def couple(plan: np.ndarray, t0_h: float = 1.0, t1_h: float = 3.0) -> Coupling:
    n, m = plan.shape
    return Coupling(t0_h, t1_h, sparse.csr_array(plan), np.arange(n) + 10, np.arange(m) + 100)


@settings(deadline=None)
@given(plan=plans(), dims=st.sampled_from([(), (3,), (2, 2)]), seed=st.integers(0, 99))
def test_push_and_pull_are_the_means_of_dense_numpy(plan: np.ndarray, dims: tuple[int, ...], seed: int) -> None:
    rng = np.random.default_rng(seed)
    early, late = rng.normal(size=(plan.shape[0], *dims)), rng.normal(size=(plan.shape[1], *dims))
    coupling = couple(plan)
    for carried, weights, values in ((coupling.push(early), plan.T, early), (coupling.pull(late), plan, late)):
        assert carried.shape == (len(weights), *dims)
        for row, weight in zip(carried, weights, strict=True):
            if weight.sum() == 0:
                assert np.isnan(row).all()
            else:
                np.testing.assert_allclose(row, np.average(values, axis=0, weights=weight), rtol=1e-9, atol=1e-12)


@settings(deadline=None)
@given(plan=plans())
def test_descendants_and_growth_are_row_sums_and_their_log_rate(plan: np.ndarray) -> None:
    coupling = couple(plan, 1.0, 3.0)
    sums = plan.sum(axis=1)
    np.testing.assert_allclose(coupling.descendants, sums, rtol=1e-12)
    some = sums > 0
    np.testing.assert_allclose(np.exp(coupling.growth[some] * 2.0), sums[some], rtol=1e-9)
    assert np.all(coupling.growth[~some] == -np.inf)


@settings(deadline=None)
@given(plan=plans())
def test_carrying_a_constant_gives_it_back_and_marginals_sum(plan: np.ndarray) -> None:
    coupling = couple(plan)
    one = coupling.push(np.ones(plan.shape[0]))
    assert np.all(np.isnan(one) | np.isclose(one, 1, rtol=1e-12))
    np.testing.assert_allclose(coupling.descendants.sum(), plan.sum(axis=0).sum(), rtol=1e-12)


def test_a_division_has_two_descendants_and_the_known_growth() -> None:
    coupling = couple(np.array([[1.0, 1.0, 0.0], [0.0, 0.0, 1.0]]), 0.0, 0.5)
    np.testing.assert_array_equal(coupling.descendants, [2, 1])
    np.testing.assert_allclose(coupling.growth, [np.log(2) / 0.5, 0], atol=1e-15)
    np.testing.assert_array_equal(coupling.push(np.array([3.0, 5.0])), [3, 3, 5])
    np.testing.assert_array_equal(coupling.pull(np.array([1.0, 2.0, 7.0])), [1.5, 7])


@settings(deadline=None, max_examples=20)
@given(plan=plans().filter(lambda p: p.sum() > 0), seed=st.integers(0, 2**32 - 1))
def test_only_pairs_of_the_plan_are_drawn_and_a_seed_repeats_them(plan: np.ndarray, seed: int) -> None:
    coupling = couple(plan)
    i, j = coupling.sample(200, np.random.default_rng(seed))
    assert len(i) == len(j) == 200
    assert np.all(plan[i, j] > 0)
    again = coupling.sample(200, np.random.default_rng(seed))
    assert all(np.array_equal(a, b) for a, b in zip((i, j), again, strict=True))


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_pairs_are_drawn_as_often_as_the_plan_says(seed: int) -> None:
    plan = np.array([[0.1, 0.0, 0.4], [1.0, 0.25, 0.0], [0.0, 2.0, 0.05]])
    n = 40_000
    i, j = couple(plan).sample(n, np.random.default_rng(seed))
    seen = np.zeros(plan.shape)
    np.add.at(seen, (i, j), 1)
    some = plan > 0
    assert seen[~some].sum() == 0
    assert stats.chisquare(seen[some], n * plan[some] / plan.sum()).pvalue > 1e-3


def test_explicit_zeros_and_an_empty_draw() -> None:
    plan = sparse.csr_array((np.array([0.0, 1.0, 0.0]), (np.array([0, 0, 1]), np.array([0, 1, 1]))), shape=(2, 2))
    coupling = Coupling(0.0, 1.0, plan, np.arange(2), np.arange(2))
    i, j = coupling.sample(500, np.random.default_rng(0))
    assert (set(i), set(j)) == ({0}, {1})
    assert len(coupling.sample(0, np.random.default_rng(0))[0]) == 0


def test_an_empty_plan_cannot_be_sampled() -> None:
    with pytest.raises(SchemaError, match=r"no pair between 1\.0 and 3\.0 h"):
        couple(np.zeros((2, 2))).sample(1, np.random.default_rng(0))


def test_what_is_wrong_with_a_coupling_is_listed_at_once() -> None:
    plan = sparse.csr_array(np.array([[1.0, -1.0], [np.nan, 1.0]]))
    with pytest.raises(SchemaError) as caught:
        Coupling(2.0, 1.0, plan, np.arange(3), np.arange(2))
    text = str(caught.value)
    assert len(caught.value.problems) == 3
    assert "different numbers of sources: 2 in plan; 3 in sources" in text
    assert "from 2.0 to 1.0 h" in text
    assert "2 of 4 entries" in text


@pytest.mark.parametrize("times", [(1.0, 1.0), (np.nan, 1.0), (0.0, np.inf)])
def test_times_must_rise_and_be_finite(times: tuple[float, float]) -> None:
    with pytest.raises(SchemaError, match="finite times"):
        couple(np.eye(2), *times)


@settings(deadline=None)
@given(plan=plans(), s=st.floats(0, 1))
def test_mass_on_the_way_grows_evenly_from_one_cell_to_its_descendants(plan: np.ndarray, s: float) -> None:
    coupling = couple(plan)
    some = plan.sum(axis=1) > 0
    np.testing.assert_allclose(coupling.at(s).sum(axis=1)[some], plan.sum(axis=1)[some] ** s, rtol=1e-9)
    assert not coupling.at(s).toarray()[plan == 0].any()
