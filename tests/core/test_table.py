import numpy as np
import pandas as pd
import pytest
from scipy import stats

from embryo.core.errors import EmbryoError
from embryo.core.table import COLUMNS, Interval, interval, row, student, table, verdict


@pytest.mark.parametrize("n", [2, 3, 10])
@pytest.mark.parametrize("level", [0.5, 0.95])
def test_interval_is_scipys_one_sample_t_interval(n, level):
    values = np.random.default_rng(n).normal(3, 2, n)
    found = interval(values, level)
    expected = stats.ttest_1samp(values, 0).confidence_interval(level)
    assert found.n == n
    assert found.value == pytest.approx(values.mean())
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high))


def test_interval_covers_the_true_mean_as_often_as_it_says():
    draws = np.random.default_rng(0).normal(1, 1, (2000, 3))
    covered = [(i.low <= 1 <= i.high) for i in map(interval, draws)]
    assert np.mean(covered) == pytest.approx(0.95, abs=0.02)


def test_one_seed_has_no_interval_and_missing_values_do_not_count():
    one = interval([np.nan, 4.0])
    assert (one.value, one.n) == (4.0, 1)
    assert np.isnan([one.low, one.high]).all()
    none = interval([np.nan])
    assert none.n == 0
    assert np.isnan(none.value)
    same = interval([2.0, 2.0, 2.0])
    assert (same.low, same.high) == (2.0, 2.0)


def test_an_interval_ends_where_the_quantity_does():
    wide = interval([0.1, 0.2, 3.0])
    assert wide.low < 0
    assert wide.within(0.0) == Interval(wide.value, 0.0, wide.high, 3)
    assert wide.within(0.0, 2.0).high == 2.0
    assert wide.within(-np.inf) == wide
    assert np.isnan(interval([1.0]).within(0.0).low)
    kept = row(board="b", split="s", model="m", role="ours", metric="e", unit="µm", values=wide.within(0.0))
    assert [kept[k] for k in ("value", "low", "high", "n_seeds")] == [wide.value, 0.0, wide.high, 3]


def test_student_is_the_two_sided_quantile():
    assert student(0.95, 4) == pytest.approx(stats.t.ppf(0.975, 4))


def test_table_puts_the_common_columns_first_and_keeps_further_ones():
    made = row(board="b", split="s", model="m", role="ours", metric="error", unit="µm", values=[1.0, 3.0])
    frame = table([made | {"time_h": 2.0}])
    assert tuple(frame.columns) == (*COLUMNS, "time_h")
    assert frame.loc[0, ["value", "n_seeds", "unit"]].tolist() == [2.0, 2, "µm"]
    assert pd.api.types.is_integer_dtype(frame["n_seeds"])
    assert tuple(table([]).columns) == COLUMNS


def test_verdict_follows_the_paired_interval():
    noise = np.random.default_rng(1).normal(0, 5, 8)  # shared by both: only pairing can see the gain
    step = np.array([0.9, 1.1, 1.0, 1.0, 0.8, 1.2, 1.0, 1.0])
    assert verdict(noise, noise + step, floor_name="persistence").startswith("better than persistence")
    assert verdict(noise + step, noise, floor_name="persistence").startswith("worse than persistence")
    assert verdict(noise, noise + step, floor_name="persistence", better="higher").startswith("worse than persistence")
    assert verdict(noise, noise * 0, floor_name="train mean").startswith("not better than train mean")


def test_verdict_of_a_tie_or_of_one_seed_is_not_better():
    assert verdict([1.0, 1.0], [1.0, 1.0], floor_name="no change").startswith("not better than no change")
    assert (
        verdict([0.0], [9.0], floor_name="no change")
        == "not better than no change (an interval needs two seeds, there is 1)"
    )


def test_verdict_needs_pairs():
    with pytest.raises(EmbryoError, match="found 2 scores of the model and 3 of persistence"):
        verdict([1.0, 2.0], [1.0, 2.0, 3.0], floor_name="persistence")
