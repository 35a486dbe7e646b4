"""Rigid motions form a group of proper rotations and shifts; frames never mix."""

import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from embryo.core.errors import FrameError
from embryo.core.frame import BODY, RAW, Frame, Rigid

seeds = st.integers(0, 2**32 - 1)


def random_rigid(seed: int, dims: int) -> Rigid:
    """Rotations from scipy in 3D, by the angle in 2D: not from the code under test."""
    rng = np.random.default_rng(seed)
    if dims == 3:
        rotation = Rotation.random(random_state=seed).as_matrix()
    else:
        a = rng.uniform(-np.pi, np.pi)
        rotation = np.array([[np.cos(a), -np.sin(a)], [np.sin(a), np.cos(a)]])
    return Rigid(rotation, rng.normal(scale=100, size=dims))


@settings(deadline=None)
@given(seed=seeds, dims=st.sampled_from([2, 3]))
def test_the_inverse_undoes_the_motion(seed: int, dims: int) -> None:
    motion = random_rigid(seed, dims)
    x = np.random.default_rng(seed + 1).normal(scale=300, size=(7, dims))
    np.testing.assert_allclose(motion.inverse()(motion(x)), x, atol=1e-9)
    np.testing.assert_allclose(motion(motion.inverse()(x)), x, atol=1e-9)
    both = motion.after(motion.inverse())
    np.testing.assert_allclose(both.rotation, np.eye(dims), atol=1e-12)
    np.testing.assert_allclose(both.translation, 0, atol=1e-10)


@settings(deadline=None)
@given(a=seeds, b=seeds, c=seeds, dims=st.sampled_from([2, 3]))
def test_after_composes_right_to_left_and_associates(a: int, b: int, c: int, dims: int) -> None:
    f, g, h = (random_rigid(s, dims) for s in (a, b, c))
    x = np.random.default_rng(a).normal(scale=300, size=(5, dims))
    np.testing.assert_allclose(f.after(g)(x), f(g(x)), atol=1e-9)
    np.testing.assert_allclose(f.after(g).after(h)(x), f.after(g.after(h))(x), atol=1e-9)
    np.testing.assert_array_equal(Rigid.identity(dims).after(f).rotation, f.rotation)


@settings(deadline=None)
@given(seed=seeds)
def test_a_motion_agrees_with_scipy_and_keeps_distances(seed: int) -> None:
    motion = random_rigid(seed, 3)
    x = np.random.default_rng(seed).normal(scale=200, size=(6, 3))
    by_scipy = Rotation.from_matrix(motion.rotation).apply(x) + motion.translation
    np.testing.assert_allclose(motion(x), by_scipy, atol=1e-9)
    before = np.linalg.norm(x[:, None] - x[None], axis=-1)
    np.testing.assert_allclose(np.linalg.norm(motion(x)[:, None] - motion(x)[None], axis=-1), before, atol=1e-9)


def test_a_motion_leaves_its_input_alone() -> None:
    x = np.ones((4, 3))
    random_rigid(0, 3)(x)
    np.testing.assert_array_equal(x, 1)


@settings(deadline=None)
@given(seed=seeds, dims=st.sampled_from([2, 3]), axis=st.integers(0, 2))
def test_a_mirror_is_refused(seed: int, dims: int, axis: int) -> None:
    mirror = np.eye(dims)
    mirror[axis % dims, axis % dims] = -1
    with pytest.raises(FrameError, match=r"mirroring transform \(det -1\)"):
        Rigid(random_rigid(seed, dims).rotation @ mirror, np.zeros(dims))


@settings(deadline=None)
@given(seed=seeds, factor=st.floats(1e-3, 1e3).filter(lambda f: abs(f - 1) > 1e-4))
def test_a_scale_or_a_shear_is_refused(seed: int, factor: float) -> None:
    rotation = random_rigid(seed, 3).rotation
    with pytest.raises(FrameError, match="singular values"):
        Rigid(factor * rotation, np.zeros(3))
    shear = np.eye(3)
    shear[0, 1] = factor - 1
    with pytest.raises(FrameError, match="singular values"):
        Rigid(rotation @ shear, np.zeros(3))


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_numbers_that_are_not_finite_are_refused(bad: float) -> None:
    rotation, translation = np.eye(3), np.zeros(3)
    rotation[0, 0] = bad
    with pytest.raises(FrameError, match="NaN or infinite"):
        Rigid(rotation, np.zeros(3))
    translation[1] = bad
    with pytest.raises(FrameError, match="NaN or infinite"):
        Rigid(np.eye(3), translation)


def test_the_error_says_found_expected_and_cure() -> None:
    with pytest.raises(FrameError) as caught:
        Rigid(np.diag([2.0, 1.0, 1.0]), np.zeros(3))
    assert re.search(r"found .*\[2\.0, 1\.0, 1\.0\].*expected a rigid motion.*To cure it: scale", str(caught.value))


def test_equal_frames_pass_and_others_raise() -> None:
    Frame().require_same(Frame(BODY, ("x", "y", "z")))
    with pytest.raises(FrameError, match=r"'raw'.*beside frame 'body'.*body_frame"):
        Frame(BODY).require_same(Frame(RAW))
    with pytest.raises(FrameError, match="anterior-posterior"):
        Frame(BODY).require_same(Frame(BODY, ("anterior-posterior", "dorsal-ventral", "left-right")))
