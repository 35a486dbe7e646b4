import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from embryo.core.errors import ConfigError
from embryo.encoders.stage2.grammar import Grammar

G = Grammar(first=100, longest=10, unit_h=5.0)
A, B, C = np.array([2, 7, 8, 3]), np.array([2, 9, 3]), np.array([2, 7, 3])


def test_the_sentences_of_the_guide():
    """``cell [dt] cell ... <boq> query <eoq>``, by hand: <boq> 100, <eoq> 101, 0 h 102, 5 h 103, ..."""
    assert G.time_between([A, B], [10.0, 25.0], C).tolist() == [2, 7, 8, 3, 105, 2, 9, 3, 100, 2, 7, 3, 101]
    assert G.time_between([A], [10.0], C).tolist() == [2, 7, 8, 3, 100, 2, 7, 3, 101]
    assert G.next_cell([A, B], [10.0, 10.0], 50.0).tolist() == [2, 7, 8, 3, 102, 2, 9, 3, 100, 112, 101]
    assert G.rows == 113


@given(units=st.integers(0, 10), off=st.floats(-0.49, 0.49))
def test_times_are_whole_units(units, off):
    if 0 <= units + off <= 10 or round(units + off) == units:
        assert G.time((units + off) * 5.0) == 102 + units


@pytest.mark.parametrize("hours", [-5.0, 53.0])
def test_times_beyond_the_series_have_no_token(hours):
    with pytest.raises(ConfigError, match="0 to 50 h, the span of the training stages"):
        G.time(hours)


def test_a_context_is_in_order_of_time():
    with pytest.raises(ConfigError, match="a time of -15 h"):
        G.time_between([A, B], [25.0, 10.0], C)
