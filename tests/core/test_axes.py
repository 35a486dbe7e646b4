"""Shapes that share axes: what agrees passes, what does not is listed axis by axis."""

from hypothesis import given, settings
from hypothesis import strategies as st

from embryo.core.axes import disagreements

AXES = {"a": ("rows", "columns"), "b": ("rows",), "c": ("columns",)}


@settings(deadline=None)
@given(
    rows=st.integers(0, 9),
    columns=st.integers(0, 9),
    found=st.sampled_from([("a", "b", "c"), ("a",), ("b", "c"), ()]),
)
def test_arrays_that_agree_give_no_problem(rows: int, columns: int, found: tuple[str, ...]) -> None:
    shapes = {"a": (rows, columns), "b": (rows,), "c": (columns,), "unknown": (77,)}
    assert disagreements({name: shapes[name] for name in found}, AXES) == []


def test_each_axis_and_each_wrong_number_of_axes_is_one_problem() -> None:
    axes = AXES | {"d": ("rows", "columns")}
    problems = disagreements({"a": (2, 3), "b": (4,), "c": (5,), "d": (2,)}, axes)
    assert [p.found for p in problems] == [
        "d of shape (2,)",
        "different numbers of rows: 2 in a; 4 in b",
        "different numbers of columns: 3 in a; 5 in c",
    ]
