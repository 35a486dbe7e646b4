"""The spatial network turns with the body, does not care for the order of cells, and keeps their spacing."""

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.linalg import expm
from scipy.spatial.transform import Rotation
from torch import Tensor

from embryo import fields
from embryo.blocks.neighbours import nearest
from embryo.core.errors import DivergedError
from embryo.core.field import alone
from embryo.core.state import State
from embryo.fields.flow import Scales
from embryo.fields.spatial import Body, SpatialNetwork

T = torch.tensor(1.5, dtype=torch.float64)


def network(space: int, *, repulsion: float = 0.3, seed: int = 0, attention: float | None = None) -> SpatialNetwork:
    torch.manual_seed(seed)
    made = SpatialNetwork(dims=3, genes=2, space=space, neighbours=5, size=(32, 2), attention=attention)
    n = 5 + space
    scales = Scales(torch.randn(n), torch.rand(n) + 0.5, torch.rand(n + 1) + 0.5, 0.0, 4.0)
    made.standardise(scales, Body(20.0, (4.0, 3.0), repulsion))
    return made.double().eval()


def body(n: int, space: int, seed: int) -> State:
    draw = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=draw, dtype=torch.float64)

    return State(normal(n, 3), normal(n, 2), 10 * normal(n, space) * torch.tensor([2.0, 1.0, 0.7])[:space], normal(n))


def turn(space: int, seed: int) -> Tensor:
    if space == 3:
        return torch.tensor(Rotation.random(rng=np.random.default_rng(seed)).as_matrix())
    angle = np.random.default_rng(seed).uniform(0, 2 * np.pi)
    return torch.tensor([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])


@pytest.mark.parametrize("attention", [None, 0.3])
@pytest.mark.parametrize("space", [2, 3])
@given(n=st.integers(1, 30), seed=st.integers(0, 1000))
def test_a_rigid_motion_of_the_body_moves_the_prediction_rigidly(
    space: int, attention: float | None, n: int, seed: int
) -> None:
    field, here, r = network(space, attention=attention), body(n, space, seed), turn(space, seed)
    there = State(here.z, here.g, here.x @ r.T + torch.tensor([30.0, -7.0, 11.0])[:space], here.log_mass)
    a, b = field(T, here), field(T, there)
    torch.testing.assert_close(b.dx, a.dx @ r.T, rtol=1e-7, atol=1e-7)
    for p, q in ((a.dz, b.dz), (a.dg, b.dg), (a.growth, b.growth)):
        torch.testing.assert_close(q, p, rtol=1e-7, atol=1e-7)


@pytest.mark.parametrize("attention", [None, 0.3])
@pytest.mark.parametrize("space", [2, 3])
def test_the_order_of_cells_does_not_matter(space: int, attention: float | None) -> None:
    field, here = network(space, attention=attention), body(40, space, 1)
    order = torch.randperm(40, generator=torch.Generator().manual_seed(2))
    for p, q in zip(field(T, here).parts(), field(T, here[order]).parts(), strict=True):
        torch.testing.assert_close(q, p[order], rtol=1e-7, atol=1e-7)


@pytest.mark.parametrize("space", [2, 3])
def test_a_body_is_not_its_mirror_image(space: int) -> None:
    field, here = network(space), body(40, space, 1)
    flip = torch.diag(torch.tensor([-1.0, 1.0, 1.0], dtype=torch.float64)[:space])
    mirrored = field(T, State(here.z, here.g, here.x @ flip, here.log_mass))
    assert (mirrored.dx - field(T, here).dx @ flip).abs().max() > 1e-3
    assert (mirrored.dz - field(T, here).dz).abs().max() > 1e-4


@pytest.mark.parametrize("part", ["z", "g", "x"])
def test_a_cell_feels_its_neighbours(part: str) -> None:
    field, here = network(3), body(40, 3, 1)
    parts = dict(zip(("z", "g", "x", "log_mass"), here.parts(), strict=True))
    moved = parts | {part: parts[part].clone()}
    moved[part][7] += 1.0
    changed = (field(T, State(**moved)).dx - field(T, here).dx).norm(dim=1)
    near = torch.cdist(here.x, here.x)[7].argsort()[1:4]
    assert changed[near].min() > 1e-5


