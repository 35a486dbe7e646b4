import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import mean_squared_error, r2_score

from embryo.encoders.decoding.heldout import HeldOut, measure, set_aside, split_groups, squared_errors


def test_numbers_are_those_of_sklearn():
    rng = np.random.default_rng(0)
    truth, predicted = rng.normal(size=(2, 30, 4))
    errors = squared_errors([predicted[:11], predicted[11:]], truth, truth.mean(axis=0))
    found = measure([errors], test_cells=30, by="embryo")
    np.testing.assert_allclose(found.rmse, np.sqrt(mean_squared_error(truth, predicted)))
    np.testing.assert_allclose(found.floor, np.sqrt(truth.var(axis=0).mean()))
    np.testing.assert_allclose(found.r2_median, np.median(r2_score(truth, predicted, multioutput="raw_values")))
    np.testing.assert_allclose(found.r2, r2_score(truth, predicted, multioutput="variance_weighted"))


@settings(max_examples=30)
@given(sizes=st.lists(st.integers(1, 30), min_size=2, max_size=8), seed=st.integers(0, 9))
def test_whole_embryos_are_held_out_each_once(sizes, seed):
    codes = np.repeat(np.arange(len(sizes)), sizes)
    tested = []
    for train, test in split_groups(codes, 5, seed):
        assert not set(codes[train]) & set(codes[test])
        assert sorted([*train, *test]) == list(range(len(codes)))
        tested += list(test)
    assert sorted(tested) == list(range(len(codes)))
    train, aside = set_aside(codes, seed)
    assert not set(codes[train]) & set(codes[aside])
    assert len(train)
    assert len(aside)


def test_about_a_tenth_is_set_aside():
    train, aside = set_aside(np.repeat([0, 1, 2], [50, 40, 9]), 0)
    assert len(aside) == 9
    train, aside = set_aside(np.zeros(100, dtype=np.int64), 0)
    assert (len(train), len(aside)) == (90, 10)


@pytest.mark.parametrize(("better", "r2", "says"), [(5, 0.2, False), (4, 0.2, True), (5, 0.009, True), (0, -0.5, True)])
def test_a_gain_that_is_small_or_not_in_every_fold_is_none(better, r2, says):
    line = str(HeldOut(0.4123, 0.5211, r2, r2, 5, better, "embryo"))
    assert line.startswith("decoder: held-out RMSE 0.412 against 0.521 of the train mean (5 folds by embryo)")
    assert line.endswith(": not better than the train mean") == says
