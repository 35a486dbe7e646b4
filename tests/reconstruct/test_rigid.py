import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from embryo.core.errors import FrameError
from embryo.reconstruct import rigid
from embryo.reconstruct.rigid import measured, principal, robust


@given(seed=st.integers(0, 10_000), dims=st.sampled_from([2, 3]))
def test_a_known_motion_is_found(pose, seed, dims):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(8, dims)) * 50
    turn, shift = pose(rng, dims)
    found = rigid(x, x @ turn.T + shift, rng.uniform(0.1, 1, 8))
    np.testing.assert_allclose(found.rotation, turn, atol=1e-9)
    np.testing.assert_allclose(found.translation, shift, atol=1e-7)


@given(seed=st.integers(0, 10_000))
def test_scipy_finds_the_same_rotation(seed):
    rng = np.random.default_rng(seed)
    x, y, w = rng.normal(size=(12, 3)), rng.normal(size=(12, 3)), rng.uniform(0.1, 1, 12)
    found = rigid(x, y, w)
    mean = [(w[:, None] * p).sum(0) / w.sum() for p in (x, y)]
    expected, _ = Rotation.align_vectors(y - mean[1], x - mean[0], w)
    np.testing.assert_allclose(found.rotation, expected.as_matrix(), atol=1e-7)
    np.testing.assert_allclose(found(mean[0][None])[0], mean[1], atol=1e-12)


@given(seed=st.integers(0, 10_000), dims=st.sampled_from([2, 3]))
def test_a_mirror_image_is_met_with_a_proper_rotation(seed, dims):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(10, dims)) * np.arange(dims, 0, -1)
    flip = np.ones(dims)
    flip[-1] = -1
    found = rigid(x, x * flip)
    assert np.linalg.det(found.rotation) == pytest.approx(1)
    fit = measured(found, x, x * flip)
    assert fit.mirrored
    assert fit.mirrored_um < 1e-9 < fit.median_um


@given(seed=st.integers(0, 10_000))
def test_the_order_of_the_pairs_does_not_matter(seed):
    rng = np.random.default_rng(seed)
    x, y = rng.normal(size=(9, 3)), rng.normal(size=(9, 3))
    order = rng.permutation(9)
    np.testing.assert_allclose(rigid(x[order], y[order]).rotation, rigid(x, y).rotation, atol=1e-9)


def test_points_in_a_plane_are_enough(pose, rng):
    x = np.column_stack([rng.normal(size=(3, 2)), np.zeros(3)])
    turn, shift = pose(rng)
    np.testing.assert_allclose(rigid(x, x @ turn.T + shift).rotation, turn, atol=1e-9)


def test_a_pair_without_weight_has_no_say(rng):
    x = rng.normal(size=(6, 3))
    y = x.copy()
    y[0] += 100
    np.testing.assert_allclose(rigid(x, y, np.array([0.0, 1, 1, 1, 1, 1])).rotation, np.eye(3), atol=1e-12)


@pytest.mark.parametrize(
    "x",
    [
        np.zeros((0, 3)),
        np.ones((1, 3)),
        np.arange(6.0).reshape(2, 3),
        np.outer(np.arange(5.0), [1, 2, 3]) + 7,
        np.ones((5, 3)),
        np.ones((4, 2)),
    ],
    ids=["none", "one", "two", "line", "point", "point in a plane"],
)
def test_too_little_is_said(x):
    with pytest.raises(FrameError, match="leave the rotation open"):
        rigid(x, x + 1)


def test_the_mirror_image_of_a_regular_body_leaves_the_rotation_open():
    x = np.vstack([np.eye(3), -np.eye(3)])
    with pytest.raises(FrameError, match="leave the rotation open"):
        rigid(x, -x)


def test_unusable_numbers_are_reported_together():
    x = np.eye(3)
    with pytest.raises(FrameError) as error:
        rigid(x, x * np.nan, -np.ones(3))
    assert len(error.value.problems) == 2


def test_robust_forgets_pairs_that_do_not_belong(pose, rng):
    x = rng.normal(size=(100, 3)) * 20
    turn, shift = pose(rng)
    y = x @ turn.T + shift
    y[:20] = rng.normal(size=(20, 3)) * 50
    fit = robust(x, y)
    np.testing.assert_allclose(fit.motion.rotation, turn, atol=1e-9)
    assert fit.median_um < 1e-9
    assert fit.pairs == 100
    assert robust(np.ones((5, 3)), np.ones((5, 3))) is None


@given(seed=st.integers(0, 10_000), dims=st.sampled_from([2, 3]))
def test_own_axes_do_not_depend_on_the_pose(pose, seed, dims):
    rng = np.random.default_rng(seed)
    x = rng.gamma(1.5, 1.0, (60, dims)) * np.array([40.0, 20.0, 10.0])[:dims]
    turn, shift = pose(rng, dims)
    axes = principal(x)
    own = axes(x)
    np.testing.assert_allclose(own.mean(0), 0, atol=1e-9)
    covariance = np.cov(own.T)
    np.testing.assert_allclose(covariance, np.diag(np.diag(covariance)), atol=1e-8 * covariance.max())
    assert (np.diff(np.diag(covariance)) <= 0).all()
    moved = x @ turn.T + shift
    np.testing.assert_allclose(principal(moved)(moved), own, atol=1e-7)


def test_axes_point_to_the_longer_tails(rng):
    x = rng.gamma(1.0, 1.0, (500, 3)) * [40, 20, 10]
    own = principal(x)(x)
    skew = (own**3).mean(0)
    assert (skew > 0).sum() >= 2
    assert np.linalg.det(principal(x).rotation) == pytest.approx(1)
