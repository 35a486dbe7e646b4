"""Places that no pose changes, and bodies that swell about their centroid."""

from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.stats import mannwhitneyu, special_ortho_group

from embryo import datasets, fields, simulate
from embryo.core import schema
from embryo.core.errors import DataError
from embryo.core.state import State
from embryo.fields.circuit import Circuit, Gradients
from embryo.fields.flow import FlowNetwork
from embryo.fields.posefree import Swelling, depth, radius_um
from embryo.fields.regulated import Regulated

PANEL = ("a", "b", "s")


def start(n: int = 40) -> State:
    draw = torch.Generator().manual_seed(1)
    x = 20 * torch.randn(n, 3, generator=draw).double() * torch.tensor([2.0, 1.0, 1.0])
    return State(torch.zeros(n, 2).double(), torch.rand(n, 3, generator=draw).double(), x, torch.zeros(n).double())


def moved(state: State, mirror: float = 1.0) -> State:
    turn = torch.from_numpy(special_ortho_group.rvs(3, random_state=4)) * torch.tensor([mirror, 1.0, 1.0])
    return State(state.z, state.g, state.x @ turn.T + torch.tensor([7.0, -3.0, 50.0]), state.log_mass)


def law(ligands: tuple[str, ...] = ()) -> Regulated:
    torch.manual_seed(0)
    gradients = Gradients([0.0, 0.0], [2.0, 2.0], at_h=1.0)
    circuit = Circuit(PANEL, gradients.names, ligands)
    circuit.weights.copy_(torch.randn(circuit.weights.shape))
    place = Swelling.through([1.0, 2.0, 4.0], [10.0, 20.0, 30.0], 2, 3)
    birth = FlowNetwork(dims=2, genes=3, space=3, reads=("g",), width=8)
    made = Regulated(circuit, gradients, place, birth, None, 12.0)
    made.response.copy_(torch.randn(3, 2))
    return made.requires_grad_(requires_grad=False).eval().double()


@pytest.mark.parametrize("mirror", [1.0, -1.0])
def test_depth_does_not_know_the_pose_nor_the_size(mirror: float) -> None:
    s = start()
    there = moved(s, mirror)
    torch.testing.assert_close(depth(there), depth(s))
    torch.testing.assert_close(depth(State(s.z, s.g, 3 * s.x, s.log_mass)), depth(s))
    torch.testing.assert_close(depth(s)[:, 0].square().mean(), torch.tensor(1.0).double())
    torch.testing.assert_close(depth(s)[:, 1].mean(), torch.tensor(1.0).double())


def test_the_inside_of_a_shell_is_crowded_and_near_the_middle() -> None:
    rng = np.random.default_rng(0)
    shell = rng.normal(size=(60, 3))
    shell = 10 * shell / np.linalg.norm(shell, axis=1, keepdims=True)
    x = torch.from_numpy(np.concatenate([shell, rng.normal(size=(20, 3))]))
    found = depth(State(torch.zeros(80, 0).double(), torch.zeros(80, 0).double(), x, torch.zeros(80).double()))
    assert found[60:, 0].max() < found[:60, 0].min()
    assert found[60:, 1].min() > found[:60, 1].max()


def test_a_body_reaches_the_radii_it_was_led_through() -> None:
    s = start()
    place = Swelling.through([1.0, 2.0, 4.0], [10.0, 20.0, 30.0], 2, 3)
    end = simulate.forward(place, s, [1.0, 2.0, 4.0, 5.0], step_h=0.01, method="rk4")
    wanted = radius_um(s) * torch.tensor([1.0, 2.0, 3.0, 3.0]).double()
    torch.testing.assert_close(torch.stack([radius_um(end.at(k)) for k in range(4)]), wanted, rtol=2e-2, atol=0)
    torch.testing.assert_close(end.at(3).x.mean(0), s.x.mean(0))


@pytest.mark.parametrize(("ligands", "close"), [((), 1e-6), (("s",), 5e-3)])  # what is received is solved on a grid
def test_a_rigid_motion_moves_the_prediction_and_changes_nothing_else(ligands: tuple[str, ...], close: float) -> None:
    field, s = law(ligands), start()
    ends = [simulate.forward(field.begun(one, 1.0), one, [1.0, 3.0], step_h=0.2).at(-1) for one in (s, moved(s))]
    for name in ("z", "g", "log_mass"):
        torch.testing.assert_close(getattr(ends[1], name), getattr(ends[0], name), rtol=0, atol=close)
    torch.testing.assert_close(ends[1].x, moved(ends[0]).x, rtol=0, atol=1e-3)


def test_such_a_law_comes_back_from_its_file(tmp_path: Path) -> None:
    field, s = law().float(), start().map(lambda part: part.float())
    fields.save(field, tmp_path / "law.safetensors")
    again, _ = fields.load(tmp_path / "law.safetensors")
    for t in (1.5, 3.0):
        for a, b in zip(again(torch.tensor(t), s).parts(), field(torch.tensor(t), s).parts(), strict=True):
            torch.testing.assert_close(a, b)


@pytest.mark.real
def test_crowding_tells_inner_from_outer_cells_of_measured_blastocysts() -> None:
    try:
        adata = datasets.load("mouse-blastocyst-wt")
    except DataError as error:
        pytest.skip(f"mouse-blastocyst-wt is neither in the cache nor in a mirror: {error.problems[0].found}")
    x, outer = np.asarray(adata.obsm[schema.SPATIAL], dtype=float), (adata.obs[schema.CELL_TYPE] == "TE").to_numpy()
    found = []
    for rows in adata.obs.groupby(schema.EMBRYO, observed=True).indices.values():
        none = torch.zeros(len(rows), 0).double()
        crowded = depth(State(none, none, torch.from_numpy(x[rows]), none.sum(1)))[:, 1].numpy()
        found.append(mannwhitneyu(crowded[~outer[rows]], crowded[outer[rows]]).statistic)
        found[-1] /= outer[rows].sum() * (~outer[rows]).sum()
    assert np.mean(found) > 0.9
