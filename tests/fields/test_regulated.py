"""A law with a circuit: genes by production and decay, z after them, places that no gene moves."""

from pathlib import Path

import pytest
import torch
from scipy.integrate import solve_ivp
from scipy.special import expit

from embryo import fields, perturb, simulate
from embryo.core import field as laws
from embryo.core.edit import Edit, Operation
from embryo.core.errors import SchemaError
from embryo.core.state import State
from embryo.fields.circuit import Circuit, Gradients, Held
from embryo.fields.flow import FlowNetwork
from embryo.fields.mechanics import Mechanics, Touch
from embryo.fields.motion import Motion
from embryo.fields.regulated import Growth, Regulated

PANEL = ("a", "b", "s")


def law(*, ligands: tuple[str, ...] = ("s",), moving: bool = False) -> Regulated:
    torch.manual_seed(0)
    gradients = Gradients([-1.0] * 3, [1.0] * 3)
    circuit = Circuit(PANEL, gradients.names, ligands)
    circuit.weights.copy_(torch.randn(circuit.weights.shape))
    circuit.decay_per_h.copy_(torch.tensor([0.5, 1.0, 2.0]))
    circuit.unit.copy_(torch.tensor([3.0, 1.0, 0.5]))
    place, birth = FlowNetwork(dims=2, genes=3, space=3, reads=("x",), width=8), Growth(3)
    birth.birth.copy_(torch.tensor([0.1, 0.0, -0.2]))
    tissue = Motion([0.0, 4.0])
    if moving:
        tissue.end.copy_(torch.tensor([[8.0, 0.0, 0.0]]))
    made = Regulated(circuit, gradients, place, birth, tissue, 12.0)
    made.response.copy_(torch.randn(3, 2))
    if not moving:
        for weight in place.parameters():
            weight.data.zero_()
    return made.requires_grad_(requires_grad=False).eval()


def start(n: int = 40, seed: int = 1) -> State:
    draw = torch.Generator().manual_seed(seed)
    g, x = torch.rand(n, 3, generator=draw), 20 * torch.randn(n, 3, generator=draw)
    return State(torch.zeros(n, 2), g, x, torch.zeros(n))


def test_genes_follow_the_equation_that_scipy_solves() -> None:
    field, s = law(ligands=()), start(5)
    w, h = field.circuit.weights.double().numpy(), field.circuit.bias.double().numpy()
    material = s.x.double()

    def rhs(t: float, flat):
        y = flat.reshape(5, 3)
        m = field.gradients(t, material).detach().numpy()
        made = expit(y @ w[:, :3].T + m @ w[:, 3:].T + h)
        return (made - y * field.decay_per_h.numpy()).ravel()

    y0 = field.circuit.levels(s.g).double().numpy().ravel()
    wanted = solve_ivp(rhs, (0, 3), y0, rtol=1e-9, atol=1e-11).y[:, -1].reshape(5, 3)
    end = simulate.forward(field.begun(s, 0.0), s, [0.0, 3.0], step_h=0.05)
    torch.testing.assert_close(field.circuit.levels(end.g[-1]).double(), torch.tensor(wanted), rtol=1e-3, atol=1e-4)


def test_the_embedding_follows_the_panel() -> None:
    field, s = law(), start()
    end = simulate.forward(field.begun(s, 0.0), s, [0.0, 2.0], step_h=0.5)
    torch.testing.assert_close(end.z[-1], (end.g[-1] - s.g) @ field.response, rtol=1e-3, atol=1e-3)


def test_no_gene_moves_a_cell_but_genes_make_cells() -> None:
    field, s = law(moving=True), start()
    other = State(s.z + 1, s.g + 0.5, s.x, s.log_mass)
    a, b = field(torch.tensor(1.0), s), field(torch.tensor(1.0), other)
    assert torch.equal(a.dx, b.dx)
    assert not torch.equal(a.growth, b.growth)


def test_a_cell_keeps_the_place_it_had_when_the_roll_out_began() -> None:
    field, s = law(), start()
    bound = field.begun(s, 0.0)
    squeezed = State(s.z, s.g, s.x * torch.tensor([0.2, 1.0, 1.0]) + 5.0, s.log_mass)
    away = State(s.z, s.g, s.x.flip(0), s.log_mass)
    deaf = law(ligands=()).begun(s, 0.0)
    assert torch.equal(bound.rows(slice(0, 5)).material, bound.material[:5])
    assert torch.equal(deaf(torch.tensor(1.0), squeezed).dg, deaf(torch.tensor(1.0), s).dg)
    assert not torch.equal(bound(torch.tensor(1.0), away).dg, field(torch.tensor(1.0), away).dg)


