import numpy as np
import ot
import pytest
from scipy import stats
from scipy.optimize import linear_sum_assignment
from scipy.spatial.distance import cdist

from embryo.core.errors import SchemaError
from embryo.measure import wasserstein


def clouds(n: int = 40, m: int = 60, dims: int = 3):
    rng = np.random.default_rng(3)
    return rng.normal(0, 1, (n, dims)), rng.normal(0.7, 1.5, (m, dims)), rng.uniform(0.2, 3, n), rng.uniform(0.2, 3, m)


def test_first_order_on_a_line_is_scipys() -> None:
    a, b, u, v = clouds(dims=1)
    expected = stats.wasserstein_distance(a[:, 0], b[:, 0], u, v)
    assert wasserstein(a, b, u, v).value == pytest.approx(expected, rel=1e-9)


def test_second_order_between_equal_numbers_is_an_assignment() -> None:
    a, b, _, _ = clouds(50, 50)
    cost = cdist(a, b, "sqeuclidean")
    expected = np.sqrt(cost[linear_sum_assignment(cost)].mean())
    assert wasserstein(a, b, order=2).value == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("order", [1, 2])
def test_influence_is_the_derivative_in_the_weights(order) -> None:
    a, b, u, v = clouds()
    found = wasserstein(a, b, u, v, order=order)
    w = v / v.sum()
    assert w @ found.influence == pytest.approx(0, abs=1e-12)
    step = 1e-6 * np.random.default_rng(0).normal(size=len(b)) * w
    step -= w * step.sum()
    cost = cdist(a, b) ** order
    moved = [ot.emd2(u / u.sum(), w + s * step, cost) ** (1 / order) for s in (1, -1)]
    assert (moved[0] - moved[1]) / 2 == pytest.approx(step @ found.influence, rel=1e-4)


def test_cells_without_mass_do_not_count() -> None:
    a, b, u, v = clouds()
    v[:5], u[:3] = 0, 0
    found, kept = wasserstein(a, b, u, v), wasserstein(a[3:], b[5:], u[3:], v[5:])
    assert found.value == pytest.approx(kept.value, rel=1e-12)
    np.testing.assert_allclose(found.influence[5:], kept.influence, atol=1e-12)
    assert not found.influence[:5].any()


def test_equal_clouds_are_at_zero_and_broken_ones_refused() -> None:
    a = clouds()[0]
    for order in (1, 2):
        assert wasserstein(a, a, order=order).value == pytest.approx(0, abs=1e-7)
    with pytest.raises(SchemaError, match="finite"):
        wasserstein(np.full((3, 2), np.nan), np.zeros((3, 2)))
