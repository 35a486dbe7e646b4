"""Closed forms against scipy and scikit-learn."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from scipy import stats
from sklearn.metrics import roc_auc_score

from embryo.evaluate.perturbation import effects

numbers = arrays.arrays(float, 6, elements=st.floats(-10, 10, allow_subnormal=False))


@given(a=numbers, b=numbers)
def test_pearson_is_scipys_and_nothing_where_nothing_varies(a: np.ndarray, b: np.ndarray) -> None:
    found = float(effects.pearson(a, b))
    if a.std() > 1e-3 and b.std() > 1e-3:
        assert found == pytest.approx(stats.pearsonr(a, b).statistic, abs=1e-6)
    assert float(effects.pearson(np.zeros(6), b)) == 0.0


def test_fold_changes_are_logs_of_ratios() -> None:
    found = effects.log_fold_change(np.array([0.98, 0.0]), np.array([0.48, 0.0]), 0.02)
    np.testing.assert_allclose(found, [1.0, 0.0])


def test_retrieval_ranks_by_cosine() -> None:
    truths = np.eye(4)
    assert effects.retrieval(truths[2] * 3, truths, 2) == 1.0
    assert effects.retrieval(truths[1], truths, 2) == pytest.approx(1 / 3)  # one is nearer, two tie
    assert effects.retrieval(np.zeros(4), truths, 2) == effects.CHANCE
    assert np.isnan(effects.retrieval(np.ones(4), truths[:1], 0))


def test_retrieval_of_noise_is_a_half(rng: np.random.Generator) -> None:
    found = [effects.retrieval(rng.normal(size=20), rng.normal(size=(9, 20)), 3) for _ in range(400)]
    assert np.mean(found) == pytest.approx(0.5, abs=0.05)


def test_signs_are_scored_as_sklearn_does(rng: np.random.Generator) -> None:
    score, sign = rng.normal(size=40).round(1), rng.integers(-1, 2, size=40)
    known = sign != 0
    expected = roc_auc_score(sign[known] > 0, score[known])
    assert effects.sign_auroc(score, sign, np.ones((1, 40)))[0] == pytest.approx(expected)
    weights = rng.integers(0, 3, size=(1, 40)).astype(float)
    expected = roc_auc_score(sign[known] > 0, score[known], sample_weight=weights[0, known])
    assert effects.sign_auroc(score, sign, weights)[0] == pytest.approx(expected)


def test_a_sign_without_its_opposite_has_no_area() -> None:
    assert np.isnan(effects.sign_auroc(np.arange(3.0), np.ones(3, dtype=np.int64), np.ones((1, 3)))[0])


def test_changes_are_those_that_welch_and_benjamini_hochberg_show(rng: np.random.Generator) -> None:
    wild = np.column_stack([0.5 + 0.01 * rng.normal(size=6), 0.5 + 0.01 * rng.normal(size=6)])
    moved = np.column_stack([0.7 + 0.01 * rng.normal(size=4), 0.3 + 0.01 * rng.normal(size=4)])
    angles = [effects.angles(shares) for shares in (moved, wild[:4], wild)]
    assert effects.changed(angles[:2], angles[2]).tolist() == [[1, -1], [0, 0]]


def test_the_interval_covers_as_often_as_it_says(rng: np.random.Generator) -> None:
    found = [
        effects.coverage(0.5 + 0.05 * rng.normal(size=(5, 1)), 0.5 + 0.05 * rng.normal(size=(2, 1)))
        for _ in range(3000)
    ]
    assert np.mean(found) == pytest.approx(0.9, abs=0.015)
    assert np.isnan(effects.coverage(np.ones((2, 1)), np.ones((2, 1))))


def test_fates_that_nobody_has_are_not_asked() -> None:
    members, truth = np.tile([0.5, 0.0], (4, 1)), np.array([[0.9, 0.0]])
    assert effects.coverage(members, truth) == 0.0


def test_doubt_that_knows_the_error_leaves_less_of_it() -> None:
    error = np.array([0.1, 0.2, 0.3, 0.4])
    assert effects.error_at_coverage(error, error, 0.5) == pytest.approx(0.15)
    assert effects.area_under_risk(error, error) == pytest.approx(np.mean([0.1, 0.15, 0.2, 0.25]) / 0.25)
    assert effects.area_under_risk(error, np.zeros(4)) == pytest.approx(1.0)
    assert effects.area_under_risk(error, -error) > 1
