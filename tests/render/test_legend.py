from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from embryo.render.legend import Legend, cut
from embryo.render.palette import CATEGORIES, Key


@given(st.lists(st.text("abcWM ", min_size=1, max_size=60), unique=True, max_size=20), st.integers(400, 1800))
def test_nothing_is_cropped_and_nothing_overlaps(names, width):
    key = Key(
        dict(zip(names, CATEGORIES, strict=False)),
        ("rare", "rarer"),
        {"gene": (0.0, 3.5)},
        {"gene": "log1p"},
        "fate",
        "me",
        arrows=True,
    )
    legend = Legend.over(key, width, 14.0)
    entries = legend.entries
    assert len(entries) == len(names) + 1 + 1 + 3
    assert all(e.left >= 0 and e.left + e.width <= width for e in entries)
    for a, b in pairwise(entries):
        assert b.line == a.line + 1 or (b.line == a.line and b.left >= a.left + a.width - 1e-6)
    assert legend.height >= (1 + entries[-1].line) * 14 * 1.5


def test_nothing_to_explain_takes_no_lines():
    assert Legend.over(Key(), 600, 14.0).entries == ()
    assert Legend.over(Key(), 600, 14.0).height < 14


@given(st.text(max_size=80), st.integers(3, 30))
def test_cut_words_fit_and_keep_both_ends(words, room):
    shown = cut(words, lambda w: len(w) <= room)
    assert len(shown) <= room
    if len(words) <= room:
        assert shown == words
    elif room > 5 and not np.any([c.isspace() for c in words]):
        assert shown[0] == words[0]
        assert shown[-1] == words[-1]
        assert "…" in shown


@pytest.mark.parametrize("words", ["cell type 1 of the anterior layer", "cell type 1 of the anterior coat."])
def test_names_that_differ_at_the_end_stay_different(words):
    assert cut(words, lambda w: len(w) <= 20).endswith(words[-5:])
