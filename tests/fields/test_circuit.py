import numpy as np
import pytest
import torch
from scipy.integrate import solve_ivp
from scipy.special import expit

from embryo.blocks.diffusion import Medium
from embryo.core.errors import EditError
from embryo.core.state import State
from embryo.datasets import synthetic
from embryo.fields.circuit import Circuit, CircuitField, Gradients, Held, Ligands


def circuit(seed: int = 0, genes: int = 3, inputs: int = 0, ligands: tuple[str, ...] = ()) -> Circuit:
    draw = torch.Generator().manual_seed(seed)
    made = Circuit([f"g{k}" for k in range(genes)], [f"m{k}" for k in range(inputs)], ligands)
    made.weights = torch.randn(made.weights.shape, generator=draw)
    made.bias = torch.randn(genes, generator=draw)
    made.rate_per_h = torch.rand(genes, generator=draw) + 0.5
    made.decay_per_h = torch.rand(genes, generator=draw) + 0.5
    made.unit = torch.rand(genes, generator=draw) * 4 + 1
    return made


def state(cells: int = 5, genes: int = 3, seed: int = 0) -> State:
    draw = torch.Generator().manual_seed(seed)
    g = torch.rand(cells, genes, generator=draw)
    x = torch.randn(cells, 3, generator=draw) * 10
    return State(torch.zeros(cells, 2), g, x, torch.zeros(cells))


def now(t: float = 0.0) -> torch.Tensor:
    return torch.tensor(t)


def test_production_is_that_of_the_synthetic_embryo() -> None:
    truth = synthetic.Circuit()
    made = Circuit(synthetic.PANEL, synthetic.INPUTS[:3], ("ligand",))
    made.weights = torch.tensor(np.hstack([truth.weights, truth.inputs]))
    made.bias = torch.tensor(truth.bias)
    rng = np.random.default_rng(0)
    y, m = rng.random((7, 18)), rng.random((7, 4))
    found = made.production(torch.tensor(y), torch.tensor(m[:, :3]), torch.tensor(m[:, 3:]))
    np.testing.assert_allclose(found.numpy(), truth.production(y, m), rtol=1e-6)


def test_the_panel_moves_as_levels_do() -> None:
    """Euler in g with small steps ends where scipy's solution of the levels ends."""
    made, start = circuit(), state()
    field, g, dt = CircuitField(made), start.g.double(), 1e-3
    for _ in range(1000):
        g = g + dt * field(now(), State(start.z, g, start.x, start.log_mass)).dg
    w, h, r, d = (p.double().numpy() for p in (made.weights, made.bias, made.rate_per_h, made.decay_per_h))
    y0 = (torch.expm1(start.g.double()) / made.unit).numpy()
    for cell in range(5):
        solved = solve_ivp(lambda _, y: r * expit(w @ y + h) - d * y, (0, 1), y0[cell], rtol=1e-8, atol=1e-8)
        np.testing.assert_allclose(made.levels(g).numpy()[cell], solved.y[:, -1], atol=3e-3)


def test_an_edit_of_production_leaves_decay_alone() -> None:
    field, start = CircuitField(circuit()), state()
    off = field.produce(now(), start, lambda p, _: torch.zeros_like(p))
    y = field.circuit.levels(start.g)
    expected = -field.decay_per_h * y * field.unit / start.g.exp()
    torch.testing.assert_close(off.dg, expected)
    same = field.produce(now(), start, lambda p, _: p)
    assert torch.equal(same.dg, field(now(), start).dg)


def test_a_cut_edge_is_read_no_more_and_the_first_circuit_is_left_whole() -> None:
    field, start = CircuitField(circuit(ligands=("g2",)), ligands=Ligands((2,), (Medium(),))), state()
    cut = field.without([("g0", "g1"), ("signal:g2", "*")])
    other = State(start.z, start.g.clone(), start.x + 100 * torch.arange(5)[:, None], start.log_mass)
    other.g[:, 0] += 1.0
    assert torch.equal(cut(now(), start).dg[:, 1], cut(now(), other).dg[:, 1])
    assert not torch.equal(field(now(), start).dg[:, 1], field(now(), other).dg[:, 1])
    with pytest.raises(EditError, match="g9 -> g0"):
        field.without([("g9", "g0")])


def test_gradients_fall_from_both_ends_and_fade() -> None:
    inputs = Gradients([0.0, 0.0], [4.0, 2.0])
    with torch.no_grad():
        inputs.log_length[:] = torch.tensor([1.0, 2.0, 3.0, 4.0]).log()
        inputs.log_lifetime_h[:] = np.log(5.0)
    place = torch.tensor([[1.0, 0.5]], dtype=torch.float64)
    expected = np.exp(-np.array([1 / 1, 0.5 / 2, 3 / 3, 1.5 / 4]) - 2 / 5)
    np.testing.assert_allclose(inputs(2.0, place).detach().numpy()[0], expected)
    assert len(inputs.names) == 4


def test_held_inputs_ride_with_the_particles() -> None:
    field = CircuitField(circuit(inputs=1), Held(["m0"], [2.0]))
    start = state()
    field = field.begun(start, 0.0, torch.rand(5, 1))
    few = torch.tensor([3, 1])
    part = field.rows(few)(now(1.0), start[few])
    torch.testing.assert_close(part.dg, field(now(1.0), start).dg[few])
    torch.testing.assert_close(field.inputs(2.0, torch.ones(1, 1)), torch.tensor([[np.exp(-1.0)]], dtype=torch.float32))


def test_a_particle_of_two_cells_secretes_twice() -> None:
    start = state()
    ligands = Ligands((1,), (Medium(),))
    one = ligands(start.g, start.x, torch.ones(5))
    torch.testing.assert_close(ligands(start.g, start.x, 2 * torch.ones(5)), 2 * one)


def test_shape_rebuilds_it() -> None:
    made = circuit(inputs=2, ligands=("g1",))
    again = Circuit.from_shape(made.shape())
    again.load_state_dict(made.state_dict())
    assert again.columns == made.columns
    assert torch.equal(again.weights, made.weights)
