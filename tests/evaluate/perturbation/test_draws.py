"""Intervals against a simulation of what they promise."""

import numpy as np
import pytest

from embryo.evaluate.perturbation.draws import Sampled, embryo_weights, interval, moved


def test_intervals_over_edits_cover_as_often_as_they_say() -> None:
    rng = np.random.default_rng(1)
    hits = []
    for k in range(300):
        sampled = Sampled(0.3 + rng.normal(size=(8, 1)), np.zeros((200, 8)), np.full(8, 3))
        found = interval(sampled, seed=k)
        hits.append(found.low <= 0.3 <= found.high)
    assert np.mean(hits) == pytest.approx(0.95, abs=0.04)


def test_draws_of_embryos_have_the_variance_of_a_mean() -> None:
    values = np.array([1.0, 2.0, 4.0])
    weights = embryo_weights(3, [0], draws=40_000)
    assert weights[0] == pytest.approx(1 / 3)
    assert moved(weights @ values, 3).var() == pytest.approx(values.var(ddof=1) / 3, rel=0.05)
    assert not moved(np.array([1.0, 2.0]), 1).any()


def test_one_edit_of_one_embryo_has_no_interval() -> None:
    assert np.isnan(interval(Sampled(np.ones((1, 3)), np.zeros((10, 1)), np.ones(1, dtype=np.int64))).low)


def test_differences_are_paired_and_edits_without_scores_left_out() -> None:
    a = Sampled(np.array([[1.0], [np.nan], [3.0]]), np.zeros((50, 3)), np.full(3, 2))
    b = Sampled(np.array([[0.0], [0.0], [2.0]]), np.zeros((50, 3)), np.full(3, 2))
    found = interval(a.minus(b))
    assert (found.value, found.low, found.high) == (1.0, 1.0, 1.0)
    assert len(a.known.values) == 2