def test_a_bound_law_can_be_bound_to_more_particles() -> None:
    """As for a graft: donors come on top of the cells that it was bound to."""
    field, few, more = law(), start(10), start(15)
    again = laws.begun(field.begun(few, 0.0), more, 1.0)
    assert torch.equal(again.material, more.x)


def test_a_late_start_is_carried_back_to_the_first_stage() -> None:
    """The motion is a drift of 2 µm/h along x: a cell seen at 3 h came from 6 µm behind."""
    field, s = law(moving=True), start()
    drift = torch.tensor([2.0, 0.0, 0.0])
    torch.testing.assert_close(field.begun(s, 3.0).material, s.x - 3 * drift, rtol=0, atol=1e-4)
    assert torch.equal(field.begun(s, 0.0).material, s.x)


def test_held_inputs_ride_and_fade_and_have_to_be_given(tmp_path: Path) -> None:
    made, s = law(ligands=()), start(6)
    held = Held(("m",), [4.0])
    circuit = Circuit(PANEL, held.names)
    circuit.weights[:, 3] = 2.0
    field = (
        Regulated(circuit, held, made.place, made.birth, made.motion, 12.0).requires_grad_(requires_grad=False).eval()
    )
    with pytest.raises(SchemaError, match="no inputs of these cells"):
        field.begun(s, 0.0)
    inputs = torch.rand(6, 1, generator=torch.Generator().manual_seed(0))
    made_of = torch.sigmoid(2.0 * inputs * torch.exp(torch.tensor(-0.5)))
    bound = field.begun(s, 0.0, inputs)
    seen: list[torch.Tensor] = []
    bound.produce(torch.tensor(2.0), s, lambda p, _: seen.append(p) or p)
    torch.testing.assert_close(seen[0], made_of.expand(6, 3), rtol=1e-5, atol=1e-6)
    fields.save(field, tmp_path / "law.safetensors")
    again, _ = fields.load(tmp_path / "law.safetensors")
    assert torch.equal(again.begun(s, 0.0, inputs)(torch.tensor(2.0), s).dg, bound(torch.tensor(2.0), s).dg)


def test_a_knock_out_decays_and_nothing_else_of_it_is_left() -> None:
    field, s = law(ligands=()), start()
    context = perturb.Context(PANEL, field.response, 1.0)
    edits = [Edit("a", keep_pool=True)]
    held, begin = perturb.apply(field.begun(s, 0.0), s, edits, context, t0_h=0.0)
    end = simulate.forward(held, begin, [0.0, 4.0], step_h=0.2)
    left = field.circuit.levels(end.g[-1])[:, 0] / field.circuit.levels(s.g)[:, 0]
    torch.testing.assert_close(left, torch.full_like(left, torch.exp(torch.tensor(-2.0)).item()), rtol=2e-3, atol=1e-4)


def test_a_gene_that_is_not_made_can_be_knocked_out_without_a_trace() -> None:
    field, s = law(), start()
    s = State(s.z, s.g * torch.tensor([0.0, 1.0, 1.0]), s.x, s.log_mass)
    field.circuit.rate_per_h[0] = 0.0
    control = simulate.forward(field.begun(s, 0.0), s, [0.0, 2.0], step_h=0.5)
    context = perturb.Context(PANEL, field.response, 1.0)
    held, begin = perturb.apply(field.begun(s, 0.0), s, [Edit("a")], context, t0_h=0.0)
    edited = simulate.forward(held, begin, [0.0, 2.0], step_h=0.5)
    for ours, theirs in ((edited.z, control.z), (edited.g, control.g), (edited.x, control.x)):
        assert torch.equal(ours, theirs)


def test_what_is_not_received_is_the_edge_that_was_cut() -> None:
    field, s = law(), start()
    cut = laws.without(field.begun(s, 0.0), [("signal:s", "*")])
    deaf = law(ligands=())
    deaf.circuit.weights.copy_(field.circuit.weights[:, :-1])
    a, b = cut(torch.tensor(1.0), s).dg, deaf.begun(s, 0.0)(torch.tensor(1.0), s).dg
    torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-6)
    assert not torch.allclose(a, field.begun(s, 0.0)(torch.tensor(1.0), s).dg)


