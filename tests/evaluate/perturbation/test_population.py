"""Populations of several embryos."""

from collections.abc import Callable

import numpy as np
import pytest
import torch

from embryo.core.errors import SchemaError
from embryo.core.state import State
from embryo.evaluate.perturbation import EndPopulation, pooled


def test_embryos_count_the_same_however_many_cells(population: Callable[..., EndPopulation]) -> None:
    small, big = population((1, 0, 0), embryos=1, cells=10), population((0, 1, 0), embryos=1, cells=90)
    both = pooled([small, big])
    assert both.balanced.sum() == pytest.approx(1.0)
    assert both.balanced[both.fate == "a"].sum() == pytest.approx(0.5)
    assert len(both.embryos) == 2


def test_particles_of_no_cell_are_left_out() -> None:
    state = State(torch.zeros(2, 3), torch.zeros(2, 4), torch.zeros(2, 3), torch.tensor([0.0, -torch.inf]))
    assert len(EndPopulation.of_state(state, np.array(["a", "b"], dtype=object)).fate) == 1


def test_no_cells_are_told(population: Callable[..., EndPopulation]) -> None:
    with pytest.raises(SchemaError, match="some cells"):
        population((1, 0, 0))[np.zeros(0, dtype=int)]
