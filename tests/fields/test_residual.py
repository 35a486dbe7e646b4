"""Smooth functions of place and time inside the production of a circuit."""

import numpy as np
import pytest
import torch
from scipy.fft import dct

from embryo import fields, perturb, simulate
from embryo.core import field as laws
from embryo.core.edit import Edit
from embryo.core.state import State
from embryo.fields.circuit import Circuit, Gradients, Held
from embryo.fields.flow import FlowNetwork
from embryo.fields.motion import Motion
from embryo.fields.regulated import Growth, Regulated
from embryo.fields.residual import Beside, Residual

PANEL = ("a", "b", "c")


def law(*, held: bool = False) -> Regulated:
    """Genes that read their place and nothing else, but for b, which a represses."""
    residual = Residual([-1.0] * 4, [1.0, 1.0, 1.0, 9.0]) if not held else Residual([-3.0, 0.0], [0.0, 9.0])
    inputs = Held(("m",), [4.0]) if held else Gradients([-1.0] * 3, [1.0] * 3)
    circuit = Circuit(PANEL, (*residual.names, *inputs.names))
    draw = torch.Generator().manual_seed(0)
    circuit.weights[:, 3 : 3 + len(residual.names)] = torch.randn(3, len(residual.names), generator=draw)
    circuit.weights[1, 0] = -4.0
    place, birth = FlowNetwork(dims=2, genes=3, space=3, reads=("x",), width=8), Growth(3)
    made = Regulated(circuit, inputs, place, birth, Motion([0.0, 8.0]), 12.0, residual)
    return made.requires_grad_(requires_grad=False).eval()


def start(n: int = 30) -> State:
    draw = torch.Generator().manual_seed(1)
    return State(torch.zeros(n, 2), torch.rand(n, 3, generator=draw), torch.randn(n, 3, generator=draw), torch.zeros(n))


def test_functions_along_one_axis_are_the_cosines_that_scipy_knows() -> None:
    """Their values in the middle of n cells are the columns of the discrete cosine transform."""
    n, residual = 8, Residual([0.0, 0.0], [8.0, 1.0], degree=3)
    x = torch.arange(n)[:, None] + 0.5
    pure = [k for k, (place, time) in enumerate(residual._waves.tolist()) if time == 0 and place > 0]
    found = residual(0.0, x.double())[:, pure].numpy()
    np.testing.assert_allclose(found, dct(np.eye(n), type=2, axis=0).T[:, 1:4] / 2, atol=1e-12)


def test_beyond_what_was_seen_they_stay_and_rough_ones_cost_more() -> None:
    residual = Residual([0.0] * 4, [1.0] * 4)
    assert len(residual.names) == len(residual.roughness) == 14
    assert residual.roughness.unique().tolist() == [1.0, 2.0, 4.0]
    edge, far = torch.tensor([[1.0, 0.5, 0.0]]), torch.tensor([[7.0, 0.5, -3.0]])
    assert torch.equal(residual(1.0, edge), residual(5.0, far))


def test_where_inputs_are_held_their_logarithm_is_the_place() -> None:
    both = Beside(Residual([-3.0, 0.0], [0.0, 9.0]), Held(("m",), [4.0]))
    m = torch.tensor([[0.1], [0.7], [0.0]])
    columns = both(2.0, m)
    torch.testing.assert_close(columns[:, :-1], both.residual(2.0, m.clamp(min=1e-6).log()))
    torch.testing.assert_close(columns[:, -1:], m * np.exp(-0.5))


@pytest.mark.parametrize("held", [False, True])
def test_it_reads_no_gene(held: bool) -> None:
    """What b and c make beside an edit of a is bit for bit what they made, but for the edge that the circuit has."""
    field, s = law(held=held), start()
    bound = field.begun(s, 0.0, torch.rand(30, 1) if held else None)
    assert laws.eased(field)
    assert laws.eased(bound)
    control = simulate.forward(bound, s, [0.0, 4.0], step_h=0.5)
    context = perturb.Context(PANEL, field.response, 1.0)
    edited, begin = perturb.apply(bound, s, [Edit("a")], context, t0_h=0.0)
    end = simulate.forward(edited, begin, [0.0, 4.0], step_h=0.5)
    assert torch.equal(end.g[-1][:, 2], control.g[-1][:, 2])
    assert not torch.equal(end.g[-1][:, 1], control.g[-1][:, 1])
    uncoupled = laws.without(bound, [("a", "b")])
    apart, _ = perturb.apply(uncoupled, s, [Edit("a")], context, t0_h=0.0)
    one, two = (simulate.forward(f, begin, [0.0, 4.0], step_h=0.5).g[-1][:, 1:] for f in (uncoupled, apart))
    assert torch.equal(one, two)


@pytest.mark.parametrize("held", [False, True])
def test_a_law_with_a_residual_comes_back_from_its_file(held: bool, tmp_path) -> None:
    field, s = law(held=held), start()
    material = torch.rand(30, 1) if held else None
    fields.save(field, tmp_path / "law.safetensors")
    again, _ = fields.load(tmp_path / "law.safetensors")
    one, two = (f.begun(s, 0.0, material)(torch.tensor(3.0), s).dg for f in (field, again))
    assert torch.equal(one, two)
    assert not torch.equal(
        one, laws.without(field, [("residual 1", "*")]).begun(s, 0.0, material)(torch.tensor(3.0), s).dg
    )
