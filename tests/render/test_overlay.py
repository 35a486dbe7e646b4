import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from embryo.render import overlay
from embryo.render.camera import Camera, view

SIZE = (300, 200)
CAMERA = Camera(view(), np.zeros(3), (150.0, 100.0))  # one pixel per µm


def drawn(draw):
    figure = Figure(figsize=(3, 2), dpi=100, facecolor="white")
    canvas = FigureCanvasAgg(figure)
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set_xlim(0, SIZE[0])
    axes.set_ylim(SIZE[1], 0)
    axes.set_axis_off()
    draw(axes)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].astype(int)


@given(st.floats(1e-3, 1e6))
def test_nice_lengths_are_round_and_at_least_two_fifths(length):
    found = overlay.nice(length)
    assert 0.39 * length < found <= length * (1 + 1e-6)
    digits = f"{found:.6e}".split("e")[0].rstrip("0").rstrip(".")
    assert digits in ("1", "2", "5")


@pytest.mark.parametrize(("um", "words"), [(50.0, "50 µm"), (0.5, "0.5 µm"), (2000.0, "2 mm")])
def test_lengths_are_in_the_unit_people_use(um, words):
    assert overlay.length_text(um) == words


@pytest.mark.parametrize(("name", "short"), [("x", "x"), ("anterior-posterior", "A–P"), ("dorsal_ventral", "D–V")])
def test_axes_have_short_names(name, short):
    assert overlay.axis_name(name) == short


def test_an_outline_goes_round_the_others():
    ring = np.linspace(0, 2 * np.pi, 200)
    disc = np.concatenate([np.column_stack([r * np.cos(ring), r * np.sin(ring)]) for r in np.linspace(1, 60, 30)])
    image = drawn(lambda axes: overlay.outline(axes, disc @ view()[:2], CAMERA, SIZE, 4.0))
    dark = np.argwhere(image.max(axis=-1) < 120) - [100, 150]
    radius = np.hypot(*dark.T)
    assert len(dark) > 100
    assert radius.min() > 55
    assert radius.max() < 70
    assert {(y > 0, x > 0) for y, x in dark} == {(True, True), (True, False), (False, True), (False, False)}


def test_an_outline_outside_the_picture_is_not_drawn():
    assert (drawn(lambda axes: overlay.outline(axes, np.full((3, 3), 1e4), CAMERA, SIZE, 4.0)) == 255).all()


def test_arrows_are_to_scale_and_only_for_cells_in_front():
    right, _, towards = CAMERA.rotation
    front, back = 30 * towards, -30 * towards
    x, shift = np.stack([front, back]), np.stack([80 * right, -80 * right])
    image = drawn(lambda axes: overlay.arrows(axes, x, shift, CAMERA, SIZE))
    columns = np.flatnonzero((image.max(axis=-1) < 120).any(axis=0))
    assert columns.min() == pytest.approx(150, abs=4)
    assert columns.max() == pytest.approx(230, abs=4)


def test_a_hull_is_clear_in_the_middle_and_dense_at_the_rim():
    theta, phi = np.meshgrid(np.linspace(0.01, np.pi - 0.01, 40), np.linspace(0, 2 * np.pi, 80))
    ball = 80 * np.stack([np.sin(theta) * np.cos(phi), np.sin(theta) * np.sin(phi), np.cos(theta)], -1).reshape(-1, 3)
    k = (np.arange(79)[:, None] * 40 + np.arange(39)).ravel()
    faces = np.concatenate([np.column_stack([k, k + 1, k + 40]), np.column_stack([k + 1, k + 41, k + 40])])
    image = drawn(lambda axes: overlay.hull(axes, ball, faces, camera=CAMERA, size=SIZE))[..., 0]
    assert (image[:10] == 255).all()
    assert image[90:110, 140:160].mean() > image[98:102, 223:228].mean() + 40
