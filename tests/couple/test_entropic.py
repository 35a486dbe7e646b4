"""The solver against POT, the network simplex, scipy's assignment and its own certificates."""

import warnings

import numpy as np
import ot
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linear_sum_assignment
from scipy.spatial.distance import cdist

from embryo.couple import entropic

INF = float("inf")
Given = tuple[np.ndarray, np.ndarray, np.ndarray]


def problem(n: int, m: int, seed: int = 0) -> Given:
    """Two clouds of uneven weights; the mean cost is 1."""
    rng = np.random.default_rng(seed)
    cost = cdist(rng.normal(size=(n, 3)), 1.3 * rng.normal(size=(m, 3)) + 0.4, "sqeuclidean")
    a, b = rng.uniform(0.5, 2, n), rng.uniform(0.5, 2, m)
    return a / a.sum(), b / b.sum(), cost / cost.mean()


@pytest.mark.parametrize("epsilon", [0.05, 0.5])
@pytest.mark.parametrize("tau", [(1.0, 1.0), (1.0, 0.1), (0.2, INF), (INF, 0.2), (INF, INF)])
def test_the_plan_is_that_of_pot(epsilon: float, tau: tuple[float, float]) -> None:
    a, b, cost = problem(25, 40)
    found = entropic.solve(a, b, cost, epsilon=epsilon, tau=tau, tolerance=1e-9)
    if tau == (INF, INF):
        known = ot.sinkhorn(a, b, cost, epsilon, numItermax=20_000, stopThr=1e-13)
    else:  # POT's translation-invariant variant is off where the two penalties differ and both are finite
        finite = INF not in tau
        pot = ot.unbalanced
        solve = pot.sinkhorn_unbalanced if finite else pot.sinkhorn_unbalanced_translation_invariant
        known = solve(a, b, cost, epsilon, tau, reg_type="kl", numItermax=20_000, stopThr=1e-13)
    np.testing.assert_allclose(found.plan, known, rtol=1e-4, atol=1e-9)
    assert found.converged
    assert abs(found.gap) < 1e-6


@pytest.mark.parametrize("tau", [(1.0, INF), (1.0, 1.0), (0.05, 0.05), (100.0, INF)])
@pytest.mark.parametrize("epsilon", [0.02, 0.001])
def test_it_converges_where_sinkhorn_does_not(epsilon: float, tau: tuple[float, float]) -> None:
    a, b, cost = problem(120, 150)
    found = entropic.solve(a, b, cost, epsilon=epsilon, tau=tau)
    assert found.converged
    assert abs(found.gap) < 1e-5
    for side, weight, potential, t in ((1, a, found.f, tau[0]), (0, b, found.g, tau[1])):
        np.testing.assert_allclose(found.plan.sum(side), weight * np.exp(-potential / t), atol=1e-6)


def test_stabilised_sinkhorn_of_pot_is_not_there_yet() -> None:
    a, b, cost = problem(120, 150)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        known = ot.unbalanced.sinkhorn_unbalanced(
            a, b, cost, 0.001, (1.0, 100.0), method="sinkhorn_stabilized", reg_type="kl", numItermax=1000
        )
    found = entropic.solve(a, b, cost, epsilon=0.001, tau=(1.0, 100.0))

    def paid(plan: np.ndarray) -> float:
        return entropic._Problem(a, b, cost, 0.001, (1.0, 0.01)).primal(plan)

    assert paid(found.plan) < paid(known)


def test_hard_marginals_without_entropy_are_exact_transport() -> None:
    a, b, cost = problem(40, 60)
    found = entropic.solve(a, b, cost, epsilon=0.0, tau=(INF, INF))
    best = ot.emd2(a, b, cost)
    assert found.converged
    assert best * (1 - 1e-5) <= (found.plan * cost).sum() <= best * (1 + 2e-3)
    loose = entropic.solve(a, b, cost, epsilon=1e-4, tau=(1e4, 1e4))
    assert (loose.plan * cost).sum() == pytest.approx(best, rel=2e-3)


def test_without_entropy_equal_numbers_are_assigned() -> None:
    cost = problem(30, 30, seed=1)[2]
    even = np.full(30, 1 / 30)
    found = entropic.solve(even, even, cost, epsilon=0.0, tau=(INF, INF))
    i, j = linear_sum_assignment(cost)
    np.testing.assert_array_equal(found.plan.argmax(1)[i], j)


@pytest.mark.parametrize("tau", [(1.0, 1.0), (0.3, 2.0)])
def test_relaxed_marginals_without_entropy_against_pot(tau: tuple[float, float]) -> None:
    a, b, cost = problem(30, 20)
    found = entropic.solve(a, b, cost, epsilon=0.0, tau=tau)
    known = ot.unbalanced.mm_unbalanced(a, b, cost, tau, div="kl", numItermax=20_000, stopThr=1e-12)

    def paid(plan: np.ndarray) -> float:
        return entropic._Problem(a, b, cost, 0.0, (1 / tau[0], 1 / tau[1])).primal(plan)

    assert found.converged
    assert paid(known) >= paid(found.plan) * (1 - found.gap - 1e-9)
    assert paid(found.plan) <= paid(known) * (1 + 1e-3)  # and not far above what POT finds


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 10**6), up=st.floats(0.1, 10), down=st.floats(0.1, 10))
def test_totals_only_scale_the_plan_and_orders_only_permute_it(seed: int, up: float, down: float) -> None:
    a, b, cost = problem(12, 9, seed)
    options = {"epsilon": 0.05, "tau": (1.0, 0.5), "tolerance": 1e-9}
    found = entropic.solve(a, b, cost, **options).plan
    scaled = entropic.solve(up * a, down * b, cost, **options).plan
    np.testing.assert_allclose(scaled / scaled.sum(), found / found.sum(), rtol=1e-5, atol=1e-10)
    rng = np.random.default_rng(seed)
    i, j = rng.permutation(12), rng.permutation(9)
    turned = entropic.solve(a[i], b[j], cost[np.ix_(i, j)], **options).plan
    np.testing.assert_allclose(turned, found[np.ix_(i, j)], rtol=1e-5, atol=1e-10)


def test_a_start_that_is_the_end_is_kept() -> None:
    a, b, cost = problem(30, 30)
    first = entropic.solve(a, b, cost, epsilon=0.01, tau=(1.0, INF))
    again = entropic.solve(a, b, cost, epsilon=0.01, tau=(1.0, INF), start=(first.f, first.g))
    np.testing.assert_allclose(again.plan, first.plan, rtol=1e-3, atol=1e-9)
    assert again.iterations < first.iterations


def test_forbidden_pairs_stay_empty_and_what_cannot_be_says_so() -> None:
    a, b, cost = problem(20, 20)
    cost[:10, 10:] = np.inf
    cost[10:, :10] = np.inf
    free = entropic.solve(a, b, cost, epsilon=0.05, tau=(1.0, 1.0))
    assert free.converged
    assert not free.plan[~np.isfinite(cost)].any()
    hard = entropic.solve(a, b, cost, epsilon=0.05, tau=(INF, INF))  # the halves do not weigh the same
    assert not hard.converged
    assert max(hard.source_residual, hard.target_residual) > 1e-3
