import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from embryo.core.errors import SchemaError
from embryo.core.frame import best
from embryo.core.state import State
from embryo.measure import SIZE_UNITS, landmarks, laterality, sides, size

SEEDS = st.integers(0, 2**32 - 1)


def state(x, mass=None):
    x = np.asarray(x, dtype=float)
    mass = np.ones(len(x)) if mass is None else np.asarray(mass, dtype=float)
    with np.errstate(divide="ignore"):
        return State(
            torch.zeros(len(x), 2), torch.zeros(len(x), 0), torch.from_numpy(x), torch.from_numpy(np.log(mass))
        )


def ball(n, dims, seed=0):
    """Uniform in the unit ball."""
    rng = np.random.default_rng(seed)
    u = rng.normal(size=(n, dims))
    return u / np.linalg.norm(u, axis=1, keepdims=True) * rng.random((n, 1)) ** (1 / dims)


def test_uniform_ellipsoid_gets_its_own_lengths_and_volume():
    half = np.array([22.0, 10.0, 10.0])
    found = size(state(ball(60_000, 3) * half))
    assert found[["axis_1_um", "axis_2_um", "axis_3_um"]].to_numpy() == pytest.approx([44, 20, 20], rel=0.02)
    assert found["volume_um3"] == pytest.approx(4 / 3 * np.pi * half.prod(), rel=0.02)
    assert found["aspect_ratio"] == pytest.approx(2.2, rel=0.02)
    assert found["radius_um"] == pytest.approx(np.sqrt((half**2).sum() / 5), rel=0.02)
    assert found["cells"] == pytest.approx(60_000)


def test_uniform_ellipse_in_the_plane():
    found = size(state(ball(40_000, 2) * [30.0, 10.0]))
    assert found[["axis_1_um", "axis_2_um"]].to_numpy() == pytest.approx([60, 20], rel=0.02)
    assert found["area_um2"] == pytest.approx(np.pi * 300, rel=0.02)
    assert "volume_um3" not in found
    assert "axis_3_um" not in found


def test_without_space_only_cells_are_counted():
    found = size(state(np.zeros((3, 0)), [1.0, 2.0, 4.0]))
    assert found.to_dict() == pytest.approx({"cells": 7.0})


def test_every_quantity_has_a_unit():
    for dims in (0, 1, 2, 3):
        assert set(size(state(ball(20, dims) if dims else np.zeros((20, 0)))).index) <= set(SIZE_UNITS)


def test_spacing_of_a_lattice_in_cell_units():
    lattice = np.argwhere(np.ones((5, 5, 5))).astype(float) * 12
    assert size(state(lattice))["spacing_um"] == pytest.approx(12)
    assert size(state(lattice, np.full(125, 8.0)))["spacing_um"] == pytest.approx(6)  # 8 cells halve the spacing
    flat = np.argwhere(np.ones((5, 5))).astype(float) * 12
    assert size(state(flat, np.full(25, 4.0)))["spacing_um"] == pytest.approx(6)


def test_spacing_is_the_median_over_mass():
    line = np.array([[0.0, 0, 0], [1, 0, 0], [10, 0, 0], [14, 0, 0], [50, 0, 0]])  # nearest: 1, 1, 4, 4, 36
    assert size(state(line))["spacing_um"] == pytest.approx(4)
    assert size(state(line, [1.0, 1, 1, 1, 0]))["spacing_um"] == pytest.approx(1)
    assert np.isnan(size(state(line[:1]))["spacing_um"])
    assert size(state(np.zeros((4, 3))))["spacing_um"] == 0


@settings(max_examples=25, deadline=None)
@given(SEEDS)
def test_size_does_not_depend_on_pose_order_or_hand(seed):
    rng = np.random.default_rng(seed)
    x, mass = rng.normal(size=(40, 3)) * [5, 3, 1], rng.uniform(0.2, 4, 40)
    found = size(state(x, mass)).to_numpy()
    turned = x @ Rotation.random(rng=rng).as_matrix().T + rng.normal(size=3) * 100
    order = rng.permutation(40)
    for same in (state(turned, mass), state(x * [1, -1, 1], mass), state(x[order], mass[order])):
        np.testing.assert_allclose(size(same).to_numpy(), found, rtol=1e-8)
    grown = size(state(3 * x, mass))
    assert grown["volume_um3"] == pytest.approx(27 * size(state(x, mass))["volume_um3"])


@settings(max_examples=25, deadline=None)
@given(SEEDS)
def test_one_particle_of_two_cells_is_two_of_one(seed):
    rng = np.random.default_rng(seed)
    x, mass = rng.normal(size=(20, 3)), rng.uniform(0.2, 4, 20)
    whole, split = size(state(x, mass)), size(state(np.repeat(x, 2, axis=0), np.repeat(mass / 2, 2)))
    for name in whole.index.drop("spacing_um"):  # spacing is between particles: twins lie on each other
        assert split[name] == pytest.approx(whole[name], rel=1e-8), name
    assert split["spacing_um"] == 0


def test_few_cells_have_no_aspect_ratio():
    """Three cells lie in a plane whatever they do; a flat cloud of many is flat, which is something to say."""
    x = np.random.default_rng(0).normal(size=(4, 3))
    ratios = [size(state(x[:n]))["aspect_ratio"] for n in (1, 2, 3, 4)]
    assert [bool(np.isnan(r)) for r in ratios] == [True, True, True, False]


