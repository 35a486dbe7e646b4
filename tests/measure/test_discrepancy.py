import numpy as np
import pytest
from common.core_metrics import mmd_unbiased
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.distance import cdist

from embryo.measure import discrepancy, energy_distance, kernels, median_square, thin, u_mean


def clouds(n: int = 60, m: int = 80, dims: int = 3):
    rng = np.random.default_rng(5)
    return rng.normal(0, 1, (n, dims)), rng.normal(0.4, 1.3, (m, dims)), rng.uniform(0.2, 3, n), rng.uniform(0.2, 3, m)


def energy(a, b, u, v):
    return discrepancy(cdist(a, b), cdist(a, a), cdist(b, b), u, v)


def mmd(a, b, u, v):
    within = cdist(b, b, "sqeuclidean")
    m = median_square(within)
    return discrepancy(
        *(-kernels(s, m) for s in (cdist(a, b, "sqeuclidean"), cdist(a, a, "sqeuclidean"), within)), u, v
    )


def test_with_distances_it_is_the_energy_distance() -> None:
    a, b, u, v = clouds()
    assert energy(a, b, u, v).value == pytest.approx(energy_distance(a, b, u, v), rel=1e-12)


def test_with_kernels_it_is_the_mmd_of_veckit() -> None:
    a, b, _, _ = clouds()
    expected = mmd_unbiased(a, b)
    assert abs(expected) > 1e-3
    assert mmd(a, b, np.ones(len(a)), np.ones(len(b))).value == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("measure", [energy, mmd])
def test_influence_is_the_derivative_up_to_the_weight_of_a_cell(measure) -> None:
    """Of the V-statistic, that is; the share of pairs 1 - w.w moves too, which is of the order of one cell."""
    a, b, u, v = clouds(400, 600)
    found = measure(a, b, u, v)
    w = v / v.sum()
    assert w @ found.influence == pytest.approx(0, abs=1e-12)
    near = np.linalg.norm(b - 1, axis=1) < 1
    step = 1e-4 * w * (near - w @ near)
    if measure is energy:
        moved = [energy(a, b, u, w + s * step).value for s in (1, -1)]
    else:
        m = median_square(cdist(b, b, "sqeuclidean"))
        parts = [-kernels(cdist(p, q, "sqeuclidean"), m) for p, q in ((a, b), (a, a), (b, b))]
        moved = [discrepancy(*parts, u, w + s * step).value for s in (1, -1)]
    assert (moved[0] - moved[1]) / 2 == pytest.approx(step @ found.influence, rel=0.05)


def test_mean_over_pairs_leaves_a_particle_itself_out() -> None:
    a, _, u, _ = clouds(6)
    d = cdist(a, a) + 7 * np.eye(6)
    pairs = [(i, j) for i in range(6) for j in range(6) if i != j]
    expected = sum(u[i] * u[j] * d[i, j] for i, j in pairs) / sum(u[i] * u[j] for i, j in pairs)
    assert u_mean(d, u) == pytest.approx(expected, rel=1e-12)
    assert np.isnan(u_mean(np.zeros((1, 1)), np.ones(1)))


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 30))
def test_thinning_keeps_the_mass_and_every_share_within_one_tick(seed, most) -> None:
    rng = np.random.default_rng(seed)
    mass = rng.exponential(size=50) * (rng.random(50) > 0.2)
    mass[0] = 1
    rows, kept = thin(mass, most, seed=seed)
    assert len(rows) <= most
    assert (np.diff(rows) > 0).all()
    assert kept.sum() == pytest.approx(mass.sum())
    assert (mass[rows] > 0).all()
    tick = mass.sum() / most
    shares = np.zeros(50)
    shares[rows] = kept
    assert (np.abs(shares - mass) <= tick * (1 + 1e-9)).all()


def test_small_clouds_are_not_thinned() -> None:
    rows, kept = thin(np.array([2.0, 0.0, 1.0]), 2)
    assert rows.tolist() == [0, 2]
    assert kept.tolist() == [2.0, 1.0]
