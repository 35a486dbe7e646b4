"""Mechanics turn with the body, keep Newton's third law, and equal the synthetic embryo's own forces."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation
from torch import Tensor

from embryo.core.state import State
from embryo.datasets import synthetic
from embryo.datasets.synthetic.circuit import CADHERINS, INDEX, PANEL
from embryo.datasets.synthetic.ligand import Ligand, signal
from embryo.datasets.synthetic.mechanics import bonds, neighbours, pair_velocity, single_velocity
from embryo.fields.mechanics import Mechanics, Touch

T = torch.tensor(1.5, dtype=torch.float64)


def law(space: int, seed: int = 0, ligands: int = 1) -> Mechanics:
    draw = torch.Generator().manual_seed(seed)
    made = Mechanics(genes=3, space=space, ligands=ligands).double()
    made.touch(Touch(4.0, 1.6, 10.0, 9.0, (0.0, 4.0), 0.01))
    root = torch.rand(3, 3, generator=draw, dtype=torch.float64)
    made.adhesion.copy_(root @ root.T)
    for name in ("motility", "chemotaxis", "background", "birth", "base", "unit"):
        own = getattr(made, name)
        own.copy_(torch.rand(own.shape, generator=draw, dtype=torch.float64) + 0.2)
    for name, value in (("repulsion", 20.0), ("cohesion", 0.5), ("wall", 0.7)):
        getattr(made, name).fill_(value)
    return made


def body(n: int, space: int, seed: int, *, even: bool = False) -> State:
    draw = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=draw, dtype=torch.float64)

    x = 5 * normal(n, space) * torch.tensor([2.0, 1.0, 0.7], dtype=torch.float64)[:space]
    return State(normal(n, 2), normal(n, 3).abs() / 2, x, 0 * normal(n) if even else normal(n))


def turn(space: int, seed: int) -> Tensor:
    if space == 3:
        return torch.tensor(Rotation.random(rng=np.random.default_rng(seed)).as_matrix())
    angle = np.random.default_rng(seed).uniform(0, 2 * np.pi)
    return torch.tensor([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])


def centred(state: State) -> tuple[Tensor, Tensor]:
    """A ligand that falls off from the middle of the body."""
    off = state.x - (torch.softmax(state.log_mass, 0)[:, None] * state.x).sum(0)
    level = (-off.square().sum(1) / 200).exp()
    return level, -off * level[:, None] / 100


@pytest.mark.parametrize("space", [2, 3])
@given(n=st.integers(1, 30), seed=st.integers(0, 1000))
def test_a_rigid_motion_of_the_body_moves_the_velocity_rigidly(space: int, n: int, seed: int) -> None:
    own, here, r = law(space), body(n, space, seed), turn(space, seed)
    there = State(here.z, here.g, here.x @ r.T + torch.tensor([30.0, -7.0, 11.0])[:space], here.log_mass)
    (a, grown), (b, again) = own(T, here, centred), own(T, there, centred)
    torch.testing.assert_close(b, a @ r.T, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(again, grown, rtol=0.0, atol=0.0)


@given(n=st.integers(1, 30), seed=st.integers(0, 1000))
def test_the_order_of_cells_does_not_matter(n: int, seed: int) -> None:
    own, here = law(3), body(n, 3, seed)
    order = torch.randperm(n, generator=torch.Generator().manual_seed(seed))
    for p, q in zip(own(T, here, centred), own(T, here[order], centred), strict=True):
        torch.testing.assert_close(q, p[order], rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("space", [2, 3])
@given(n=st.integers(2, 40), seed=st.integers(0, 1000))
def test_pair_forces_move_no_centre_of_mass_and_turn_no_body(space: int, n: int, seed: int) -> None:
    own, here = law(space, ligands=0), body(n, space, seed)
    own.background.zero_()
    own.wall.zero_()
    moved = here.mass[:, None] * own(T, here)[0]
    scale = 1e-9 * (1 + moved.abs().sum())
    assert moved.sum(0).abs().max() < scale
    spin = here.x[:, :, None] * moved[:, None, :]
    assert (spin - spin.transpose(1, 2)).sum(0).abs().max() < scale * 100


@given(seed=st.integers(0, 1000), lift=st.floats(0, 50))
def test_velocities_stay_bounded_whatever_the_genes_say(seed: int, lift: float) -> None:
    own, here = law(3, ligands=0), body(20, 3, seed, even=True)
    wild = State(here.z, here.g + lift, here.x / 1e3, here.log_mass)
    dx, grown = own(T, wild)
    assert dx.isfinite().all()
    assert grown.isfinite().all()
    most = 20 + 0.5 + 4 * float(own.adhesion.sum()) + 3 * float(own.motility.sum())
    assert dx.norm(dim=1).max() < 20 * most


def test_background_reads_no_gene_and_growth_no_place() -> None:
    own, here = law(3), body(40, 3, 1)
    edited = State(here.z, here.g * 0, here.x, here.log_mass)
    torch.testing.assert_close(own.surroundings(T, edited), own.surroundings(T, here), rtol=0.0, atol=0.0)
    elsewhere = State(here.z, here.g, here.x.flip(0), here.log_mass)
    torch.testing.assert_close(own(T, elsewhere, centred)[1], own(T, here, centred)[1], rtol=0.0, atol=0.0)


def test_a_gene_without_strength_moves_nothing() -> None:
    own, here = law(3), body(40, 3, 1)
    own.adhesion[1] = own.adhesion[:, 1] = own.motility[1] = own.birth[1] = 0
    own.chemotaxis[1] = 0
    g = here.g.clone()
    g[:, 1] = 0
    for p, q in zip(own(T, here, centred), own(T, State(here.z, g, here.x, here.log_mass), centred), strict=True):
        assert torch.equal(p, q)


def test_particles_of_eight_cells_flow_like_the_cells_they_stand_for() -> None:
    own = law(3, ligands=0)
    axis = torch.arange(5, dtype=torch.float64) * 3.5
    x = torch.cartesian_prod(axis, axis, axis)
    still = torch.zeros(125, 2, dtype=torch.float64), torch.ones(125, 3, dtype=torch.float64)
    cells = own.contacts(State(*still, x, torch.zeros(125, dtype=torch.float64)))
    eights = own.contacts(State(*still, 2 * x, torch.full((125,), np.log(8.0), dtype=torch.float64)))
    assert torch.equal(cells.rows, eights.rows)
    torch.testing.assert_close(eights.distance, cells.distance)
    torch.testing.assert_close(own.humps(eights), own.humps(cells) / 2)  # twice as far, so stress over length is equal


def test_dead_particles_move_and_are_felt_by_nobody() -> None:
    own, here = law(3, ligands=0), body(30, 3, 4, even=True)
    log_mass = here.log_mass.clone()
    log_mass[:5] = -torch.inf
    dx, _ = own(T, State(here.z, here.g, here.x, log_mass))
    alone, _ = own(T, State(here.z[5:], here.g[5:], here.x[5:], log_mass[5:]))
    torch.testing.assert_close(dx[5:], alone)
    assert dx.isfinite().all()


def test_cells_at_one_place_and_single_cells_are_no_trouble() -> None:
    own = law(3, ligands=0)
    none = torch.zeros(3, dtype=torch.float64)
    dx, _ = own(T, State(torch.zeros(3, 2).double(), torch.zeros(3, 3).double(), torch.zeros(3, 3).double(), none))
    assert dx.abs().max() == 0
    dx, grown = own(T, body(1, 3, 0))
    assert dx.isfinite().all()
    assert grown.isfinite().all()


def test_ligands_must_be_those_that_the_law_reads() -> None:
    own, here = law(3, ligands=2), body(5, 3, 0)
    with pytest.raises(ValueError, match="1 ligands for a law that reads 2"):
        own(T, here, centred)
    with pytest.raises(ValueError, match="2 or 3"):
        Mechanics(genes=1, space=1)


def test_it_travels_by_its_shape() -> None:
    own = law(3)
    again = Mechanics.from_shape(own.shape()).double()
    again.load_state_dict(own.state_dict())
    here = body(20, 3, 3)
    for p, q in zip(own(T, here, centred), again(T, here, centred), strict=True):
        assert torch.equal(p, q)


def test_with_the_true_strengths_it_is_the_synthetic_embryo() -> None:
    """Outside oracle: the generator's forces, along its own long axis."""
    truth = synthetic.Mechanics(membrane_radius_um=40.0)
    embryo = synthetic.simulate(synthetic.Params(n_cells=300), seed=1, times_h=(12.0,)).snapshots[0]
    x = embryo.x - embryo.x.mean(0)
    _, slope = signal(Ligand(), x, embryo.g[:, INDEX["ligand"]])
    near = neighbours(truth, x)
    expected = pair_velocity(truth, x, near, bonds(truth, embryo.g, near))
    expected += single_velocity(truth, x, embryo.g, slope)
    own = Mechanics(genes=len(PANEL), space=3, ligands=1).double()
    own.touch(Touch(truth.spacing_um, truth.reach, wall_um=40.0, steepness_per_um=0.001))
    own.repulsion.fill_(truth.repulsion_um_per_h)
    own.cohesion.fill_(truth.adhesion_um_per_h * truth.unspecific_adhesion)
    for gene, strength in zip(CADHERINS, truth.cadherin_strengths, strict=True):
        own.adhesion[gene, gene] = truth.adhesion_um_per_h * strength
    own.motility[INDEX["motility"]] = truth.intercalation_um_per_h
    own.chemotaxis[INDEX["motility"], 0] = truth.chemotaxis_um_per_h
    own.wall.fill_(truth.membrane_stiffness_per_h)
    state = State(torch.zeros(len(x), 0).double(), *map(torch.tensor, (np.log1p(embryo.g), x, np.zeros(len(x)))))
    dx, _ = own(T, state, lambda s: (s.log_mass, torch.tensor(slope)))
    off = np.linalg.norm(dx.numpy() - expected) / np.linalg.norm(expected)
    assert off < 0.05  # the body's long axis is not quite the generator's


