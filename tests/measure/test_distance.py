import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from scipy.optimize import linear_sum_assignment
from scipy.spatial.distance import cdist
from scipy.spatial.transform import Rotation

from embryo.core.errors import SchemaError
from embryo.measure import chamfer_um, energy_distance, occupancy_overlap

SEEDS = st.integers(0, 2**32 - 1)


def clouds(seed, n=23, m=31, dims=3):
    rng = np.random.default_rng(seed)
    a, b = rng.normal(0, 1, (n, dims)), rng.normal(0.7, 1.5, (m, dims))
    return a, b, rng.uniform(0.2, 3, n), rng.uniform(0.2, 3, m)


def brute(a, b, u, v, *, paired=False):
    """The definition, pair by pair."""

    def mean(p, w, q, y, *, same):
        pairs = [(i, j) for i in range(len(p)) for j in range(len(q)) if not (same and i == j)]
        total = sum(w[i] * y[j] * np.sqrt(((p[i] - q[j]) ** 2).sum()) for i, j in pairs)
        return total / sum(w[i] * y[j] for i, j in pairs)

    return 2 * mean(a, u, b, v, same=paired) - mean(a, u, a, u, same=True) - mean(b, v, b, v, same=True)


@settings(max_examples=10, deadline=None)
@given(SEEDS)
def test_energy_is_its_definition(seed):
    a, b, u, v = clouds(seed, 9, 12)
    assert energy_distance(a, b, u, v) == pytest.approx(brute(a, b, u, v), rel=1e-10)
    assert energy_distance(a, b[:9], u, v[:9], paired=True) == pytest.approx(
        brute(a, b[:9], u, v[:9], paired=True), rel=1e-10
    )


@settings(max_examples=25, deadline=None)
@given(SEEDS)
def test_energy_in_one_dimension_is_scipys_without_its_bias(seed):
    a, b, u, v = clouds(seed, dims=1)
    biased = stats.energy_distance(a[:, 0], b[:, 0], u, v) ** 2

    def correction(x, w):  # the V-statistic counts each particle's 0 distance to itself
        w = w / w.sum()
        mean = 2 * np.trapezoid(*_cdf_spread(x, w))
        return mean / (1 - (w**2).sum()) - mean

    expected = biased - correction(a[:, 0], u) - correction(b[:, 0], v)
    assert energy_distance(a, b, u, v) == pytest.approx(expected, rel=1e-9, abs=1e-12)


def _cdf_spread(x, w):
    """F (1 - F) as a step function: E|X - X'| = 2 ∫ F (1 - F)."""
    order = np.argsort(x)
    below = np.cumsum(w[order])[:-1]
    steps = x[order]
    return np.repeat(below * (1 - below), 2), np.repeat(steps, 2)[1:-1]


def test_energy_of_gaussians_is_unbiased_at_any_sample_size():
    shift, n, m = 1.3, 5, 8
    rng = np.random.default_rng(0)
    draws = [energy_distance(rng.normal(0, 1, (n, 1)), rng.normal(shift, 1, (m, 1))) for _ in range(2500)]
    # E|N(0, 1) - N(shift, 1)| is the mean of a folded normal of variance 2.
    across = stats.foldnorm(shift / np.sqrt(2), scale=np.sqrt(2)).mean()
    truth = 2 * across - 2 * (2 / np.sqrt(np.pi))
    assert np.mean(draws) == pytest.approx(truth, abs=4 * stats.sem(draws))


def test_energy_has_floor_zero_with_fixed_masses_and_under_subsampling():
    rng = np.random.default_rng(1)
    u, v = rng.uniform(0.1, 3, 12), rng.uniform(0.1, 3, 9)
    draws = [energy_distance(rng.normal(size=(12, 2)), rng.normal(size=(9, 2)), u, v) for _ in range(1000)]
    assert abs(np.mean(draws)) < 4 * stats.sem(draws)
    assert min(draws) < 0
    cut = [energy_distance(rng.normal(size=(12, 2)), rng.normal(size=(9, 2)), max_cells=4, seed=k) for k in range(1000)]
    assert abs(np.mean(cut)) < 4 * stats.sem(cut)


