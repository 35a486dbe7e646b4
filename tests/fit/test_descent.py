"""Rows measured by their curvature, against numpy's least squares and scipy's minimiser."""

import numpy as np
import pytest
import torch
from scipy.optimize import minimize
from torch import nn

from embryo.core.errors import DivergedError
from embryo.fit.descent import lbfgs


def test_rows_whose_columns_go_together_are_found_in_a_few_steps() -> None:
    """Ten columns that are almost one: plain L-BFGS is far from the answer where this one has it."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(200, 1)) + 0.01 * rng.normal(size=(200, 10))
    y = x @ rng.normal(size=(10, 3))
    seen, wanted = torch.tensor(x), torch.tensor(y)
    weights, bias = nn.Parameter(torch.zeros(3, 10).double()), nn.Parameter(torch.zeros(3).double())
    ones = torch.cat([seen, torch.ones(200, 1).double()], 1)
    curvature = (ones.T @ ones + 1e-9 * torch.eye(11)).expand(3, 11, 11)
    found = lbfgs([weights, bias], [], lambda: (seen @ weights.T + bias - wanted).square().sum(), curvature, 15)
    best = np.linalg.lstsq(ones.numpy(), y, rcond=None)[0].T
    assert found < 1e-9
    np.testing.assert_allclose(np.c_[weights.detach(), bias.detach()], best, atol=1e-4)
    plain = minimize(lambda w: (((x @ w.reshape(10, 3)) - y) ** 2).sum(), np.zeros(30), options={"maxiter": 15})
    assert plain.fun > 100 * max(found, 1e-12)


def test_other_numbers_are_moved_along() -> None:
    row, other = nn.Parameter(torch.zeros(1, 2).double()), nn.Parameter(torch.zeros(3).double())

    def loss() -> torch.Tensor:
        return (row - 2).square().sum() + (other + row.sum()).square().sum()

    lbfgs([row], [other], loss, torch.eye(2)[None].double(), 50)
    torch.testing.assert_close(row.detach(), torch.full((1, 2), 2.0).double(), rtol=0, atol=1e-4)
    torch.testing.assert_close(other.detach(), torch.full((3,), -4.0).double(), rtol=0, atol=1e-3)


def test_a_loss_that_is_no_number_is_said() -> None:
    row = nn.Parameter(torch.ones(1, 2).double())

    def loss() -> torch.Tensor:
        return (row * float("nan")).sum()

    with pytest.raises(DivergedError, match="not finite"):
        lbfgs([row], [], loss, torch.eye(2)[None].double(), 5)
