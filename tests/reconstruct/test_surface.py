from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial import ConvexHull

from embryo.core.errors import FrameError
from embryo.reconstruct import surface


def ball(n, rng, inner=0.0):
    unit = rng.normal(size=(n, 3))
    return unit * rng.uniform(inner**3, 1, (n, 1)) ** (1 / 3) / np.linalg.norm(unit, axis=1, keepdims=True)


def box(counts=(11, 7, 5), size=(100.0, 60.0, 40.0)):
    axes = [np.linspace(0, length, n) for n, length in zip(counts, size, strict=True)]
    return np.stack(np.meshgrid(*axes, indexing="ij"), -1).reshape(-1, 3)


def is_closed(mesh):
    """Every edge is walked as often one way as the other."""
    edges = Counter((int(f[k]), int(f[k - 1])) for f in mesh.faces for k in range(3))
    return all(edges[b, a] == n for (a, b), n in edges.items())


def test_a_box_has_its_volume_and_area():
    mesh = surface(box())
    assert mesh.volume_um3 == pytest.approx(100 * 60 * 40)
    assert mesh.area_um2 == pytest.approx(2 * (100 * 60 + 60 * 40 + 40 * 100))
    assert is_closed(mesh)


@pytest.mark.parametrize("axes", [(50.0, 50.0, 50.0), (100.0, 60.0, 50.0)], ids=["sphere", "ellipsoid"])
def test_cells_on_a_skin_enclose_the_closed_form(axes, rng):
    skin = ball(2500, rng, inner=0.9999) * axes
    mesh = surface(skin)
    a, b, c = axes
    assert mesh.volume_um3 == pytest.approx(4 / 3 * np.pi * a * b * c, rel=0.01)
    p = 1.6075  # Thomsen's formula, itself within 1.1 %
    area = 4 * np.pi * (((a * b) ** p + (a * c) ** p + (b * c) ** p) / 3) ** (1 / p)
    assert mesh.area_um2 == pytest.approx(area, rel=0.02)
    assert is_closed(mesh)


def test_a_ball_fills_up_as_cells_are_added():
    full = 4 / 3 * np.pi * 50**3
    share = [surface(ball(n, np.random.default_rng(1)) * 50).volume_um3 / full for n in (300, 1500, 6000)]
    assert share[0] < share[1] < share[2] < 1
    assert share[2] > 0.88


@settings(max_examples=25)
@given(seed=st.integers(0, 10_000), n=st.integers(6, 80))
def test_an_infinite_width_gives_the_convex_hull(seed, n):
    x = np.random.default_rng(seed).normal(size=(n, 3)) * [30, 20, 10]
    mesh, hull = surface(x, alpha_um=float("inf")), ConvexHull(x)
    assert mesh.volume_um3 == pytest.approx(hull.volume)
    assert mesh.area_um2 == pytest.approx(hull.area)
    assert {tuple(v) for v in mesh.vertices.tolist()} == {tuple(v) for v in x[hull.vertices].tolist()}


@settings(max_examples=15)
@given(seed=st.integers(0, 10_000))
def test_pose_and_order_do_not_matter_and_scale_does_what_it_must(pose, seed):
    rng = np.random.default_rng(seed)
    x = ball(200, rng) * [100, 60, 50]
    mesh = surface(x)
    turn, shift = pose(rng)
    moved = surface(x[rng.permutation(200)] @ turn.T + shift)
    assert moved.volume_um3 == pytest.approx(mesh.volume_um3)
    assert moved.area_um2 == pytest.approx(mesh.area_um2)
    twice = surface(2 * x)
    assert twice.volume_um3 == pytest.approx(8 * mesh.volume_um3)
    assert twice.alpha_um == pytest.approx(2 * mesh.alpha_um)
    assert is_closed(mesh)


def test_a_hollow_body_has_one_skin(rng):
    x = ball(4000, rng, inner=0.85) * 50
    mesh = surface(x)
    assert np.linalg.norm(mesh.vertices, axis=1).min() > 0.9 * 50
    assert mesh.volume_um3 > 0.9 * ConvexHull(x).volume


def test_a_bent_body_is_not_its_hull(rng):
    angle = rng.uniform(0, 1.5 * np.pi, 4000)
    x = np.column_stack([np.cos(angle), np.sin(angle), 0 * angle]) * 60 + ball(4000, rng) * 15
    mesh = surface(x)
    tube = np.pi * 15**2 * 60 * 1.5 * np.pi + 4 / 3 * np.pi * 15**3
    assert 0.6 * tube < mesh.volume_um3 < tube
    assert ConvexHull(x).volume > 1.5 * tube
    assert is_closed(mesh)


def test_a_stray_cell_and_a_smaller_piece_are_left_out(rng):
    x = ball(1000, rng) * 50
    stray = surface(np.vstack([x, [[500.0, 0, 0]]]))
    assert np.linalg.norm(stray.vertices, axis=1).max() <= 50
    two = surface(np.vstack([x, ball(100, rng) * 20 + [300, 0, 0]]), alpha_um=30.0)
    assert two.vertices[:, 0].max() <= 50


def test_faces_look_outward(rng):
    mesh = surface(ball(500, rng) * 50, alpha_um=float("inf"))
    a, b, c = (mesh.vertices[mesh.faces[:, k]] for k in range(3))
    assert (np.einsum("ij,ij->i", np.cross(b - a, c - a), a + b + c) > 0).all()


@pytest.mark.parametrize(
    ("x", "alpha", "says"),
    [
        (np.eye(3), None, "3 cells"),
        (np.column_stack([np.random.default_rng(0).normal(size=(20, 2)), np.zeros(20)]), None, "lie in a plane"),
        (np.full((5, 3), np.nan), None, "NaN"),
        (box((3, 3, 3)), 1e-3, "no tetrahedron of cells within alpha 0.001 µm"),
        (box((3, 3, 3)), -1.0, "alpha -1.0 µm"),
    ],
    ids=["few", "flat", "nan", "narrow", "negative"],
)
def test_what_has_no_surface_is_said(x, alpha, says):
    with pytest.raises(FrameError, match=says):
        surface(x, alpha_um=alpha)
