"""Regions in words."""

import numpy as np
import pytest

from embryo.core.errors import EditError
from embryo.core.region import Region

X = np.array([[0.0, 0, 0], [5, 1, -3], [10, 2, 40]])
ALL = np.ones(3, bool)


@pytest.mark.parametrize(
    ("text", "inside"),
    [
        ("ap<0.3", [True, False, False]),
        ("AP >= .5", [False, True, True]),
        ("ap>0.2, ap<0.8", [False, True, False]),
        ("x<=5 and z<0", [False, True, False]),
        ("lr>0.5", [False, False, True]),
    ],
)
def test_conditions_all_hold(text: str, inside: list[bool]) -> None:
    assert Region.of(text).holds(X, ALL).tolist() == inside


def test_fractions_do_not_depend_on_place_or_size_of_the_body() -> None:
    region = Region.of("ap<0.6, dv>0.2")
    np.testing.assert_array_equal(region.holds(X, ALL), region.holds(3 * X + 7, ALL))


def test_what_is_no_region_is_told_at_once() -> None:
    with pytest.raises(EditError, match=r"(?s)2 problems.*'head'.*'q<1'"):
        Region.of("head, q<1")
    with pytest.raises(EditError, match="along z of cells with 2 coordinates"):
        Region.of("z<1").holds(X[:, :2], ALL)
