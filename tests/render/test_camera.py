from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from embryo.render.camera import Camera, outside, spacing, view
from embryo.render.palette import Key
from embryo.render.panel import Panel
from embryo.render.sheet import spheres
from embryo.render.spheres import paint

SIZE = (200, 160)
CUBE = np.stack(np.meshgrid(*[np.arange(6) * 10.0] * 3), -1).reshape(-1, 3)


def rotations(camera):
    return camera.rotation @ camera.rotation.T, np.linalg.det(camera.rotation)


@given(st.floats(-720, 720))
def test_every_view_is_a_proper_rotation(degrees):
    square, det = rotations(Camera(view(), np.zeros(3), (1.0, 1.0)).turned(degrees))
    np.testing.assert_allclose(square, np.eye(3), atol=1e-12)
    assert det == pytest.approx(1)


def test_a_quarter_turn_carries_x_to_where_y_was():
    camera = Camera(view(), np.zeros(3), (50.0, 50.0))
    x, y, z = np.eye(3) * 20
    turned = camera.turned(90.0)
    np.testing.assert_allclose(turned.project(x[None], SIZE), camera.project(y[None], SIZE), atol=1e-9)
    np.testing.assert_allclose(turned.project(z[None], SIZE), camera.project(z[None], SIZE), atol=1e-9)


def test_pixels_are_true_to_scale_whatever_the_depth():
    camera = Camera.over([[Panel("cube", CUBE)]])
    right, up, towards = camera.rotation
    for start in (camera.centre, camera.centre + 17 * towards):
        for direction in (right, up, (right + up) / np.sqrt(2)):
            a, b = camera.project(np.stack([start, start + 12 * direction]), SIZE)[:, :2]
            assert np.linalg.norm(a - b) == pytest.approx(12 * camera.scale(SIZE))


def test_the_camera_holds_every_cell_of_every_frame_through_a_turn():
    frames = [[Panel("a", CUBE * k), Panel("b", CUBE + 5 * k)] for k in (1, 2, 3)]
    for turn in (0.0, 360.0):
        camera = Camera.over(frames, turn_deg=turn)
        for degrees in np.linspace(0, turn, 13):
            for panel in (p for frame in frames for p in frame):
                assert outside(camera.turned(float(degrees)).project(panel.x, SIZE), SIZE) == 0


def test_strays_do_not_shrink_the_view_and_are_counted():
    many = np.random.default_rng(0).normal(size=(1000, 3)) * 20
    strayed = many.copy()
    strayed[:3] = 5000.0
    ordinary, robust = (Camera.over([[Panel("a", x)]]) for x in (many, strayed))
    assert robust.half_um[0] < 1.6 * ordinary.half_um[0]
    assert outside(robust.project(strayed, SIZE), SIZE) >= 3


def test_spacing_of_a_lattice_is_its_constant():
    lattice = np.stack(np.meshgrid(*[np.arange(12) * 10.0] * 3), -1).reshape(-1, 3)
    assert spacing([Panel("cube", lattice)]) == pytest.approx(10)
    assert spacing([Panel("square", lattice[lattice[:, 2] == 0][:, :2])]) == pytest.approx(10)
    assert spacing([Panel("lone", CUBE[:1])]) == 10
    assert spacing([Panel("pile", np.zeros((9, 3)))]) == 10


def test_flat_data_are_seen_from_above():
    camera = Camera.over([[Panel("square", CUBE[CUBE[:, 2] == 0][:, :2])]])
    np.testing.assert_array_equal(camera.rotation, np.eye(3))


def owner(image, colours, at):
    pixel = image[int(at[1]), int(at[0])].astype(float)
    lit = colours / np.linalg.norm(colours, axis=1, keepdims=True)
    return int(np.argmax(lit @ pixel))


def test_the_picture_is_right_handed():
    """Directions are read off the picture, depth off who hides whom; their triple product must be +1."""
    camera = Camera(view(), np.zeros(3), (60.0, 60.0))
    size = (240, 240)
    red_green = np.array([[1.0, 0.1, 0.1], [0.1, 1.0, 0.1]])
    rows = np.zeros((3, 3))
    for axis, unit in enumerate(np.eye(3)):
        ends = Panel("axis", np.stack([8 * unit, -8 * unit]))
        balls = spheres(ends, camera, Key(), size=size, apart=1.0)
        balls = replace(balls, radius=np.full(2, 50.0), rgb=red_green)
        first = owner(paint(balls, size), red_green, balls.centres.mean(axis=0))  # the nearer hides the other
        small = paint(replace(balls, radius=np.full(2, 4.0)), size).astype(int)
        red = np.argwhere(small[..., 0] - small[..., 1] > 60).mean(axis=0)
        green = np.argwhere(small[..., 1] - small[..., 0] > 60).mean(axis=0)
        down, right = (red - green) / 2
        rows[:, axis] = right, -down, 0.0
        rows[2, axis] = 1 if first == 0 else -1
    towards = np.cross(rows[0], rows[1])
    assert (np.sign(towards) == rows[2]).all()
