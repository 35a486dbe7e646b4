import numpy as np
import pytest

from embryo.core import stages


@pytest.mark.parametrize(
    ("text", "hours"),
    [
        ("E9.5", 228.0),
        ("E9.5_E1S1.MOSTA.h5ad", 228.0),
        ("E16.5_E2S12.MOSTA.h5ad", 396.0),
        ("mouse_embryo_E8.5_merged_data", 204.0),
        ("e8", 192.0),
        ("embryonic day 8.5", 204.0),
        ("8.5 dpc", 204.0),
        ("5 dpf", 120.0),
        ("24hpf", 24.0),
        ("3.3 hpf", 3.3),
        ("36 hours", 36.0),
        ("90 min", 1.5),
        ("day 3", 72.0),
        ("D5", 120.0),
        ("day_14", 336.0),
        ("2 days", 48.0),
        ("Theiler stage 13", 204.0),
        ("TS15", 228.0),
        ("E1S1", None),
        ("E10S2", None),
        ("adult", None),
        ("", None),
        ("DE3", None),
        ("unknown", None),
    ],
)
def test_hours(text: str, hours: float | None) -> None:
    found = stages.hours(text)
    assert found is None if hours is None else found == pytest.approx(hours)


def test_parse_keeps_the_order_and_marks_what_is_unknown() -> None:
    np.testing.assert_array_equal(
        stages.parse(["E9.5", "nonsense", None, "E8.5", "E9.5"]), [228, np.nan, np.nan, 204, 228]
    )
