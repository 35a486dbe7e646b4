"""Two fates at one place: their local mean says nothing of them, their joint distribution does."""

import numpy as np
import pytest
import torch

from embryo.core.errors import DivergedError
from embryo.fit import marginals
from embryo.fit.circuit import Numbers
from embryo.fit.moments import Series, Stage

UNIT = torch.full((2,), 20.0)
QUICK = marginals.Settings(steps=60, cells=80, step_h=0.5)


def stage(t_h: float, y: torch.Tensor) -> Stage:
    none = torch.zeros(len(y), 0).double()
    return Stage(t_h, y, none, none, torch.zeros(len(y), 1).double(), torch.zeros(len(y)).long())


def toggle(seed: int = 0) -> Series:
    """Cells that hold two genes and, two hours later, one of them: the one that they held more of."""
    draw = torch.Generator().manual_seed(seed)
    begin = 0.35 + 0.3 * torch.rand(80, 2, generator=draw).double()
    first = begin[:, 0] > begin[:, 1]
    end = torch.where(torch.stack([first, ~first], 1), 0.8, 0.05) * (1 + 0.1 * torch.rand(80, 2, generator=draw))
    return Series((stage(0.0, begin), stage(4.0, end[torch.randperm(80, generator=draw)].double())))


def plain() -> Numbers:
    """Each gene keeps itself and knows nothing of the other."""
    numbers = Numbers(2, 2, 0.6)
    numbers.weights.data.copy_(6.0 * torch.eye(2))
    numbers.bias.data.fill_(-3.0)
    return numbers


def test_rolled_cells_come_to_look_like_those_of_the_next_stage() -> None:
    numbers, series = plain(), toggle()
    before = marginals.refine(plain(), series, UNIT, marginals.Settings(steps=1, rate=1e-9, cells=80), seed=0)
    left = marginals.refine(numbers, series, UNIT, marginals.Settings(steps=150, cells=80, step_h=0.5), seed=0)
    assert left < 0.25 * before
    w = numbers.weights.detach()
    assert w[0, 1] < -1  # each has come to repress the other
    assert w[1, 0] < -1


def test_the_numbers_stay_numbers_and_the_same_seed_gives_the_same() -> None:
    one, two = plain(), plain()
    for numbers in (one, two):
        marginals.refine(numbers, toggle(), UNIT, QUICK, seed=3)
    assert set(dict(one.named_parameters())) == set(dict(plain().named_parameters()))
    assert torch.equal(one.weights, two.weights)
    assert not torch.equal(one.weights, plain().weights)


def test_levels_that_are_no_numbers_are_told() -> None:
    series = toggle()
    series.stages[1].y[0, 0] = np.nan
    with pytest.raises(DivergedError):
        marginals.refine(plain(), series, UNIT, QUICK, seed=0)
