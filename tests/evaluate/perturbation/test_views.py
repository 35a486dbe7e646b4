"""Views against what `embryo.measure` and scipy say."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from scipy.spatial import distance

from embryo import measure
from embryo.core.errors import SchemaError
from embryo.evaluate.perturbation import EndPopulation, Trial, views


def test_shares_sum_to_one_and_are_those_of_measure(trial: Trial) -> None:
    view = views.Viewer(trial).view(trial.wild)
    one = trial.wild.only(trial.wild.embryos[:1])
    expected = measure.composition(one.fate, one.mass, trial.fates).to_numpy()
    np.testing.assert_allclose(view.shares[0], expected)
    np.testing.assert_allclose(view.maps.sum(axis=1), 1.0)


def test_bray_curtis_is_scipys(rng: np.random.Generator) -> None:
    a, b = rng.dirichlet(np.ones(5), size=(2, 3))
    np.testing.assert_allclose(views.bray_curtis(a, b), [distance.braycurtis(p, q) for p, q in zip(a, b, strict=True)])


def test_mean_distances_make_the_unbiased_energy_distance(
    trial: Trial, population: Callable[..., EndPopulation]
) -> None:
    viewer = views.Viewer(trial, max_cells=1000)
    a, b = (
        viewer.view(population(s, embryos=1, seed=k)).states for k, s in enumerate([(0.5, 0.3, 0.2), (0.2, 0.2, 0.6)])
    )
    found = 2 * views.mean_distances(a, b) - views.mean_distances(a) - views.mean_distances(b)
    assert found[0, 0] == pytest.approx(measure.energy_distance(a.points, b.points))


def test_nothing_depends_on_where_the_embryo_lies(trial: Trial) -> None:
    viewer = views.Viewer(trial)
    moved = replace(trial.wild, x=trial.wild.x + np.array([300.0, -20.0, 7.0]))
    for a, b in [(viewer.view(trial.wild), viewer.view(moved))]:
        np.testing.assert_allclose(a.maps, b.maps)
        assert a.places is not None
        assert b.places is not None
        np.testing.assert_allclose(a.places.points, b.places.points, atol=1e-9)


def test_splitting_a_row_in_two_changes_no_share_and_no_level(trial: Trial) -> None:
    half = replace(trial.wild, mass=trial.wild.mass / 2)
    twice = EndPopulation(*(np.concatenate([getattr(half, n), getattr(half, n)]) for n in half.__dataclass_fields__))
    a, b = (views.Viewer(trial).view(p) for p in (trial.wild, twice))
    for name in ("shares", "maps", "levels", "numbers"):
        np.testing.assert_allclose(getattr(a, name), getattr(b, name))


def test_foreign_fates_and_panels_are_told(trial: Trial) -> None:
    odd = replace(trial.wild, fate=np.full(len(trial.wild.fate), "tail", dtype=object), g=trial.wild.g[:, :2])
    with pytest.raises(SchemaError, match="fate 'tail'") as error:
        views.Viewer(trial).view(odd)
    assert "2 genes" in str(error.value)


def test_lengths_are_the_spread_along_the_body_axes(trial: Trial) -> None:
    view = views.Viewer(trial).view(trial.wild)
    one = trial.wild.only(trial.wild.embryos[:1])
    np.testing.assert_allclose(np.exp(view.lengths[0]), one.x.std(axis=0), rtol=1e-6)
