"""The grid, blocks, checks and switches around torchdiffeq's steps, and closed forms."""

import pytest
import torch
from torchdiffeq import odeint

from embryo.core.errors import EmbryoError
from embryo.core.state import State, Velocity
from embryo.fields.analytic import Rotation
from embryo.fields.flow import FlowNetwork
from embryo.simulate.steps import Method, Steps, advance, grid, require_times


class Switch:
    """Moves one way before 0.5 h and the other way from then on; refuses to be asked at the edge itself."""

    alone = True
    breaks_h = (0.5,)

    def __call__(self, t: torch.Tensor, s: State) -> Velocity:
        assert float(t) not in {0.0, 0.5, 1.0}
        return Velocity(0 * s.z, 0 * s.g, torch.full_like(s.x, 1.0 if t < 0.5 else -1.0), 0 * s.log_mass)


def start(cells: int = 20) -> State:
    rng = torch.Generator().manual_seed(0)
    z, g, x = (torch.randn(cells, n, generator=rng) for n in (2, 1, 3))
    return State(z, g, x, torch.zeros(cells))


@pytest.mark.parametrize("method", ["euler", "midpoint", "rk4"])
@pytest.mark.parametrize("span", [[0.0, 0.7], [0.7, 0.0]])
def test_steps_are_those_of_torchdiffeq(method: Method, span: list[float]) -> None:
    torch.manual_seed(0)
    field, times = FlowNetwork(dims=2, genes=1, space=3, width=16), torch.tensor(span)
    ours = advance(field, start(), times, Steps(0.1, method, block=7))
    options = {"grid_constructor": lambda _f, _y, t: grid(t, 0.1), "perturb": True}
    with torch.no_grad():
        theirs = odeint(
            lambda t, parts: field(t, State(*parts)).parts(), start().parts(), times, method=method, options=options
        )
    for a, b in zip(ours.parts(), theirs, strict=True):
        torch.testing.assert_close(a, b[-1], rtol=1e-5, atol=1e-6)


def test_the_adaptive_method_follows_a_closed_form_on_a_coarse_grid() -> None:
    law, times = Rotation((0.0, 0.0, 2.0)), torch.tensor([0.0, 1.5], dtype=torch.float64)
    begin = start().map(lambda part: part.double())
    turn = torch.linalg.matrix_exp(torch.tensor([[0.0, -3.0, 0], [3.0, 0, 0], [0, 0, 0]], dtype=torch.float64))
    end = advance(law, begin, times, Steps(1.5, "dopri5"))
    torch.testing.assert_close(end.x, begin.x @ turn.T, rtol=1e-4, atol=1e-5)
    fixed = advance(law, begin, times, Steps(0.01, "rk4"))
    torch.testing.assert_close(end.x, fixed.x, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("method", ["euler", "rk4", "dopri5"])
def test_each_step_sees_its_own_side_of_a_switch(method: Method) -> None:
    end = advance(Switch(), start(), torch.tensor([0.0, 1.0]), Steps(0.25, method))
    torch.testing.assert_close(end.x, start().x, rtol=0, atol=1e-5)


def test_a_state_without_particles_stays_so() -> None:
    torch.manual_seed(0)
    field = FlowNetwork(dims=2, genes=1, space=3, width=16)
    assert len(advance(field, start(0), torch.tensor([0.0, 1.0]), Steps())) == 0


def test_blocks_of_no_particles_are_refused() -> None:
    with pytest.raises(EmbryoError, match="blocks of 0 particles"):
        require_times([0.0, 1.0], Steps(block=0))
