import numpy as np
import ot
import pytest
import torch
from scipy.linalg import sqrtm
from scipy.spatial.distance import cdist

from embryo.evaluate.time import floors
from embryo.evaluate.time.floors import FLOORS


def mean(state) -> np.ndarray:
    w = state.mass.double().numpy()
    return w @ state.z.double().numpy() / w.sum()


def cov(points) -> np.ndarray:
    return np.cov(np.asarray(points, dtype=float).T)


def test_all_floors_of_the_field_are_there() -> None:
    names = {f.name for f in FLOORS}
    assert names == {
        "copy previous", "copy next", "nearest", "union", "random pairs", "McCann midpoint", "unbalanced midpoint",
        "mean shift", "RMS growth", "affine growth", "FGW-assigned",
    }  # fmt: skip
    assert {f.role for f in FLOORS} == {"floor"}
    assert {f.name for f in FLOORS if f.random} == {"random pairs"}


def test_copies_are_the_stages(drift) -> None:
    held = drift.without(1)
    assert floors.copy_previous(held, 1.0) is held.states[0]
    assert floors.copy_next(held, 1.0) is held.states[1]
    assert floors.nearest(held, 1.5) is held.states[1]
    assert floors.nearest(held, 1.0) is held.states[0]
    assert floors.copy_next(held, 5.0) is None
    assert floors.copy_previous(held, -1.0) is None


def test_a_stage_of_the_very_time_is_never_copied(drift) -> None:
    """Where cells are held out and not stages, the other half of the stage is among the training cells."""
    assert floors.copy_previous(drift, 2.0) is drift.states[1]
    assert floors.nearest(drift, 1.0) is drift.states[0]
    for floor in (floors.mean_shift, floors.rms_growth, floors.affine):
        moved = floor(drift, 2.0)
        assert moved is not None
        spread = moved.z - drift.states[1].z
        assert (spread - spread.mean(0)).abs().max() < 3
        assert cdist(moved.z, drift.states[2].z).min(axis=1).mean() > 0.01


def test_numbers_grow_exponentially(make_state, make_series) -> None:
    z = np.random.default_rng(0).normal(size=(20, 2))
    series = make_series({0.0: make_state(z, total=100.0), 4.0: make_state(z + 1, total=400.0)}, counts_grow=True)
    for floor in (floors.union, floors.mccann, floors.mean_shift, floors.rms_growth, floors.affine):
        state = floor(series, 1.0)
        assert state is not None
        assert float(state.mass.sum()) == pytest.approx(100 * 4**0.25, rel=1e-4)
    assert float(floors.mean_shift(series, 8.0).mass.sum()) == pytest.approx(1600, rel=1e-4)
    assert float(floors.copy_previous(series, 8.0).mass.sum()) == pytest.approx(400, rel=1e-4)


def test_union_holds_half_of_each(make_state, make_series) -> None:
    series = make_series({0.0: make_state(np.zeros((5, 1))), 2.0: make_state(np.ones((20, 1)))})
    both = floors.union(series, 1.0)
    assert len(both) == 25
    assert float(both.mass[both.z[:, 0] == 1].sum()) == pytest.approx(0.5, rel=1e-5)


def test_mccann_lies_on_the_exact_plan(drift) -> None:
    a, b = (s.z.double().numpy() for s in (drift.states[0], drift.states[2]))
    plan = ot.emd(np.full(80, 1 / 80), np.full(80, 1 / 80), cdist(a, b, "sqeuclidean"))
    i, j = np.nonzero(plan > 1e-9)
    expected = 0.75 * a[i] + 0.25 * b[j]
    found = floors.mccann(drift.without(1), 0.5)
    assert len(found) == len(expected)
    assert cdist(found.z, expected).min(axis=1).max() < 1e-4
    assert floors.mccann(drift, 5.0) is None


def test_random_pairs_have_the_mean_between_and_differ_by_seed(drift) -> None:
    held = drift.without(1)
    one, again, other = (floors.random_pairs(held, 1.0, seed) for seed in (1, 1, 2))
    assert torch.equal(one.z, again.z)
    assert not torch.equal(one.z, other.z)
    expected = (mean(held.states[0]) + mean(held.states[1])) / 2
    np.testing.assert_allclose(mean(one), expected, atol=0.5)


