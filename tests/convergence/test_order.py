"""The solver's declared order, as the slope of error against step on fields with closed-form roll-outs."""

import numpy as np
import pytest
import torch
from scipy.linalg import expm

from embryo import simulate
from embryo.core.state import State
from embryo.fields.analytic import Expansion, Linear, Rotation

ORDERS = {"euler": 1, "midpoint": 2, "rk4": 4}
HOURS = 2.0


def start(cells: int = 40) -> State:
    rng = torch.Generator().manual_seed(0)
    z, x = (torch.randn(cells, d, generator=rng, dtype=torch.float64) for d in (4, 3))
    return State(z, torch.zeros(cells, 0, dtype=torch.float64), x, torch.zeros(cells, dtype=torch.float64))


def rotation() -> tuple[Rotation, np.ndarray]:
    wx, wy, wz = omega = (0.3, -0.8, 1.1)
    cross = np.array([[0, -wz, wy], [wz, 0, -wx], [-wy, wx, 0]])
    return Rotation(omega), expm(HOURS * cross)


def linear() -> tuple[Linear, np.ndarray]:
    rng = np.random.default_rng(1)
    A, B = 0.6 * rng.normal(size=(4, 4)), 0.6 * rng.normal(size=(3, 3))
    return Linear(torch.tensor(A), torch.tensor(B)), expm(HOURS * B)


FIELDS = {
    "rotation": rotation(),
    "expansion": (Expansion(0.7), np.exp(0.7 * HOURS) * np.eye(3)),
    "linear": linear(),
}


@pytest.mark.parametrize("name", FIELDS)
@pytest.mark.parametrize("method", ORDERS)
def test_slope_is_the_declared_order(name: str, method: str) -> None:
    field, propagator = FIELDS[name]
    s = start()
    exact = s.x.numpy() @ propagator.T
    steps = HOURS / np.array([16, 32, 64])
    errors = [
        np.abs(simulate.forward(field, s, [0.0, HOURS], step_h=h, method=method).x[-1].numpy() - exact).max()
        for h in steps
    ]
    slope = np.polyfit(np.log(steps), np.log(errors), 1)[0]
    assert slope == pytest.approx(ORDERS[method], abs=0.2)


def test_rotation_keeps_lengths_and_expansion_grows_cells_with_the_volume() -> None:
    s = start()
    turned = simulate.forward(rotation()[0], s, [0.0, HOURS], step_h=0.05)
    torch.testing.assert_close(turned.x[-1].norm(dim=1), s.x.norm(dim=1), rtol=1e-6, atol=0)
    grown = simulate.forward(Expansion(0.1), s, [0.0, HOURS], step_h=0.05)
    volume = torch.linalg.det(torch.cov(grown.x[-1].T)).sqrt() / torch.linalg.det(torch.cov(s.x.T)).sqrt()
    torch.testing.assert_close(grown.log_mass[-1].exp(), volume.expand(len(s)), rtol=1e-6, atol=0)


def test_rotation_has_no_divergence() -> None:
    field, _ = rotation()
    s = start(5)

    def dx(x: torch.Tensor) -> torch.Tensor:
        return field(torch.tensor(0.0), State(s.z, s.g, x, s.log_mass)).dx

    jacobian = torch.autograd.functional.jacobian(dx, s.x)
    divergence = torch.einsum("iaia->i", jacobian)
    torch.testing.assert_close(divergence, torch.zeros(5, dtype=torch.float64))


def test_forward_then_backward_returns() -> None:
    field, _ = linear()
    s = start()
    there = simulate.forward(field, s, [0.0, HOURS], step_h=0.02)
    back = simulate.forward(field, there.at(-1), [HOURS, 0.0], step_h=0.02)
    torch.testing.assert_close(back.x[-1], s.x, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(back.z[-1], s.z, rtol=1e-6, atol=1e-6)
