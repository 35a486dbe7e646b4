import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import norm

from embryo.core.errors import SchemaError
from embryo.measure import bray_curtis, composition, fates

FATES = ("a", "b", "c")


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_composition_is_the_share_of_mass(seed):
    rng = np.random.default_rng(seed)
    labels, mass = rng.choice(FATES[:2], 40), rng.uniform(0.1, 5, 40)
    found = composition(labels, mass, FATES)
    expected = pd.Series(mass).groupby(labels).sum() / mass.sum()
    assert found["c"] == 0
    pd.testing.assert_series_equal(found[expected.index], expected, check_names=False)
    order = rng.permutation(40)
    pd.testing.assert_series_equal(composition(labels[order], mass[order], FATES), found)
    split = composition(np.repeat(labels, 2), np.repeat(mass / 2, 2), FATES)
    pd.testing.assert_series_equal(split, found)


def test_composition_refuses_unknown_labels_and_no_mass():
    with pytest.raises(SchemaError, match=r"labels \['x'\]"):
        composition(np.array(["a", "x"]), np.ones(2), FATES)
    with pytest.raises(SchemaError, match="no cells, or none with mass"):
        composition(np.array(["a"]), np.zeros(1), FATES)


def test_bray_curtis_by_hand():
    p = pd.Series({"a": 0.5, "b": 0.5})
    assert bray_curtis(p, p) == 0
    assert bray_curtis(p, pd.Series({"c": 1.0})) == 1
    assert bray_curtis(p, pd.Series({"b": 0.25, "a": 0.75})) == pytest.approx(0.25)  # by name, not by place
    assert bray_curtis(p, pd.Series({"a": 0.5, "b": 0.25, "c": 0.25})) == pytest.approx(0.25)
    assert np.isnan(bray_curtis(p * 0, p * 0))


def two_gaussians(n, apart, seed=0):
    rng = np.random.default_rng(seed)
    truth = rng.choice(["left", "right"], n)
    z = rng.normal(size=(n, 1)) + np.where(truth == "left", 0.0, apart)[:, None]
    return z, truth


def test_classifier_reaches_and_reports_the_error_of_bayes():
    apart = 2.0
    z, truth = two_gaussians(3000, apart)
    read = fates(z, truth, neighbours=61, groups=np.arange(3000) % 6)
    bayes = norm.cdf(-apart / 2)
    assert read.error == pytest.approx(bayes, abs=0.025)
    fresh, fresh_truth = two_gaussians(3000, apart, seed=1)
    assert (read.predict(fresh) != fresh_truth).mean() == pytest.approx(read.error, abs=0.025)
    assert read.chance == pytest.approx(0.5, abs=0.05)
    assert "held-out embryos (6 embryos)" in str(read)
    assert f"{read.error:.1%}" in str(read)


def test_probabilities_are_shares_of_neighbours():
    z = np.array([[0.0], [0.1], [0.2], [5.0], [5.1], [5.2]])
    read = fates(z, np.array(["x", "x", "y", "y", "y", "y"]), neighbours=3)
    assert read.fates == ("x", "y")
    np.testing.assert_allclose(read.proba(np.array([[0.1], [5.1]])), [[2 / 3, 1 / 3], [0, 1]])
    assert read.predict(np.array([[0.1], [5.1]])).tolist() == ["x", "y"]


def test_error_is_that_on_unseen_embryos_where_embryos_are_known():
    # Each embryo is a tight clump with its own label: within an embryo reading is perfect, across it is hopeless.
    z = np.repeat(np.arange(4.0), 20)[:, None] * 10 + np.linspace(0, 1, 80)[:, None]
    labels, embryo = np.repeat(["a", "b", "c", "d"], 20), np.repeat(["1", "2", "3", "4"], 20)
    assert fates(z, labels, neighbours=3, groups=embryo).error == 1
    within = fates(z, labels, neighbours=3)
    assert within.error == 0
    assert "optimistic" in within.validated_on


def test_report_by_fate_adds_up():
    z, truth = two_gaussians(400, 1.0)
    read = fates(z, truth, groups=np.arange(400) % 5)
    table = read.by_fate
    assert table["cells"].sum() == 400
    assert (table["recall"] * table["cells"]).sum() / 400 == pytest.approx(1 - read.error)


def test_unlabelled_cells_are_left_out_and_the_reference_is_capped():
    z, truth = two_gaussians(300, 8.0)
    labels = truth.astype(object)
    labels[:100], labels[100:150] = "", None
    assert fates(z, labels).model.n_samples_fit_ == 150
    assert fates(z, labels, max_cells=60).model.n_samples_fit_ == 60
    assert fates(z, labels).fates == ("left", "right")


def test_same_seed_same_read_out():
    z, truth = two_gaussians(300, 1.0)
    first, again, other = (fates(z, truth, max_cells=100, seed=s) for s in (1, 1, 2))
    assert first.error == again.error
    np.testing.assert_array_equal(first.proba(z), again.proba(z))
    assert (first.proba(z) != other.proba(z)).any()


def test_reference_is_checked():
    with pytest.raises(SchemaError, match="1 labelled cells"):
        fates(np.zeros((3, 2)), np.array(["a", "", ""]))
    with pytest.raises(SchemaError, match="1 cells with NaN"):
        fates(np.array([[np.nan], [0.0]]), np.array(["a", "b"]))
