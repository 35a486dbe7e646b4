import numpy as np
import pytest
import torch

from embryo import fit
from embryo.core.state import State
from embryo.fit.coupled import angles, tangents
from embryo.fit.sampling import Sampler


def chain(times: tuple[float, ...] = (0.0, 1.0, 3.0), cells: int = 5) -> tuple[fit.Pairs, torch.Tensor]:
    """Cells that move on parabolas x = a + b t + c t^2, each seen at `times` and coupled with itself."""
    rng = torch.Generator().manual_seed(0)
    a, b, c = torch.randn(3, cells, 2, generator=rng)
    x = torch.cat([a + b * t + c * t**2 for t in times])
    speed = torch.cat([b + 2 * c * t for t in times])
    n, gaps = len(times) - 1, torch.tensor(np.diff(times), dtype=torch.float32)
    source = torch.arange(cells * n)
    states = State(torch.zeros(len(x), 0), torch.zeros(len(x), 0), x, torch.zeros(len(x)))
    dt, one = gaps.repeat_interleave(cells), torch.ones(cells * n)
    t0 = torch.tensor(times[:-1]).repeat_interleave(cells)
    return fit.Pairs(states, source, source + cells, one, t0, dt, 0 * one), speed


def test_tangents_of_parabolas_are_exact_between_the_ends() -> None:
    data, speed = chain()
    torch.testing.assert_close(tangents(data).dx[5:10], speed[5:10], rtol=1e-4, atol=1e-5)
    first = (data.states.x[5:10] - data.states.x[:5]) / 1.0
    torch.testing.assert_close(tangents(data).dx[:5], first)


def test_angles_measure_z_and_x_in_units_of_the_spread() -> None:
    data, _ = chain()
    spread = State(torch.ones(1, 0), torch.ones(1, 0), torch.tensor([[2.0, 4.0]]), torch.zeros(1))
    a, b = data.ends(slice(None))
    far = np.linalg.norm((b.x - a.x).numpy() / np.array([2.0, 4.0]), axis=1)
    np.testing.assert_allclose(angles(data, spread, 1.5), far / 3, rtol=1e-5)


@pytest.mark.parametrize("delta", [None, 1.0])
def test_what_is_drawn_has_the_masses_of_the_paths(delta: float | None) -> None:
    """Two pairs, one that grows ninefold and one that does not: of what is drawn near s, each has its share of mass."""
    n, grown = 2, torch.tensor([float(np.log(9.0)), 0.0])
    states = State(torch.zeros(4, 0), torch.zeros(4, 0), torch.tensor([[0.0], [5.0], [1.0], [6.0]]), torch.zeros(4))
    data = fit.Pairs(states, torch.arange(n), torch.arange(n, 2 * n), torch.tensor([9.0, 1.0]), torch.zeros(n),
                     torch.ones(n), grown)  # fmt: skip
    sampler = Sampler.of(data, fit.Training(delta=delta))
    drawn = sampler.draw(200_000, torch.Generator().manual_seed(0), wide=False)
    for s in (0.1, 0.5, 0.9):
        near = (drawn.t_h - s).abs() < 0.05
        first = near & (drawn.state.x[:, 0] < 3)
        a, b = data.ends(slice(None))
        kw = {} if sampler.angle is None else {"angle": sampler.angle}
        mass = fit.path(a, b, torch.full((n,), s), torch.ones(n), **kw)[0].mass
        share = float(drawn.weight[first].sum() / drawn.weight[near].sum())
        assert share == pytest.approx(float(mass[0] / mass.sum()), abs=0.01)