def test_growth_reads_the_cell_and_not_its_place() -> None:
    field, here = network(3), body(40, 3, 1)
    elsewhere = State(here.z, here.g, here.x.flip(0), here.log_mass)
    torch.testing.assert_close(field(T, elsewhere).growth, field(T, here).growth, rtol=0.0, atol=0.0)
    assert (field(T, State(here.z + 1, here.g, here.x, here.log_mass)).growth - field(T, here).growth).abs().min() > 0


def test_particles_of_eight_cells_lie_twice_as_far_apart() -> None:
    axis = torch.arange(5, dtype=torch.float64)
    grid = torch.cartesian_prod(axis, axis, axis)
    field = network(3)
    spacing = float(field._spacing(T))  # the tissue's, from both ends of the training window
    assert spacing == pytest.approx(4.0 ** (1 - 1.5 / 4) * 3.0 ** (1.5 / 4))
    still = torch.zeros(125, 3, dtype=torch.float64), torch.zeros(125, 2, dtype=torch.float64)
    cells = State(*still, grid * spacing, torch.zeros(125, dtype=torch.float64))
    eights = State(*still, 2 * grid * spacing, torch.full((125,), np.log(8.0), dtype=torch.float64))
    for state in (cells, eights):
        assert field._apart(T, state)[1].norm(dim=-1).min() == pytest.approx(1.0)
        assert field.repulsion(T, state).abs().max() < 1e-9


def test_cells_nearer_than_the_spacing_part_and_others_do_not() -> None:
    field = network(3, repulsion=0.5)
    spacing = float(field._spacing(T))
    x = torch.tensor([[0.0, 0.0, 0.0], [0.4, 0.0, 0.0], [5.0, 0.0, 0.0]], dtype=torch.float64) * spacing
    push = field.repulsion(T, State(torch.zeros(3, 3), torch.zeros(3, 2), x, torch.zeros(3, dtype=torch.float64)))
    expected = 0.5 * spacing * 0.6
    torch.testing.assert_close(push[:, 0], torch.tensor([-expected, expected, 0.0], dtype=torch.float64))
    assert push[:, 1:].abs().max() == 0


def test_the_plane_and_space_only() -> None:
    with pytest.raises(ValueError, match="2 or 3"):
        SpatialNetwork(dims=3, genes=2, space=0)


def test_what_is_saved_is_loaded(tmp_path: Path) -> None:
    field = network(3).float()
    fields.save(field, tmp_path / "field.safetensors", seed=4)
    again, meta = fields.load(tmp_path / "field.safetensors")
    assert isinstance(again, SpatialNetwork)
    assert meta["seed"] == 4
    assert not alone(again)
    here = State(*(p.float() for p in body(20, 3, 0).parts()))
    torch.testing.assert_close(again(T.float(), here).dx, field(T.float(), here).dx, rtol=0.0, atol=0.0)


def test_attention_diffuses_its_queries_over_the_graph_of_neighbours() -> None:
    """Against the heat kernel of the normalised Laplacian by scipy's matrix exponential, then a plain softmax."""
    field, here, beta = network(3, attention=0.7), body(30, 3, 1), 0.7
    seen, rows = field._seen(here), nearest(here.x, 5).rows
    links = np.zeros((30, 30))
    links[np.arange(30)[:, None], rows] = 1
    links = np.maximum(links, links.T)
    degree = links.sum(1) ** -0.5
    heat = torch.tensor(expm(-beta * (np.eye(30) - degree[:, None] * links * degree)))
    scores = (heat @ field.query(seen)) @ field.key(seen).T / 32**0.5
    wanted = scores.gather(1, rows).softmax(dim=1)
    torch.testing.assert_close(field._attended(rows, seen).squeeze(-1), wanted, rtol=1e-6, atol=1e-8)


def test_a_law_with_attention_comes_back_from_its_file(tmp_path: Path) -> None:
    field, here = network(3, attention=0.3).float(), body(20, 3, 1).map(lambda part: part.float())
    fields.save(field, tmp_path / "law.safetensors")
    again, _ = fields.load(tmp_path / "law.safetensors")
    assert torch.equal(again(T.float(), here).dx, field(T.float(), here).dx)


def test_cells_that_ran_away_are_named_and_no_neighbours_are_sought() -> None:
    cells = body(6, 2, 0)
    cells.x[2, 1] = float("inf")
    with pytest.raises(DivergedError, match=r"cells without a finite place at t = 1\.5 h"):
        network(2)(T, cells)
