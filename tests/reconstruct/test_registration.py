from time import process_time

import numpy as np
import pytest
from scipy.spatial.distance import cdist

from embryo.core.errors import FrameError
from embryo.reconstruct.registration import Cloud, farthest, register

SHAPES = {
    "three axes": [100.0, 60.0, 50.0],
    "rod": [100.0, 60.0, 60.0],
    "disc": [100.0, 100.0, 60.0],
    "ball": [100.0, 95.0, 90.0],
}


def moved(cloud, turn, shift):
    return Cloud(cloud.x @ turn.T + shift, cloud.e)


@pytest.mark.parametrize("shape", SHAPES)
def test_the_pose_of_other_cells_of_the_same_body_is_recovered(body, pose, degrees, shape):
    errors = []
    for seed in range(3):
        axes = np.array(SHAPES[shape])
        a, b = (Cloud(*body(n, 10 * seed + k, axes_um=axes, genes_seed=seed)) for k, n in enumerate((1500, 1100)))
        b = Cloud(b.x, b.e + np.random.default_rng(seed).normal(size=b.e.shape[1]) * 0.3)  # a batch of its own
        turn, shift = pose(np.random.default_rng(seed))
        fit = register(moved(a, turn, shift), b)
        errors.append(degrees(fit.motion.rotation, turn.T))
        assert np.linalg.norm(fit.motion(shift[None])[0]) < 6  # the centre of the body, µm
        assert not fit.mirrored
    assert np.median(errors) < 4
    assert max(errors) < 8


def test_a_mirrored_body_is_not_fitted_but_flagged(body, pose):
    a, b = Cloud(*body(1200, 1)), Cloud(*body(1000, 2))
    turn, shift = pose(np.random.default_rng(0))
    right = register(moved(a, turn, shift), b)
    wrong = register(moved(Cloud(a.x * [1, 1, -1], a.e), turn, shift), b)
    assert np.linalg.det(wrong.motion.rotation) == pytest.approx(1)
    assert wrong.median_um > 1.8 * right.median_um
    assert wrong.mirrored
    assert wrong.mirrored_um == pytest.approx(right.median_um, rel=0.2)


def test_expression_that_is_alike_on_both_sides_flags_nothing(body):
    (x, _), (y, _) = body(800, 1), body(800, 2)
    e, f = (np.column_stack([p[:, 0], np.abs(p[:, 1]), p[:, 2]]) / 30 for p in (x, y))
    assert not register(Cloud(x, e), Cloud(y, f)).mirrored
    assert not register(Cloud(x * [1, -1, 1], e), Cloud(y, f)).mirrored


@pytest.mark.parametrize("seed", range(4))
def test_neither_poses_nor_order_change_the_result(body, pose, seed):
    rng = np.random.default_rng(seed)
    a, b = Cloud(*body(300, seed)), Cloud(*body(250, seed + 50))
    before = register(a, b)
    (turn_a, shift_a), (turn_b, shift_b) = pose(rng), pose(rng)
    order = rng.permutation(300)
    after = register(moved(Cloud(a.x[order], a.e[order]), turn_a, shift_a), moved(b, turn_b, shift_b))
    np.testing.assert_allclose(after.motion.rotation, turn_b @ before.motion.rotation @ turn_a.T, atol=1e-6)
    assert after.median_um == pytest.approx(before.median_um, rel=1e-6)


def test_sections_in_a_plane(body, pose, degrees):
    a, b = Cloud(*body(3000, 1)), Cloud(*body(3000, 2))
    a, b = (Cloud(c.x[np.abs(c.x[:, 2]) < 10][:, :2], c.e[np.abs(c.x[:, 2]) < 10]) for c in (a, b))
    turn, shift = pose(np.random.default_rng(5), 2)
    fit = register(Cloud(a.x @ turn.T + shift, a.e), b)
    cosine = np.trace(fit.motion.rotation @ turn) / 2
    assert np.degrees(np.arccos(min(cosine, 1.0))) < 5
    assert np.linalg.det(fit.motion.rotation) == pytest.approx(1)


def test_a_body_finds_itself(body, pose):
    a = Cloud(*body(400, 3))
    turn, shift = pose(np.random.default_rng(1))
    fit = register(moved(a, turn, shift), a)
    np.testing.assert_allclose(fit.motion.rotation, turn.T, atol=1e-6)


def test_features_that_are_constant_are_passed_over(body):
    x, e = body(200, 3)
    with_constant = np.column_stack([e, np.full(200, 0.1)])
    plain, more = register(Cloud(x, e), Cloud(x, e)), register(Cloud(x, with_constant), Cloud(x, with_constant))
    np.testing.assert_allclose(more.motion.rotation, plain.motion.rotation, atol=1e-9)


def test_few_cells_are_refused(body):
    x, e = body(9, 0)
    with pytest.raises(FrameError, match="9 cells; expected at least 10"):
        register(Cloud(x, e), Cloud(*body(50, 1)))


def test_expression_without_places_is_refused(body):
    x, e = body(50, 0)
    with pytest.raises(FrameError, match="the same everywhere"):
        register(Cloud(x, np.full_like(e, 0.1)), Cloud(x, np.full_like(e, 0.1)))


def test_two_bodies_of_3000_cells_take_less_than_three_seconds(body):
    a, b = Cloud(*body(3000, 1)), Cloud(*body(3000, 2))
    start = process_time()
    register(a, b)
    assert process_time() - start < 3


def test_farthest_points_cover_the_body(rng):
    x = rng.normal(size=(400, 3))
    chosen = farthest(x, 40)
    assert len(set(chosen.tolist())) == 40
    gaps = cdist(x, x[chosen]).min(axis=1).max()
    apart = cdist(x[chosen], x[chosen])[np.triu_indices(40, 1)].min()
    assert gaps <= apart  # Gonzalez: a 2-approximation of the best cover