def test_unbalanced_midpoint_lets_a_cluster_shrink(make_state, make_series) -> None:
    """Balanced transport must carry cells over to the cluster that grew; unbalanced makes cells of it instead."""
    rng = np.random.default_rng(0)
    sizes = ((80, 20), (20, 80))
    stages = [np.concatenate([rng.normal(c, 0.3, (n, 2)) for c, n in zip((0, 10), s, strict=True)]) for s in sizes]
    series = make_series({0.0: make_state(stages[0]), 2.0: make_state(stages[1])})
    between = {
        f.__name__: float(s.mass[(s.z[:, 0] > 3) & (s.z[:, 0] < 7)].sum() / s.mass.sum())
        for f in (floors.mccann, floors.unbalanced_midpoint)
        for s in [f(series, 1.0)]
    }
    assert between["mccann"] == pytest.approx(0.6, abs=0.02)
    assert between["unbalanced_midpoint"] < 0.2


def test_mean_shift_is_a_rigid_shift_to_the_mean(drift) -> None:
    held = drift.without(1)
    moved = floors.mean_shift(held, 0.5)
    step = moved.z - held.states[0].z
    np.testing.assert_allclose(step, step[:1].expand_as(step), atol=1e-5)
    np.testing.assert_allclose(mean(moved), 0.75 * mean(held.states[0]) + 0.25 * mean(held.states[1]), atol=1e-5)
    beyond = floors.mean_shift(drift, 4.0)
    np.testing.assert_allclose(mean(beyond), 3 * mean(drift.states[2]) - 2 * mean(drift.states[1]), atol=1e-4)


def test_growth_scales_the_body_and_keeps_states(make_state, make_series, helix) -> None:
    z, x, _ = helix(100, 0)
    series = make_series({0.0: make_state(z, x), 2.0: make_state(z, 4 * x)})
    grown = floors.rms_growth(series, 0.5)
    assert torch.equal(grown.z, series.states[0].z)
    radius = [np.linalg.norm(p - p.mean(0)) for p in (np.asarray(grown.x), x)]
    assert radius[0] / radius[1] == pytest.approx(4**0.25, rel=1e-4)
    assert np.linalg.norm(np.cov(np.asarray(floors.rms_growth(series, 4.0).x).T)) == pytest.approx(
        np.linalg.norm(np.cov(16 * x.T)), rel=1e-3
    )


def test_affine_growth_follows_the_geodesic_of_gaussians(drift) -> None:
    held = drift.without(1)
    a, b = (cov(s.z) for s in held.states)
    root = np.real(sqrtm(a))
    step = np.linalg.inv(root) @ np.real(sqrtm(root @ b @ root)) @ np.linalg.inv(root)
    half = (np.eye(2) + step) / 2
    np.testing.assert_allclose(cov(floors.affine(held, 1.0).z), half @ a @ half, rtol=1e-3)
    whole = floors.affine(held, 2.0 - 1e-9)
    np.testing.assert_allclose(cov(whole.z), b, rtol=1e-3)
    beyond = floors.affine(held, 4.0)  # once more from b: the same map again, never mirrored
    np.testing.assert_allclose(cov(beyond.z), step @ b @ step, rtol=1e-3)


def test_assigned_states_meet_on_the_body(make_state, make_series, helix) -> None:
    """The second stage is the first, turned and shuffled: partners are found by states and distances within bodies."""
    z, x, _ = helix(120, 0)
    order = np.random.default_rng(1).permutation(120)
    turned = x @ np.array([[0.0, 1, 0], [-1, 0, 0], [0, 0, 1]])
    series = make_series({0.0: make_state(z, x), 2.0: make_state(z[order] + [2, 0], turned[order])})
    met = floors.fused_gromov(series, 1.0)
    near = cdist(met.x, x).argmin(axis=1)
    error = np.linalg.norm(np.asarray(met.z) - z[near] - [1, 0], axis=1)
    assert np.median(error) < 0.15
    assert floors.fused_gromov(make_series({0.0: make_state(z), 2.0: make_state(z)}), 1.0) is None


def test_one_stage_is_too_few_to_move(drift) -> None:
    alone = drift.without(2).without(1)
    for floor in (floors.mean_shift, floors.rms_growth, floors.affine, floors.union, floors.mccann):
        assert floor(alone, 1.0) is None
    assert floors.copy_previous(alone, 1.0) is alone.states[0]
