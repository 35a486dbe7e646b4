"""Fitting forces without following cells: exact on a flow of known divergence, and found among unpaired embryos."""

import numpy as np
import pytest
import torch

from embryo.core.errors import SchemaError
from embryo.core.state import State
from embryo.datasets import synthetic
from embryo.datasets.synthetic.circuit import CADHERINS, INDEX
from embryo.datasets.synthetic.ligand import Ligand, signal
from embryo.fields.mechanics import Mechanics
from embryo.fit.flux import Passage, passages
from embryo.fit.mechanics import Search, forces


def body(x: np.ndarray, level: np.ndarray | None = None) -> State:
    g = np.zeros((len(x), 1)) if level is None else np.log1p(level)
    return State(*map(torch.tensor, (np.zeros((len(x), 0)), g, x, np.zeros(len(x)))))


def up(state: State) -> tuple[torch.Tensor, torch.Tensor]:
    level = np.expm1(state.g[:, INDEX["ligand"]].numpy())
    return tuple(map(torch.as_tensor, signal(Ligand(), state.x.numpy(), level)))


def born(rate: float):
    return lambda state: torch.full((len(state),), float(rate), dtype=torch.float64)


def affine(a: np.ndarray):
    """Return the law ``v = a x`` as a single column."""
    return lambda _t, state: (state.x @ torch.as_tensor(a).T).unsqueeze(-1)


@pytest.mark.parametrize("growth", [0.0, 0.3])
def test_a_known_flow_is_told_from_where_cells_are_without_following_them(growth: float) -> None:
    rng, dt, a = np.random.default_rng(1), 0.05, np.array([[0.2, 0.1, 0], [-0.1, -0.3, 0], [0, 0.05, 0.1]])
    x = rng.normal(size=(500, 3)) * [40.0, 20.0, 20.0]
    x1 = x @ np.linalg.matrix_power(np.eye(3) + a * dt / 64, 64).T
    order = rng.permutation(len(x))
    late = State(*(part[order] for part in body(x1).parts()[:3]), torch.full((len(x),), growth * dt).double())
    found = Passage(0.0, dt, (body(x),), (late,), "a", born(growth)).moments(affine(a), 30.0)
    assert found.error(np.ones(1)) < 1e-3
    assert found.cross[0] / found.square[0, 0] == pytest.approx(1, abs=0.01)
    assert found.error(np.zeros(1)) == 1
    if growth:
        assert Passage(0.0, dt, (body(x),), (late,), "a", born(0)).moments(affine(a), 30.0).error(np.ones(1)) > 0.1


def test_turning_a_body_turns_nothing_that_is_fitted() -> None:
    rng = np.random.default_rng(2)
    x, x1, a = rng.normal(size=(200, 3)) * 30, rng.normal(size=(190, 3)) * 31, rng.normal(size=(3, 3))
    turn = np.linalg.qr(rng.normal(size=(3, 3)))[0]
    turn *= np.linalg.det(turn)
    plain = Passage(0.0, 1.0, (body(x),), (body(x1),), "a", born(0)).moments(affine(a), 30.0)
    turned = Passage(0.0, 1.0, (body(x @ turn.T),), (body(x1 @ turn.T),), "a", born(0))
    moved = turned.moments(affine(turn @ a @ turn.T), 30.0)
    assert moved.cross == pytest.approx(plain.cross, rel=0.2)
    assert moved.power == pytest.approx(plain.power, rel=0.2)


def test_embryos_seen_twice_are_told_apart_and_others_pooled() -> None:
    x = np.random.default_rng(3).normal(size=(6, 3))
    who = torch.tensor([0, 0, 1, 1, 2, 2])
    twice = passages([0.0, 1.0], [body(x), body(x)], [who, who + 1], born(0))
    assert [(p.embryo, len(p.early), len(p.early[0])) for p in twice] == [("1", 1, 2), ("2", 1, 2)]
    once = passages([0.0, 2.0], [body(x), body(x)], [who, who + 3], born(0))
    assert [(p.embryo, len(p.early), len(p.late), p.dt_h) for p in once] == [("0 h", 3, 3, 2.0)]


def test_embryos_that_begin_as_one_cell_may_tell_of_forces() -> None:
    rng = np.random.default_rng(4)
    stages = [body(20 * rng.normal(size=(n, 3)), rng.random((n, 1))) for n in (1, 8, 16)]
    who = [torch.zeros(len(s), dtype=torch.long) for s in stages]
    found = passages([0.0, 1.0, 2.0], stages, who, born(0))
    assert np.isfinite(forces(found).unexplained)
    alone = passages([0.0, 1.0, 2.0], [stages[0]] * 3, [who[0]] * 3, born(0))
    with pytest.raises(SchemaError, match="bodies of one cell"):
        forces(alone)


def test_forces_are_found_from_unpaired_stages() -> None:
    growth, truth = synthetic.Growth(), synthetic.Mechanics()
    times = tuple(map(float, range(5, 15)))

    def births(state: State) -> torch.Tensor:
        return growth.base_per_h + growth.gene_per_h * state.g[:, INDEX["growth"]].expm1()

    found = []
    for seed in range(3):
        params = synthetic.Params(n_cells=500, semi_axes_um=(82.0, 37.0, 37.0))  # as dense as 1,200 in the whole egg
        stages = [body(s.x, s.g) for s in synthetic.simulate(params, seed=seed, times_h=times).snapshots]
        found += passages(times, stages, [torch.full((len(s),), seed) for s in stages], births)
    own = tuple((k, k) for k in CADHERINS)
    search = Search(
        background=False,
        spacings=(1.2, 1.3, 1.4),
        reaches=(1.4, 1.5, 1.6),
        walls=(2.0,),
        sticky=own,
        motile=(INDEX["motility"],),
    )
    fitted = forces(found, search, up)
    law: Mechanics = fitted.law
    assert fitted.unexplained < 0.35
    assert fitted.without > 0.7
    assert float(law.repulsion) == pytest.approx(truth.repulsion_um_per_h, rel=0.5)
    assert float(law.motility.max()) == pytest.approx(truth.intercalation_um_per_h, rel=0.4)
    sticky = law.adhesion.diagonal()[CADHERINS].numpy()
    np.testing.assert_allclose(sticky, truth.adhesion_um_per_h * np.array(truth.cadherin_strengths), rtol=0.6)
    assert float(law.chemotaxis[INDEX["motility"], 0]) == pytest.approx(truth.chemotaxis_um_per_h, rel=0.6)


def test_copies_of_an_embryo_are_left_out_together() -> None:
    x = np.random.default_rng(4).normal(size=(6, 3))
    who = torch.tensor([0, 0, 1, 1, 2, 2])
    found = passages([0.0, 1.0], [body(x), body(x)], [who, who], born(0), {0: 0, 1: 0, 2: 1})
    assert [p.embryo for p in found] == ["0", "0", "1"]
