import numpy as np
import pytest
from common import shape_metrics as veckit
from common.core_metrics import mmd_unbiased
from scipy.spatial.distance import pdist
from scipy.spatial.transform import Rotation
from scipy.stats import wasserstein_distance
from sklearn.neighbors import NearestNeighbors

from embryo.core.errors import SchemaError
from embryo.measure import d2_shape, form_overlap, handedness_margin, scale_log_ratio, surroundings


def body(n: int = 600, seed: int = 0) -> np.ndarray:
    """A helix, which no turn lays on its mirror image, denser towards one end."""
    rng = np.random.default_rng(seed)
    s = rng.uniform(-1, 1, n) ** 2 * 1.8 - 0.9
    helix = np.stack([60 * s, 30 * np.cos(4 * s), 20 * np.sin(4 * s)], axis=1)
    return helix + rng.normal(0, 3, (n, 3))


def turned(x: np.ndarray, seed: int = 1) -> np.ndarray:
    return Rotation.random(random_state=seed).apply(x) + np.array([10, -5, 3])


def test_scale_is_veckits() -> None:
    a, b = body(), 1.4 * body(500, 3)
    assert scale_log_ratio(a, b) == pytest.approx(veckit.scale_log_ratio(a, b), rel=1e-9)
    assert scale_log_ratio(2 * a, a, np.full(600, 3.0)) == pytest.approx(np.log(2))
    assert np.isnan(scale_log_ratio(a, np.zeros((4, 3))))


def test_d2_is_veckits_up_to_the_draw_of_pairs() -> None:
    a, b = body(), np.random.default_rng(0).normal(size=(500, 3))
    expected = veckit.d2_distance(a, b)
    assert d2_shape(a, b, pairs=200_000).value == pytest.approx(expected, abs=0.004)
    assert expected > 0.05
    assert d2_shape(3 * turned(a), a).value < 0.01


def test_d2_takes_mass_for_cells() -> None:
    a = body()
    mass = np.where(a[:, 0] > 0, 3, 1)
    assert d2_shape(a, np.repeat(a, mass, axis=0), mass.astype(float)).value < 0.01
    assert d2_shape(a, np.repeat(a, mass, axis=0)).value > 0.02


def test_influence_on_d2_is_its_derivative() -> None:
    a, b = body(200), np.random.default_rng(0).normal(size=(100, 3))
    found = d2_shape(a, b, pairs=400_000)
    assert found.influence.mean() == pytest.approx(0, abs=1e-9)
    i, j = np.triu_indices(100, 1)

    def exact(w):  # all pairs, weighted
        w = w / w.sum()
        centred = b - w @ b
        d = np.linalg.norm(b[i] - b[j], axis=1) / np.sqrt(w @ (centred**2).sum(axis=1))
        of_a = pdist(a) / np.sqrt(((a - a.mean(0)) ** 2).sum(axis=1).mean())
        return wasserstein_distance(of_a, d, None, w[i] * w[j])

    for chosen in (b[:, 0] > 0.5, np.linalg.norm(b, axis=1) > 1.8):
        step = 1e-3 * (chosen - chosen.mean())
        slope = (exact(1 + step) - exact(1 - step)) / 2
        assert step @ found.influence / 100 == pytest.approx(slope, rel=0.2)  # pairs are drawn


def test_overlap_is_veckits_once_its_axes_are_right_handed(monkeypatch) -> None:
    """This version of veckit takes principal axes of either hand as they come (its issue 7)."""
    loose = veckit._canonicalise

    def right_handed(x):
        on_axes, radius = loose(x)
        centred = x - x.mean(0)
        hand = np.sign(np.linalg.det(np.linalg.lstsq(centred, on_axes, rcond=None)[0]))
        return on_axes * [1, 1, hand], radius

    monkeypatch.setattr(veckit, "_canonicalise", right_handed)
    a, b = body(), body(600, 7) * [1, 1.3, 0.8]
    for seed in range(4):
        p, q = turned(a, seed), turned(b, seed + 1)
        assert form_overlap(p, q) == pytest.approx(veckit.occupancy_dice(p, q)[0], abs=1e-9)


def test_overlap_knows_a_body_in_any_pose_and_not_its_mirror_image() -> None:
    a = body(2000)
    assert form_overlap(turned(a), 2 * a) == pytest.approx(1, abs=0.02)
    assert form_overlap(a * [1, 1, -1], a) < 0.9
    assert form_overlap(a[:, :2], turned(a)[:, :2] * 0 + a[:, :2] @ [[0, 1], [-1, 0]]) == pytest.approx(1, abs=0.02)


@pytest.mark.parametrize("n", [1, 2, 3])
def test_few_cells_have_a_form_as_far_as_they_can(n: int) -> None:
    """Two cells lie on a line and three in a plane: in any pose the same; a single cell has no pairs to compare."""
    x = body(n)
    assert form_overlap(turned(x), 2 * x) == 1
    alone = d2_shape(x[:1], body(20))
    assert np.isnan(alone.value)
    assert alone.influence.shape == (20,)
    assert np.isnan(d2_shape(x, x, paired=True).value) == (n == 1)


def test_a_mirrored_body_has_the_other_hand() -> None:
    x = body()
    z = x[:, :1] / 60  # states vary along the body
    one = np.ones(len(x))
    truth = body(500, 9)
    other = (truth[:, :1] / 60, truth / 30)
    both = (one, np.ones(500))
    assert handedness_margin(z, x / 30, *other, *both) > 0.02
    mirror = x * [1, 1, -1]
    assert handedness_margin(z, mirror / 30, *other, *both) < -0.02
    flat = x * [1, 1, 0]  # its mirror image is itself
    assert handedness_margin(z, flat / 30, z, flat / 30, one, one) == pytest.approx(0, abs=1e-9)


def test_surroundings_are_veckits() -> None:
    x = body(300)
    values = np.random.default_rng(0).normal(size=(300, 4))
    near = NearestNeighbors(n_neighbors=15).fit(x).kneighbors(x)[1]
    np.testing.assert_allclose(surroundings(x, values), values[near].mean(1), atol=1e-12)
    mass = np.ones(300)
    mass[near[0, 1]] = 1e9
    np.testing.assert_allclose(surroundings(x, values, mass)[0], values[near[0, 1]], atol=1e-6)
    assert surroundings(x[:4], values[:4]).shape == (4, 4)
    assert mmd_unbiased(surroundings(x, values), surroundings(body(300, 2), values)) < 0.05


def test_broken_clouds_are_refused() -> None:
    bad = np.full((5, 3), np.inf)
    for call in (scale_log_ratio, d2_shape, form_overlap):
        with pytest.raises(SchemaError, match="finite"):
            call(bad, body())
