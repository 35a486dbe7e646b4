from itertools import permutations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.distance import cdist
from scipy.spatial.transform import Rotation

from embryo.measure import mixing, neighbourhood_enrichment

SEEDS = st.integers(0, 2**32 - 1)


def by_hand(x, labels, mass, k):
    """The definition over the k nearest of every cell."""
    d = cdist(x, x)
    np.fill_diagonal(d, np.inf)
    near = [(i, j) for i in range(len(x)) for j in d[i].argsort()[:k]]
    every = [(i, j) for i in range(len(x)) for j in range(len(x)) if i != j]
    found, expected = (
        sum(mass[i] * mass[j] for i, j in pairs if labels[i] == labels[j]) / sum(mass[i] * mass[j] for i, j in pairs)
        for pairs in (near, every)
    )
    return (found - expected) / (1 - expected)


@settings(max_examples=15, deadline=None)
@given(SEEDS, st.integers(1, 8))
def test_mixing_is_its_definition_and_knows_no_pose(seed, k):
    rng = np.random.default_rng(seed)
    x, labels, mass = rng.normal(size=(30, 3)), rng.choice(["a", "b", "c"], 30), rng.uniform(0.1, 3, 30)
    value = mixing(x, labels, mass, neighbours=k)
    assert value == pytest.approx(by_hand(x, labels, mass, k), abs=1e-9)
    turned = x @ Rotation.random(rng=rng).as_matrix().T + 50
    order = rng.permutation(30)
    for same in ((turned, labels, mass), (x * [1, 1, -1], labels, mass), (x[order], labels[order], mass[order])):
        assert mixing(*same, neighbours=k) == pytest.approx(value, abs=1e-9)
    assert mixing(x, labels, 10 * mass, neighbours=k) == pytest.approx(value, abs=1e-9)
    ghost = np.vstack([x, x[:1] + 1e-3]), np.append(labels, "b"), np.append(mass, 0.0)
    assert mixing(*ghost, neighbours=k) == pytest.approx(value, abs=1e-9)


def test_mixing_is_zero_in_the_mean_over_all_labellings():
    x = np.random.default_rng(0).normal(size=(7, 2))
    values = [mixing(x, np.array(labels), neighbours=2) for labels in set(permutations("aaabbcc"))]
    assert np.mean(values) == pytest.approx(0, abs=1e-12)


def test_sorted_tissue_is_one_and_alternating_tissue_is_negative():
    rng = np.random.default_rng(1)
    two = np.vstack([rng.normal(size=(30, 3)), rng.normal(size=(30, 3)) + 100])
    assert mixing(two, np.repeat(["a", "b"], 30)) == pytest.approx(1)
    line = np.arange(40.0)[:, None] + 0.01 * rng.random((40, 1))
    assert mixing(line, np.tile(["a", "b"], 20), neighbours=1) < -0.9


def test_mixing_is_unknown_for_one_label_no_space_or_too_few():
    x = np.random.default_rng(2).normal(size=(10, 3))
    assert np.isnan(mixing(x, np.repeat("a", 10)))
    assert np.isnan(mixing(np.zeros((10, 0)), np.repeat(["a", "b"], 5)))
    assert np.isnan(mixing(x[:2], np.array(["a", "b"])))
    assert not np.isnan(mixing(x[:4], np.array(["a", "b", "a", "b"])))  # fewer cells than neighbours asked for


def test_enrichment_sees_who_sorts_out_and_is_quiet(capfd):
    rng = np.random.default_rng(3)
    two = np.vstack([rng.normal(size=(40, 3)), rng.normal(size=(40, 3)) + 20])
    labels = np.repeat(["a", "b"], 40)
    z = neighbourhood_enrichment(two, labels, permutations=100)
    assert list(z.index) == list(z.columns) == ["a", "b"]
    assert z.loc["a", "a"] > 3
    assert z.loc["a", "b"] < -3
    shuffled = neighbourhood_enrichment(two, rng.permutation(labels), permutations=100)
    assert shuffled.abs().to_numpy().max() < 4
    again = neighbourhood_enrichment(two, labels, permutations=100)
    np.testing.assert_array_equal(z, again)
    assert capfd.readouterr() == ("", "")
