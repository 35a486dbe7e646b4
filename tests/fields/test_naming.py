"""Names found from where cells lie: in any pose and order, never by a mirror image."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.distance import mahalanobis
from scipy.stats import special_ortho_group

from embryo.core.frame import Rigid
from embryo.fields.naming import Slots, identify


def body(dims: int = 3, n: int = 40, seed: int = 0) -> Slots:
    """Cells of an elongated body without a symmetry."""
    rng = np.random.default_rng(seed)
    mean = rng.normal(size=(n, dims)) * np.array([25.0, 14.0, 9.0])[:dims]
    return Slots(mean, np.broadcast_to(np.eye(dims), (n, dims, dims)).copy(), np.ones(n))


@given(st.integers(0, 10_000), st.sampled_from([2, 3]))
def test_any_pose_and_order_is_undone(seed: int, dims: int) -> None:
    slots, rng = body(dims), np.random.default_rng(seed)
    order = rng.permutation(len(slots.mean))
    pose = Rigid(special_ortho_group.rvs(dims, random_state=rng), rng.normal(0, 50, dims))
    found = identify(pose(slots.mean + rng.normal(0, 0.5, slots.mean.shape))[order], slots)
    assert (found.slot == order).mean() > 0.9
    assert np.abs(found.motion.after(pose).rotation - np.eye(dims)).max() < 0.1


def test_a_round_body_is_turned_over_all_sides() -> None:
    rng = np.random.default_rng(3)
    mean = rng.normal(size=(40, 3)) * 10
    slots = Slots(mean, np.broadcast_to(np.eye(3), (40, 3, 3)).copy(), np.ones(40))
    pose = Rigid(special_ortho_group.rvs(3, random_state=rng), np.zeros(3))
    assert (identify(pose(mean), slots).slot == np.arange(40)).all()


def test_a_mirror_image_is_not_laid_down() -> None:
    slots = body()
    mirrored = identify(slots.mean * np.array([1, 1, -1]), slots)
    assert np.linalg.det(mirrored.motion.rotation) == pytest.approx(1)
    assert mirrored.cost > 3 * identify(slots.mean, slots).cost + 3


def test_the_cost_is_that_of_gaussians() -> None:
    rng = np.random.default_rng(0)
    slots = body()
    a = rng.normal(size=(40, 3, 3)) * 0.3
    slots = Slots(slots.mean, a @ a.transpose(0, 2, 1) + np.eye(3), rng.uniform(0.5, 1, 40))
    found = identify(slots.mean + rng.normal(0, 0.1, slots.mean.shape), slots)
    placed = found.motion(slots.mean + np.random.default_rng(1).normal(0, 0, slots.mean.shape))
    assert np.abs(placed - slots.mean).max() < 1
    exact = identify(slots.mean, slots)
    x = exact.motion(slots.mean)
    log_density = [
        mahalanobis(x[i], slots.mean[i], np.linalg.inv(slots.cov[i])) ** 2 / 2
        + np.log(np.linalg.det(slots.cov[i])) / 2
        - np.log(slots.share[i])
        for i in range(40)
    ]
    assert exact.cost == pytest.approx(np.mean(log_density), abs=1e-6)


def test_expression_tells_apart_what_positions_cannot() -> None:
    slots = body()
    twin = slots.mean.copy()
    twin[1] = twin[0] + np.array([0.01, 0, 0])
    slots = Slots(twin, slots.cov, slots.share)
    swapped = twin.copy()
    swapped[[0, 1]] = twin[[1, 0]]  # the nearest place is the other cell's
    unlike = np.zeros((40, 40))
    unlike[0, 1] = unlike[1, 0] = 50.0
    assert identify(swapped, slots).slot[:2].tolist() == [1, 0]
    found = identify(swapped, slots, unlike)
    assert found.slot[:2].tolist() == [0, 1]
    assert identify(swapped, slots).certainty[0] == pytest.approx(0.5, abs=0.05)
    assert found.certainty[0] == pytest.approx(1, abs=0.05)


def test_more_cells_than_slots_share_them() -> None:
    slots = body()
    found = identify(np.concatenate([slots.mean, slots.mean[:2] + 0.1]), slots)
    assert (found.slot[:40] == np.arange(40)).mean() > 0.9
    assert set(found.slot[40:]) <= set(range(40))