@pytest.mark.parametrize("operation", [Operation.KNOCKDOWN, Operation.OVEREXPRESS, Operation.CLAMP])
def test_doses_reach_the_level_that_they_name(operation: Operation) -> None:
    """At steady state: a clamp its level; over-expression adds it to the level of a gene that is not made."""
    field, s = law(ligands=()), start(8)
    field.circuit.rate_per_h[0] = 0.0 if operation is Operation.OVEREXPRESS else 1.0
    context = perturb.Context(PANEL, field.response, 1.0)
    held, begin = perturb.apply(field.begun(s, 0.0), s, [Edit("a", operation, dose=0.6)], context, t0_h=0.0)
    end = simulate.forward(held, begin, [0.0, 30.0], step_h=0.5).g[-1][:, 0]
    if operation is Operation.KNOCKDOWN:
        free = simulate.forward(field.begun(s, 0.0), s, [0.0, 30.0], step_h=0.5).g[-1][:, 0]
        assert (end < free).all()
    else:
        torch.testing.assert_close(end, torch.full_like(end, 0.6), rtol=1e-3, atol=1e-3)


def test_a_law_comes_back_from_its_file(tmp_path: Path) -> None:
    field, s = law(moving=True), start()
    fields.save(field, tmp_path / "law.safetensors")
    again, _ = fields.load(tmp_path / "law.safetensors")
    for a, b in zip(again(torch.tensor(1.0), s).parts(), field(torch.tensor(1.0), s).parts(), strict=True):
        assert torch.equal(a, b)


def test_what_wild_type_says_of_a_law_stays_with_it(tmp_path: Path) -> None:
    field = law()
    assert laws.refuted(field) is None
    field.tested.fill_(True)
    field.unfit[1] = True
    fields.save(field, tmp_path / "law.safetensors")
    again, _ = fields.load(tmp_path / "law.safetensors")
    for one in (again, again.without([("a", "b")]), again.begun(start(), 0.0)):
        assert laws.refuted(one) == ("b",)


def test_levels_never_seen_make_no_more_cells_than_high_ones_do() -> None:
    law = Growth(2)
    law.birth.copy_(torch.tensor([0.2, -0.1]))
    rate = law(torch.tensor([[1.0, 1.0], [2.0, 0.0], [1e6, 0.0]]))
    torch.testing.assert_close(rate, torch.tensor([0.1, 0.4, 0.4]))


def test_cells_without_a_ligand_are_alone() -> None:
    assert laws.alone(law(ligands=()))
    assert laws.alone(law(ligands=()).begun(start(), 0.0))
    assert not laws.alone(law())


def forceful() -> Regulated:
    made = law()
    made.forces = Mechanics(genes=3, space=3, ligands=1).touch(Touch(12.0, 1.5, 35.0))
    made.forces.repulsion.fill_(40.0)
    made.forces.adhesion[0, 0] = 8.0
    made.forces.chemotaxis[2, 0] = 5.0
    return made


def test_forces_let_the_genes_that_they_read_move_cells_and_no_other() -> None:
    field, s = forceful(), start()
    now = torch.tensor(1.0)
    a, b, c = (State(s.z, s.g * torch.tensor(part), s.x, s.log_mass) for part in ([1.0] * 3, [0.0, 1, 1], [1.0, 0, 1]))
    assert not torch.equal(field(now, a).dx, field(now, b).dx)
    assert torch.equal(field(now, a).dx, field(now, c).dx)
    silent = State(s.z, s.g * torch.tensor([1.0, 1, 0]), s.x, s.log_mass)  # what is not secreted draws no cell
    assert not torch.equal(field(now, a).dx, field(now, silent).dx)
    assert not field.alone
    assert laws.longest_step_h(field.begun(s, 0.0)) == 0.5
    assert laws.longest_step_h(law()) == float("inf")


def test_forces_are_kept_and_long_steps_are_cut(tmp_path: Path) -> None:
    field, s = forceful(), start()
    fields.save(field, tmp_path / "law.safetensors")
    again, _ = fields.load(tmp_path / "law.safetensors")
    assert torch.equal(again(torch.tensor(1.0), s).dx, field(torch.tensor(1.0), s).dx)
    cut = again.without([("a", "b")])
    assert torch.equal(cut(torch.tensor(1.0), s).dx, field(torch.tensor(1.0), s).dx)
    context = perturb.Context(PANEL, field.response, 1.0)
    held, begin = perturb.apply(field.begun(s, 0.0), s, [Edit("a")], context, t0_h=0.0)
    long, short = (simulate.forward(held, begin, [0.0, 4.0], step_h=h) for h in (4.0, 0.5))
    assert torch.equal(long.x, short.x)
    assert float((long.x[-1] - begin.x).abs().max()) < 100
