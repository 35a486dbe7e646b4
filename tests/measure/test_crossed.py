import numpy as np
import pytest
from scipy import stats

from embryo import measure

TRIALS = 1000


def test_without_spread_over_seeds_it_is_students_interval(rng: np.random.Generator) -> None:
    groups = rng.normal(size=6)
    found = measure.crossed_interval(np.repeat(groups[:, None], 5, axis=1))
    low, high = stats.t.interval(0.95, 5, loc=groups.mean(), scale=stats.sem(groups))
    assert (found.value, found.n) == (pytest.approx(groups.mean()), 6)
    assert (found.low, found.high) == (pytest.approx(low), pytest.approx(high))


def test_without_spread_over_groups_it_is_students_interval_over_seeds(rng: np.random.Generator) -> None:
    seeds = rng.normal(size=5)
    found = measure.crossed_interval(np.repeat(seeds[None], 50, axis=0))
    low, high = stats.t.interval(0.95, 4, loc=seeds.mean(), scale=stats.sem(seeds))
    assert (found.low, found.high) == (pytest.approx(low), pytest.approx(high))


@pytest.mark.parametrize(
    ("shape", "sd"),
    [
        ((4, 5), (0, 1, 0)), ((4, 5), (1, 0.5, 0.5)), ((19, 5), (0, 1, 0)), ((19, 5), (0.2, 1, 0.2)),
        ((19, 5), (1, 1, 1)), ((50, 5), (0.5, 1, 0.3)), ((50, 5), (1, 0, 0)),
    ],
)  # fmt: skip
def test_it_covers_what_it_says(shape: tuple[int, int], sd: tuple[float, float, float]) -> None:
    """Effects of groups, of seeds and of both: 95 % intervals hold the truth in 95 % of trials, up to 3 sd (0.7 %)."""
    rng, (n, m), hits = np.random.default_rng(1), shape, 0
    for _ in range(TRIALS):
        parts = zip(sd, ((n, 1), (1, m), (n, m)), strict=True)
        found = measure.crossed_interval(sum((s * rng.normal(size=size) for s, size in parts), np.zeros(shape)))
        hits += found.low <= 0 <= found.high
    assert hits / TRIALS == pytest.approx(0.95, abs=3 * 0.007)


def test_what_neither_explains_is_counted_twice(rng: np.random.Generator) -> None:
    """The price of the simple sum: where there is nothing but such noise, intervals are wider than they need be."""
    hits = 0
    for _ in range(300):
        found = measure.crossed_interval(rng.normal(size=(19, 5)))
        hits += found.low <= 0 <= found.high
    assert hits >= 290  # 0.99 expected


def test_one_seed_leaves_the_interval_over_groups(rng: np.random.Generator) -> None:
    groups = rng.normal(size=6)
    found = measure.crossed_interval(groups[:, None])
    low, high = stats.t.interval(0.95, 5, loc=groups.mean(), scale=stats.sem(groups))
    assert (found.low, found.high) == (pytest.approx(low), pytest.approx(high))
    flat = measure.crossed_interval(np.ones((3, 2)))
    assert (flat.low, flat.high) == (1, 1)


def test_groups_without_a_score_are_left_out_and_one_group_has_no_interval() -> None:
    found = measure.crossed_interval(np.array([[1.0, 3.0], [np.nan, 9.0]]))
    assert (found.value, found.n) == (2, 1)
    assert np.isnan(found.low)
    assert measure.crossed_interval(np.full((2, 3), np.nan)).n == 0
