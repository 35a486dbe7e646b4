import numpy as np
import pytest

from embryo.render.painters import painter
from embryo.render.spheres import AMBIENT, DIFFUSE, Spheres, paint

SIZE = (120, 100)


def one(x=60.0, y=50.0, z=0.0, r=30.0, rgb=(0.8, 0.4, 0.2), *, flat=False):
    return Spheres(np.array([[x, y, z]]), np.array([r]), np.array([rgb]), flat)


def both(a, b):
    parts = zip((a.centres, a.radius, a.rgb), (b.centres, b.radius, b.rgb), strict=True)
    return Spheres(*(np.concatenate(part) for part in parts))


@pytest.mark.parametrize("flat", [True, False])
def test_a_sphere_covers_a_disc_where_it_is(flat):
    image = paint(one(flat=flat), SIZE)
    inside = np.argwhere((image < 255).any(axis=-1))
    assert len(inside) == pytest.approx(np.pi * 30**2, rel=0.01)
    np.testing.assert_allclose(inside.mean(axis=0) + 0.5, [50, 60], atol=0.1)


def test_light_falls_by_the_cosine():
    """Without shine: ambient where the light does not reach, ambient and diffuse where it falls straight on."""
    image = paint(one(rgb=(0.6, 0.6, 0.6)), SIZE)[..., 0] / 255
    assert image[image < 1].min() == pytest.approx(0.6 * AMBIENT, abs=0.004)
    assert 0.6 * (AMBIENT + DIFFUSE) <= image[image < 1].max() < 0.6 * (AMBIENT + DIFFUSE) + 0.11
    bright = np.argwhere(image == image[image < 1].max()).mean(axis=0)
    assert bright[0] < 50  # from above
    assert bright[1] < 60  # from the left


def test_flat_discs_keep_their_colour():
    image = paint(one(flat=True), SIZE)
    np.testing.assert_array_equal(image[50, 60], np.round(255 * np.array([0.8, 0.4, 0.2])))


def test_the_nearer_hides_the_farther_whatever_their_order():
    red, blue = one(z=10, rgb=(1.0, 0.0, 0.0)), one(z=-10, rgb=(0.0, 0.0, 1.0))
    for image in (paint(both(red, blue), SIZE), paint(both(blue, red), SIZE)):
        assert image[50, 60, 0] > 100
        assert image[..., 2][image[..., 0] < 255].max() < 60


def test_spheres_cut_each_other_where_their_surfaces_meet():
    """Equal spheres at equal depth meet half way, in a vertical line."""
    image = paint(both(one(x=45.0, rgb=(1.0, 0.0, 0.0)), one(x=75.0, rgb=(0.0, 0.0, 1.0))), SIZE).astype(int)
    red = (image[50, :, 0] > image[50, :, 2]) & (image[50, :, 1] < 200)
    blue = (image[50, :, 2] > image[50, :, 0]) & (image[50, :, 1] < 200)
    assert np.flatnonzero(red).max() == 59
    assert np.flatnonzero(blue).min() == 60


def test_what_lies_outside_is_not_painted():
    assert (paint(one(x=500.0), SIZE) == 255).all()
    assert 0 < (paint(one(x=0.0, y=0.0), SIZE) < 255).any(axis=-1).sum() < np.pi * 30**2 / 3
    empty = Spheres(np.zeros((0, 3)), np.zeros(0), np.zeros((0, 3)))
    assert (paint(empty, SIZE) == 255).all()


def test_edges_are_smooth_and_sizes_kept():
    with painter("software") as smooth:
        image = smooth(one(rgb=(0.0, 0.0, 0.0)), SIZE)
    assert image.shape == (100, 120, 3)
    assert ((image[..., 0] > 60) & (image[..., 0] < 240)).sum() > 50
    assert 255 - image[..., 0].mean() == pytest.approx(255 * np.pi * 30**2 / 12000, rel=0.06)
