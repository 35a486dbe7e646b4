"""Least squares within bounds from moments: scipy's own answer on the rows, and the lasso's conditions."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import nnls

from embryo.fit.bounded import Moments, bounded, signed, sum_of


def rows(seed: int) -> tuple[np.ndarray, np.ndarray, Moments]:
    rng = np.random.default_rng(seed)
    x, v = rng.normal(size=(60, 5)) * [1, 10, 0.1, 1, 1], rng.normal(size=60)
    return x, v, sum_of([Moments(a.T @ a, a.T @ b, float(b @ b)) for a, b in ((x[:20], v[:20]), (x[20:], v[20:]))])


@given(seed=st.integers(0, 1000))
def test_without_a_penalty_it_is_non_negative_least_squares(seed: int) -> None:
    x, v, kept = rows(seed)
    own = bounded(kept, np.zeros(5), (np.zeros(5), np.full(5, np.inf)))
    best, left = nnls(x, v)
    np.testing.assert_allclose(own, best, rtol=1e-3, atol=1e-5)
    np.testing.assert_allclose(kept.error(own) * (v @ v), left**2, rtol=1e-6)


@given(seed=st.integers(0, 1000))
def test_the_lasso_meets_its_conditions(seed: int) -> None:
    x, v, kept = rows(seed)
    penalty = 0.2 * np.abs(x.T @ v)
    own = signed(kept, penalty, (np.full(5, -np.inf), np.full(5, np.inf)))
    slope = x.T @ (x @ own - v)
    away = np.abs(own) > 1e-9
    np.testing.assert_allclose((slope + np.sign(own) * penalty)[away], 0, atol=1e-2 * np.abs(x.T @ v).max())
