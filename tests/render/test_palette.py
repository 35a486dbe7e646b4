from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from embryo.render.palette import CATEGORIES, GREY, Survey, assign, shade
from embryo.render.panel import UNKNOWN, Panel

# Machado, Oliveira & Fernandes 2009, severity 1.0, on linear RGB
SEEN = {
    "all": np.eye(3),
    "protanopia": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "deuteranopia": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.01182, 0.04294, 0.968881]],
}


def lab(hexes, seen):
    """CIE L*a*b* (D65), of which a distance of 2.3 is just noticeable."""
    rgb = np.array([[int(h[i : i + 2], 16) for i in (1, 3, 5)] for h in hexes]) / 255
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    linear = np.clip(linear @ np.array(SEEN[seen]).T, 0, 1)
    to_xyz = [[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.072175], [0.0193339, 0.119192, 0.9503041]]
    xyz = linear @ np.array(to_xyz).T / [0.95047, 1, 1.08883]
    f = np.where(xyz > 216 / 24389, np.cbrt(xyz), (24389 / 27 * xyz + 16) / 116)
    return np.stack([116 * f[:, 1] - 16, 500 * (f[:, 0] - f[:, 1]), 200 * (f[:, 1] - f[:, 2])], -1)


@pytest.mark.parametrize("seen", SEEN)
@pytest.mark.parametrize(("count", "least"), [(7, 12), (12, 9), (20, 6)])
def test_categories_can_be_told_apart(seen, count, least):
    points = lab(CATEGORIES[:count], seen)
    apart = np.linalg.norm(points[:, None] - points[None], axis=-1) + 1e3 * np.eye(count)
    assert apart.min() > least


def test_no_category_is_lost_on_white_or_taken_for_grey():
    points = lab((*CATEGORIES, "#ffffff", GREY), "all")
    for reserved in points[-2:]:
        assert np.linalg.norm(points[:-2] - reserved, axis=1).min() > 20


@given(st.sets(st.text(min_size=1, max_size=8), min_size=1, max_size=20), st.randoms())
def test_colours_depend_on_the_set_of_names_only(names, random):
    names = sorted(names - {UNKNOWN, "nan"}) or ["a"]
    shuffled = random.sample(names, len(names))
    first, rare = assign(dict.fromkeys(names, 1), {})
    second, _ = assign({name: i + 1 for i, name in enumerate(shuffled)}, {})
    assert first == second
    assert len(set(first.values())) == len(names)
    assert rare == ()


def test_names_of_the_same_number_keep_their_order():
    assert assign({"00": 1, "0": 1}, {}) == assign({"0": 1, "00": 1}, {})


def test_a_given_palette_is_kept_and_its_colours_are_not_used_twice():
    colours, _ = assign({"a": 1, "b": 1, "c": 1}, {"b": CATEGORIES[0].upper()})
    assert colours["b"] == CATEGORIES[0].upper()
    assert CATEGORIES[0] not in (colours["a"], colours["c"])


def test_beyond_twenty_the_rarest_share_grey():
    counts = {f"type {i}": 100 - i for i in range(25)}
    colours, others = assign(counts, {})
    assert list(colours) == [f"type {i}" for i in range(20)]  # 2 before 10
    assert others == tuple(f"type {i}" for i in range(20, 25))


def test_absent_labels_are_grey():
    survey = Survey()
    panel = Panel("a", np.eye(3), labels=np.array(["x", None, float("nan")], dtype=object))
    survey.add([panel])
    key = survey.key()
    assert Counter(panel.categories) == {"x": 1, UNKNOWN: 2}
    assert key.others == (UNKNOWN,)
    np.testing.assert_allclose(key.rgb(panel)[1:] * 255, np.full((2, 3), 0xC8))


def test_values_share_one_range_over_all_panels():
    survey = Survey()
    low, high = (
        Panel("a", np.eye(3), values=np.arange(3.0), name="g"),
        Panel("b", np.eye(3), values=np.full(3, 8.0), name="g"),
    )
    survey.add([low, high])
    assert survey.key().ranges["g"] == pytest.approx((0.02, 8.0))
    np.testing.assert_array_equal(survey.key().rgb(high)[0], shade(np.array([8.0]), 0.0, 8.0)[0])


def test_signed_values_are_white_at_zero():
    survey = Survey()
    panel = Panel("a", np.eye(3), values=np.array([-1.0, 0.0, 4.0]), name="change")
    survey.add([panel])
    low, high = survey.key().ranges["change"]
    assert low == -high
    assert survey.key().rgb(panel)[1].min() > 0.95
    red, _, blue = survey.key().rgb(panel)[2]
    assert red > blue
