import pytest
import torch
from torch import nn

from embryo.core.errors import DivergedError
from embryo.fit.descent import lbfgs


def test_a_narrow_valley_is_crossed_in_its_own_coordinates() -> None:
    """A quadratic of condition 1e8, with its curvature given, takes a handful of iterations."""
    draw = torch.Generator().manual_seed(0)
    root = torch.randn(2, 4, 4, generator=draw).double()
    curvature = (
        root @ torch.diag(torch.tensor([1.0, 1e-2, 1e-3, 1e-4]).double()) @ root.mT + 1e-9 * torch.eye(4).double()
    )
    goal = torch.randn(2, 4, generator=draw).double()
    weights, bias = nn.Parameter(torch.zeros(2, 3).double()), nn.Parameter(torch.zeros(2).double())
    extra = nn.Parameter(torch.zeros(1).double())

    def loss() -> torch.Tensor:
        off = torch.cat([weights, bias[:, None]], 1) - goal
        return 0.5 * torch.einsum("ga,gab,gb->", off, curvature, off) + (extra - 3.0).pow(2).sum()

    last = lbfgs([weights, bias], [extra], loss, curvature, 30)
    assert last < 1e-6
    assert float(extra.detach()) == pytest.approx(3.0, abs=1e-3)


def test_a_loss_that_is_not_finite_is_named() -> None:
    weights = nn.Parameter(torch.zeros(1, 1).double())
    with pytest.raises(DivergedError, match="not finite"):
        lbfgs([weights], [], lambda: weights.sum() * float("nan"), torch.ones(1, 1, 1).double(), 5)