def test_paired_energy_of_dependent_clouds_is_unbiased_where_the_unpaired_is_not():
    rng = np.random.default_rng(2)
    draws = []
    for _ in range(1000):
        a = rng.normal(size=(6, 2))
        b = 0.9 * a + np.sqrt(1 - 0.9**2) * rng.normal(size=(6, 2))  # the same law as a, and close to it cell by cell
        draws.append((energy_distance(a, b, paired=True), energy_distance(a, b)))
    paired, unpaired = np.array(draws).T
    assert abs(paired.mean()) < 4 * stats.sem(paired)
    assert unpaired.mean() < -10 * stats.sem(unpaired)


def test_smoothing_the_prediction_lowers_wasserstein_but_not_energy():
    rng = np.random.default_rng(3)
    truth, drawn = rng.normal(size=(150, 20)), rng.normal(size=(150, 20))
    order = cdist(drawn, drawn).argsort(axis=1)
    smooth = drawn[order[:, :5]].mean(axis=1)

    def w1(p):
        cost = cdist(p, truth)
        return cost[linear_sum_assignment(cost)].mean()

    assert w1(smooth) < w1(drawn)
    assert energy_distance(smooth, truth) > 5 * abs(energy_distance(drawn, truth))


@settings(max_examples=20, deadline=None)
@given(SEEDS)
def test_energy_invariances(seed):
    a, b, u, v = clouds(seed)
    rng = np.random.default_rng(seed)
    value = energy_distance(a, b, u, v)
    p, q = rng.permutation(len(a)), rng.permutation(len(b))
    assert energy_distance(a[p], b[q], u[p], v[q]) == pytest.approx(value, rel=1e-9, abs=1e-12)
    turn, move = Rotation.random(rng=rng).as_matrix(), rng.normal(size=3)
    assert energy_distance(a @ turn.T + move, b @ turn.T + move, u, v) == pytest.approx(value, rel=1e-9, abs=1e-12)
    mirror = np.array([-1.0, 1.0, 1.0])
    assert energy_distance(a * mirror, b * mirror, u, v) == pytest.approx(value, rel=1e-9, abs=1e-12)
    assert energy_distance(a, b, 7 * u, 0.1 * v) == pytest.approx(value, rel=1e-9, abs=1e-12)
    assert energy_distance(b, a, v, u) == pytest.approx(value, rel=1e-9, abs=1e-12)
    dead = np.append(u, 0.0)
    assert energy_distance(np.vstack([a, a[:1] + 99]), b, dead, v) == pytest.approx(value, rel=1e-9, abs=1e-12)


def test_equal_paired_clouds_are_exactly_zero_apart_also_over_several_blocks():
    a, _, u, _ = clouds(4, n=1100)
    assert energy_distance(a, a.copy(), u, u.copy(), paired=True) == 0.0
    assert energy_distance(a, a.copy(), u, u.copy(), paired=True, max_cells=50) == 0.0
    assert energy_distance(a, a.copy(), u, u.copy()) < 0


def test_blocks_do_not_change_the_value():
    a, b, u, v = clouds(5, n=700, m=600)
    d = np.linalg.norm(a[:, None] - b, axis=-1), np.linalg.norm(a[:, None] - a, axis=-1)
    e = np.linalg.norm(b[:, None] - b, axis=-1)
    expected = (
        2 * (u @ d[0] @ v) / (u.sum() * v.sum())
        - (u @ d[1] @ u) / (u.sum() ** 2 - u @ u)
        - (v @ e @ v) / (v.sum() ** 2 - v @ v)
    )
    assert energy_distance(a, b, u, v) == pytest.approx(expected, rel=1e-9)


