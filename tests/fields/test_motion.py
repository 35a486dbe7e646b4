"""Affine motion from stage to stage: cells arrive where the maps put them, and find the way back."""

import pytest
import torch

from embryo.fields.motion import Motion


def motion() -> Motion:
    made = Motion([1.0, 2.0, 4.0])
    made.begin.copy_(torch.tensor([[0.0, 1.0, 0.0], [2.0, 0.0, 0.0]]))
    made.end.copy_(torch.tensor([[2.0, 0.0, 0.0], [3.0, 0.0, 5.0]]))
    made.turn[0] = torch.tensor([[1.5, 0.1, 0.0], [0.1, 0.8, 0.0], [0.0, 0.0, 1.0]])
    made.turn[1] = torch.diag(torch.tensor([1.0, 1.2, 0.7]))
    return made


def cells() -> torch.Tensor:
    return 10 * torch.randn(20, 3, generator=torch.Generator().manual_seed(0))


def test_rolled_cells_arrive_where_the_maps_put_them() -> None:
    law, x = motion(), cells()
    wanted = x
    for k in range(2):
        wanted = (law.end[k] + (wanted.double() - law.begin[k]) @ law.turn[k]).to(x)
    steps = 300
    for k in range(steps):
        x = x + 3.0 / steps * law(torch.tensor(1.0 + 3.0 * (k + 0.01) / steps), x)
    torch.testing.assert_close(x, wanted, rtol=0, atol=1e-3)


@pytest.mark.parametrize("t_h", [1.0, 1.3, 2.0, 3.1, 4.0, 9.0])
def test_the_way_back_ends_where_cells_came_from(t_h: float) -> None:
    law, first = motion(), cells()
    x, steps = first, 3000  # one step of them crosses a stage
    for k in range(steps):
        h = (min(t_h, 4.0) - 1.0) / steps
        x = x + h * law(torch.tensor(1.0 + h * (k + 0.01)), x)
    torch.testing.assert_close(law.back(t_h, x), first, rtol=0, atol=2e-2)


def test_outside_the_stages_the_tissue_rests() -> None:
    law, x = motion(), cells()
    for t in (0.5, 4.5):
        assert torch.equal(law(torch.tensor(t), x), torch.zeros_like(x))
    assert torch.equal(law.back(0.0, x), x)


@pytest.mark.parametrize("first", [0.7, 0.1])
def test_single_precision_of_time_does_not_stop_a_tissue_at_its_first_or_last_stage(first: float) -> None:
    law = Motion([first, first + 1.0])
    law.end[0] = 10.0
    for t in (first, first + 1.0):
        assert float(law(torch.tensor(t, dtype=torch.float32), torch.zeros(1, 3))[0, 0]) == pytest.approx(10.0)