@given(seed=st.integers(0, 1000))
def test_drift_is_where_stable_steps_lead(seed: int) -> None:
    field, state = law(3, seed), body(25, 3, seed)
    state = replace(state, log_mass=state.log_mass.abs())
    hours, x, steps = 0.5, state.x, 13  # of 0.04 h
    assert field.stable_step_h == pytest.approx(0.04)
    for _ in range(steps):
        x = x + hours / steps * field(T, State(state.z, state.g, x, state.log_mass), still(centred, state))[0]
    drift = field.drift(T, state, hours, still(centred, state))
    torch.testing.assert_close(state.x + hours * drift, x, rtol=0, atol=1e-9)
    now = field(T, state, still(centred, state))[0]
    torch.testing.assert_close(field.drift(T, state, 1e-3, still(centred, state)), now, rtol=0, atol=1e-9)
    by = turn(3, seed)
    turned = field.drift(T, State(state.z, state.g, state.x @ by.T, state.log_mass), hours, still(centred, state, by))
    torch.testing.assert_close(turned, drift @ by.T, rtol=0, atol=1e-6)


def still(ligand, state: State, by: Tensor | None = None):
    """The ligand as it is at the start, wherever cells go; turned with the body."""
    level, slope = ligand(state)
    return lambda _: (level, slope if by is None else slope @ by.T)


@pytest.mark.parametrize("mass", [1.0, 0.3, 0.03])
def test_cells_of_which_little_is_left_come_to_rest_too(mass: float) -> None:
    """Where growth is carried as mass, dying cells are less than one: their springs are short, and stiff."""
    field = Mechanics(genes=1, space=3).double().touch(Touch(10.0, 1.5, 40.0))
    field.repulsion.fill_(120.0)
    field.cohesion.fill_(5.0)
    at = torch.arange(-3, 4, dtype=torch.float64)
    x = torch.cartesian_prod(at, at, at)
    x = 0.9 * 10 * mass ** (1 / 3) / 2**0.5 * x[(x.sum(1) % 2 == 0) & (x.norm(dim=1) < 3.5)]  # a close packing, pressed
    none = torch.zeros(len(x), 1, dtype=torch.float64)
    state = State(none, none, x, torch.full((len(x),), np.log(mass), dtype=torch.float64))
    for _ in range(8):
        state = replace(state, x=state.x + 0.25 * field.drift(T, state, 0.25))
    assert field(T, state)[0].norm(dim=1).median() < 1.0  # µm/h