def test_subsample_follows_the_seed():
    a, b, _, _ = clouds(6, n=200, m=200)
    first = energy_distance(a, b, max_cells=50, seed=1)
    assert first == energy_distance(a, b, max_cells=50, seed=1)
    assert first != energy_distance(a, b, max_cells=50, seed=2)


def test_one_particle_has_no_spread_to_estimate():
    a, b, _, _ = clouds(7)
    assert np.isnan(energy_distance(a[:1], b))


def test_energy_takes_float32_and_leaves_its_input_alone():
    a, b, u, v = (part.astype(np.float32) for part in clouds(8))
    before = a.copy(), u.copy()
    wide = [part.astype(float) for part in (a, b, u, v)]
    assert energy_distance(a, b, u, v) == energy_distance(*wide)
    assert np.array_equal(a, before[0])
    assert np.array_equal(u, before[1])


def test_bad_clouds_are_refused_with_every_problem():
    a, b, u, v = clouds(9)
    a[0, 0] = np.nan
    u[1] = -1
    with pytest.raises(SchemaError, match=r"first cloud: 2 problems\n.*1 cells with NaN.*\n.*masses below 0"):
        energy_distance(a, b, u, v)
    with pytest.raises(SchemaError, match="no cells"):
        energy_distance(a[:0], b)
    with pytest.raises(SchemaError, match="found 9 and 10 cells"):
        energy_distance(b[:9], b[:10], paired=True)


def test_chamfer_of_shifted_lattice_is_the_shift():
    lattice = np.argwhere(np.ones((4, 4, 4))).astype(float) * 10
    assert chamfer_um(lattice, lattice) == 0
    assert chamfer_um(lattice, lattice + np.array([0, 3.0, 0])) == pytest.approx(3)


def test_chamfer_weighs_by_mass_and_averages_both_ways():
    a, b = np.array([[0.0], [10.0]]), np.array([[0.0]])
    assert chamfer_um(a, b) == pytest.approx((5 + 0) / 2)
    assert chamfer_um(a, b, np.array([3.0, 1.0])) == pytest.approx((2.5 + 0) / 2)
    twice = np.array([[0.0], [0.0], [0.0], [10.0]])
    assert chamfer_um(twice, b) == pytest.approx(chamfer_um(a, b, np.array([3.0, 1.0])))
    assert chamfer_um(a, b, np.array([1.0, 0.0])) == 0


@settings(max_examples=20, deadline=None)
@given(SEEDS)
def test_chamfer_invariances(seed):
    a, b, u, v = clouds(seed)
    rng = np.random.default_rng(seed)
    turn, move = Rotation.random(rng=rng).as_matrix(), rng.normal(size=3)
    value = chamfer_um(a, b, u, v)
    nearest = np.linalg.norm(a[:, None] - b, axis=-1)
    assert value == pytest.approx((nearest.min(1) @ u / u.sum() + nearest.min(0) @ v / v.sum()) / 2)
    assert chamfer_um(a @ turn.T + move, b @ turn.T + move, u, v) == pytest.approx(value)
    assert chamfer_um(b, a, v, u) == pytest.approx(value)


def test_overlap_of_boxes_is_dice():
    box = np.argwhere(np.ones((4, 2, 2))).astype(float) + 0.5
    half = box + np.array([2.0, 0, 0])
    assert occupancy_overlap(box, box, 1.0) == 1
    assert occupancy_overlap(box, half, 1.0) == pytest.approx(2 * 8 / 32)
    assert occupancy_overlap(box, box + 100, 1.0) == 0
    assert occupancy_overlap(10 * box, 10 * half, 10.0) == pytest.approx(0.5)
    assert occupancy_overlap(np.repeat(box, 3, axis=0), half, 1.0) == pytest.approx(0.5)
    assert occupancy_overlap(box - 3.0, half - 3.0, 1.0) == pytest.approx(0.5)  # also on the far side of the origin


def test_overlap_needs_a_box():
    with pytest.raises(SchemaError, match="bin_um = 0"):
        occupancy_overlap(np.zeros((2, 3)), np.zeros((2, 3)), 0.0)
