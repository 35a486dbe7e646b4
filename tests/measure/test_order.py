import numpy as np
import pytest

from embryo import measure

TIMES = np.repeat([0.0, 1.0, 2.0], 40)


def test_stages_far_apart_are_in_order(rng: np.random.Generator) -> None:
    z = 100 * TIMES[:, None] + rng.normal(size=(120, 2))
    assert measure.sequential_order(z, TIMES, z + 0.1, TIMES) == 1


def test_cells_without_order_score_nothing(rng: np.random.Generator) -> None:
    z, other = rng.normal(size=(2, 1200, 2))
    times = np.tile(TIMES, 10)
    assert measure.sequential_order(z, times, other, times) == pytest.approx(0, abs=0.03)


def test_a_stage_between_costs_what_it_says() -> None:
    """Every neighbour is one hour off; two cells of reference at 0 and 2 are, on average over both, one hour off too.

    Cells at 0 and 1 h among reference cells at 1 and 2 h, embedded one hour late: neighbours differ by 1 h each, cells
    drawn at random by (1 + 2 + 0 + 1) / 4 = 1 h.
    """
    z, times = np.array([[1.0], [2.0]]), np.array([0.0, 1.0])
    found = measure.sequential_order(z, times, np.array([[1.0], [2.0]]), np.array([1.0, 2.0]), neighbours=1)
    assert found == 0


def test_one_stage_has_no_order() -> None:
    assert np.isnan(measure.sequential_order(np.eye(3), np.ones(3), np.eye(3), np.ones(3)))
