import numpy as np
import pytest
from scipy import stats

from embryo import measure


def test_without_spread_over_seeds_it_is_students_interval(rng: np.random.Generator) -> None:
    groups = rng.normal(size=6)
    found = measure.crossed_interval(np.repeat(groups[:, None], 5, axis=1))
    low, high = stats.t.interval(0.95, 5, loc=groups.mean(), scale=stats.sem(groups))
    assert found.value == pytest.approx(groups.mean())
    assert (found.low, found.high, found.n) == (pytest.approx(low, rel=0.1), pytest.approx(high, rel=0.1), 6)


def test_it_covers_what_it_says(rng: np.random.Generator) -> None:
    """Effects of groups, of seeds and of both: 95 % intervals hold the truth in 95 % of 200 trials (sd 1.5 %) or more.

    Owen's bootstrap is conservative, so more often is right and less often is not.
    """
    hits = 0
    for k in range(200):
        values = rng.normal(size=(4, 1)) + 0.3 * rng.normal(size=(1, 5)) + 0.3 * rng.normal(size=(4, 5))
        found = measure.crossed_interval(values, seed=k)
        hits += found.low <= 0 <= found.high
    assert hits >= 184


def test_groups_without_a_score_are_left_out_and_one_group_has_no_interval() -> None:
    found = measure.crossed_interval(np.array([[1.0, 3.0], [np.nan, 9.0]]))
    assert (found.value, found.n) == (2, 1)
    assert np.isnan(found.low)
    assert measure.crossed_interval(np.full((2, 3), np.nan)).n == 0
