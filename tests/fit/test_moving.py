"""Growth and motion from stages whose cells are not matched; the law that made them is known."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from embryo.fields.regulated import Growth
from embryo.fit import moving
from embryo.fit.moving import Crowd

TIMES = (0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0)


def crowds(stretch: float = 0.05, birth: float = 0.2) -> list[Crowd]:
    """Gene 0 is on in front and makes cells; all cells are drawn anew at every stage, positions stretch along x."""
    draw, made = torch.Generator().manual_seed(0), []
    for t in TIMES:
        x = torch.randn(4000, 3, generator=draw).double() * torch.tensor([30.0, 10.0, 10.0])
        on = torch.sigmoid(x[:, :1] / 8) * (1 - np.exp(-t))
        y = torch.cat([on, 0.3 + 0.02 * torch.randn(4000, 1, generator=draw)], 1)
        front = torch.sigmoid(x[:, 0] / 8)
        grown = torch.exp(birth * front * (t - 1 + np.exp(-t)))  # the integral of 1 - exp(-t)
        made.append(Crowd(t, y, x * torch.tensor([np.exp(stretch * t), 1.0, 1.0]), grown, torch.arange(4000) % 4))
    return made


@pytest.mark.parametrize("destructive", [False, True])
def test_growth_is_read_off_numbers_and_given_to_the_gene_that_makes_cells(destructive: bool) -> None:
    stages = crowds()
    if destructive:  # embryos of its own at every stage
        stages = [replace(c, embryo=c.embryo + 4 * k) for k, c in enumerate(stages)]
    law = moving.growth(stages)
    assert float(law.birth[0]) == pytest.approx(0.2, abs=0.05)
    assert abs(float(law.base[0] + 0.3 * law.birth[1])) < 0.03


def test_a_front_that_grows_does_not_pass_for_motion() -> None:
    stages, law = crowds(stretch=0.05), Growth(2)
    law.birth.copy_(torch.tensor([0.2, 0.0]))
    last = stages[-1].x
    wanted = last / torch.tensor([np.exp(0.3), 1.0, 1.0])
    origin = moving.motion(stages, law).back(6.0, last)
    assert float((origin - wanted).mean(0).abs().max()) < 2.5
    torch.testing.assert_close(origin.std(0), wanted.std(0), rtol=0.06, atol=0.0)
    blind = moving.motion(stages, Growth(2)).back(6.0, last)
    assert float((blind - wanted).mean(0).abs().max()) > 5.0  # without growth all cells seem to shift


def test_a_stage_of_one_cell_does_not_tear_the_next_apart() -> None:
    x = 20 * torch.randn(50, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    one = moving.Crowd(0.0, torch.ones(1, 2).double(), x[:1], torch.ones(1).double(), torch.zeros(1).long())
    many = moving.Crowd(1.0, torch.ones(50, 2).double(), x, torch.ones(50).double(), torch.zeros(50).long())
    found = moving.motion([one, many], Growth(2))
    near = found(torch.tensor(0.0), x[:1] + 2.0)  # of a start that lies a cell's radius off
    assert float(near.norm()) < 100.0


def test_knock_outs_tell_which_of_two_genes_that_go_together_makes_cells() -> None:
    wild = [replace(c, y=c.y[:, :1].repeat(1, 2)) for c in crowds()]
    lost = [replace(c, y=c.y * torch.tensor([0.0, 1.0]), mass=torch.ones_like(c.mass)) for c in wild]
    alone, both = moving.growth(wild), moving.growth(wild, lost)
    assert float(alone.birth[1]) > 0.05
    assert float(both.birth[0]) == pytest.approx(0.2, abs=0.05)
    assert abs(float(both.birth[1])) < 0.03
