"""What a perturbation says of itself."""

import pytest

from embryo.pipeline.perturbing import told


@pytest.mark.parametrize(("times_h", "outside"), [([0.0, 6.0], False), ([2.0, 9.0], True), ([-1.0, 6.0], True)])
def test_hours_that_no_training_cell_saw_are_said(times_h: list[float], outside: bool) -> None:
    said = told.on_time(times_h, (0.0, 6.0))
    assert bool(said) == outside
    assert all(f"to {times_h[-1]:g} h, fitted to 0 to 6 h" in sentence for sentence in said)