def test_size_refuses_positions_that_are_no_numbers():
    x = np.zeros((3, 3))
    x[1] = np.inf
    with pytest.raises(SchemaError, match="size: found 1 cells with NaN or infinite"):
        size(state(x))


LANDMARKS = ("heart", "head", "back")


def landmarked(rng, dims=3):
    x = rng.normal(size=(60, dims)) * 10
    labels = rng.choice([*LANDMARKS, "other"], 60)
    return x, labels, rng.uniform(0.2, 3, 60)


@settings(max_examples=25, deadline=None)
@given(SEEDS, st.sampled_from([2, 3]))
def test_mirroring_changes_the_sign_of_laterality_and_moving_changes_nothing(seed, dims):
    rng = np.random.default_rng(seed)
    x, labels, mass = landmarked(rng, dims)
    names = LANDMARKS[:dims]
    value = laterality(x, labels, names, mass)
    turn = Rotation.random(rng=rng).as_matrix()
    if dims == 2:
        turn = Rotation.from_euler("z", rng.random() * 6).as_matrix()[:2, :2]
    same = {"rel": 1e-7, "abs": 1e-9}
    assert laterality(x @ turn.T + rng.normal(size=dims), labels, names, mass) == pytest.approx(value, **same)
    assert laterality(5 * x, labels, names, mass) == pytest.approx(value, **same)
    mirror = np.eye(dims)
    mirror[0, 0] = -1
    assert laterality(x @ turn.T @ mirror, labels, names, mass) == pytest.approx(-value, **same)
    assert laterality(x, labels, names[::-1], mass) == pytest.approx(-value, **same)
    assert abs(value) <= 1 + 1e-12
    order = rng.permutation(60)
    assert laterality(x[order], labels[order], names, mass[order]) == pytest.approx(value, **same)
    split = laterality(np.repeat(x, 2, axis=0), np.repeat(labels, 2), names, np.repeat(mass / 2, 2))
    assert split == pytest.approx(value, **same)


def test_laterality_of_axes_is_one_and_of_a_plane_is_zero():
    axes = np.vstack([np.eye(3), -np.eye(3)])  # centroid at the origin
    labels = np.array([*LANDMARKS, "", "", ""])
    assert laterality(axes, labels, LANDMARKS) == pytest.approx(1)
    assert laterality(-axes, labels, LANDMARKS) == pytest.approx(-1)
    assert laterality(axes, labels, ("head", "heart", "back")) == pytest.approx(-1)
    flat = axes * [1, 1, 0]
    assert laterality(flat, labels, LANDMARKS) == 0


def test_laterality_of_a_lost_landmark_is_unknown_and_needs_one_per_dimension():
    axes = np.vstack([np.eye(3), -np.eye(3)])
    labels = np.array([*LANDMARKS, "", "", ""])
    assert np.isnan(laterality(axes, labels, ("heart", "head", "tail")))
    with pytest.raises(SchemaError, match="found 2 landmarks"):
        laterality(axes, labels, ("heart", "head"))


def heart_and_rest(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return a long body whose heart lies beyond the middle of its third axis; x, labels, mass."""
    x = rng.normal(size=(300, 3)) * [40, 20, 10]
    return x, np.where((x[:, 2] > 4) & (x[:, 0] > 0), "heart", "rest"), rng.uniform(0.5, 2, 300)


def test_the_side_of_a_label_turns_in_the_mirror_and_not_after_proper_alignment():
    rng = np.random.default_rng(0)
    x, labels, mass = heart_and_rest(rng)
    found = sides(x[:, 2], labels, mass)
    assert found["heart"] == 1
    assert found["rest"] < 0
    turned = x @ Rotation.random(rng=rng).as_matrix().T + [5, -7, 300]
    for embryo, sign, chance in ((turned, 1, 1e-9), (turned * [-1, 1, 1], -1, 0.15)):
        a, b = embryo.mean(0), x.mean(0)
        laid = best(a, b, (embryo - a).T @ (x - b))(embryo)  # cell upon cell, as well as a rotation can
        again = sides(laid[:, 2], labels, mass)
        assert again == pytest.approx({name: sign * value for name, value in found.items()}, abs=chance)
    assert sides(-x[:, 2], labels, mass) == pytest.approx({name: -value for name, value in found.items()}, abs=1e-9)


def test_the_body_as_a_whole_lies_on_neither_side():
    rng = np.random.default_rng(1)
    for n in (1, 2, 7, 50):
        x, labels = rng.normal(size=n), np.full(n, "all")
        assert sides(x, labels, np.ones(n)) == pytest.approx({"all": 0.0})
    mass = np.array([1.0, 0.0, 1.0, 2.0])
    assert sides(np.array([-3.0, 50.0, -1.0, 2.0]), np.array(["a", "gone", "a", "b"]), mass) == {"a": -1.0, "b": 1.0}


def test_landmarks_are_the_labels_of_the_largest_hand():
    axes = np.vstack([np.eye(3), -np.eye(3), np.eye(3)[0] * 0.9])
    labels = np.array([*LANDMARKS, "", "", "", "near head"])
    assert set(landmarks(axes, labels)) in ({*LANDMARKS}, {"near head", *LANDMARKS[1:]})
    assert landmarks(axes, np.where(labels == LANDMARKS[0], LANDMARKS[1], "")) == ()
