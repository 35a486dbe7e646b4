"""Growth as cells agrees in distribution with growth as mass; luck is shared; pedigrees and places hold."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch

from embryo import measure, perturb, simulate
from embryo.core.edit import Edit, Operation
from embryo.core.errors import EmbryoError
from embryo.core.state import State, Velocity
from embryo.core.store import read_trajectory, write_trajectory
from embryo.core.trajectory import Trajectory
from embryo.fields.analytic import Expansion, Rotation


@dataclass(frozen=True)
class Gradient:
    """Cells drift along x and grow where x is positive, die where it is negative; closed form in t."""

    alone: bool = True

    def __call__(self, t: torch.Tensor, s: State) -> Velocity:
        return Velocity(0 * s.z, -s.g, 0 * s.x + 0.3, s.x[:, 0].clamp(-0.8, 1.2))


def start(cells: int, seed: int = 0) -> State:
    rng = torch.Generator().manual_seed(seed)
    z, g, x = (torch.randn(cells, n, generator=rng) for n in (2, 1, 3))
    return State(z, g, x, torch.zeros(cells))


def living(t: Trajectory, k: int = -1) -> State:
    return t.at(k)[t.at(k).alive]


def test_expected_number_is_the_mass_at_every_time() -> None:
    """Of 2000 clones of an expanding ball: exp(growth t), with the variance of a pure birth process."""
    field, times = Expansion(0.2), [0.0, 0.5, 1.5, 2.0]
    mass = simulate.forward(field, start(2000), times)
    cells = simulate.particles(field, start(2000), times, seed=1, spacing_um=0.0, step_h=0.5)
    for k, t in enumerate(times):
        grown = np.exp(0.6 * t)
        assert float(mass.at(k).mass.sum()) == pytest.approx(2000 * grown, rel=1e-5)
        assert abs(float(cells.at(k).mass.sum()) - 2000 * grown) <= 4 * np.sqrt(2000 * grown * (grown - 1))


def test_clouds_of_cells_and_of_mass_are_one_distribution() -> None:
    """Unbiased energy distance between independent starts, 20 times: 0 with growth read, not without.

    Sisters put apart by nothing stay together: a clone is one draw of its place, with its cells as weight.
    """
    with_growth, without = [], []
    for k in range(20):
        times = [0.0, 1.0, 2.0]
        mass = simulate.forward(Gradient(), start(250, seed=2 * k), times).at(-1)
        t = simulate.particles(Gradient(), start(250, seed=2 * k + 1), times, seed=k, spacing_um=0.0, step_h=0.25)
        places, clones = np.unique(living(t).x.double().numpy(), axis=0, return_counts=True)
        a, cells = mass.x.double().numpy(), clones.astype(float)
        with_growth.append(measure.energy_distance(a, places, mass.mass.double().numpy(), cells))
        without.append(measure.energy_distance(a, places, np.ones(len(a)), cells))
    error = np.std(with_growth, ddof=1) / np.sqrt(20)
    assert abs(np.mean(with_growth)) < 3 * error
    assert np.mean(without) > 5 * error


@dataclass(frozen=True)
class Alike:
    """All cells drift and grow alike."""

    alone: bool = True

    def __call__(self, t: torch.Tensor, s: State) -> Velocity:
        return Velocity(0 * s.z, 0 * s.g, 0 * s.x + 0.3, 0 * s.x[:, 0] + 0.8)


def test_daughters_leave_their_path_by_half_the_default_spacing_at_each_division() -> None:
    """Where all cells drift alike: at most n / 2 spacings after n divisions, sqrt(n) / 2 in the root mean square."""
    begin = start(400)
    t = simulate.particles(Alike(), begin, [0.0, 2.0], seed=3, step_h=0.25)
    near = torch.cdist(begin.x, begin.x).fill_diagonal_(torch.inf).min(dim=1).values.numpy()
    spacing = float(np.median(near))
    assert t.provenance["spacing_um"] == pytest.approx(spacing, rel=1e-5)
    alive = t.at(-1).alive.numpy()
    clone, divisions = np.array([(int(c.rstrip("ab")), len(c) - len(c.rstrip("ab"))) for c in t.cells])[alive].T
    off = t.x[-1].numpy()[alive] - (begin.x.numpy()[clone] + 0.6)
    apart = np.linalg.norm(off, axis=1)
    assert divisions.max() > 3
    assert (apart <= divisions * spacing / 2 + 1e-5).all()
    assert (apart**2).sum() == pytest.approx(divisions.sum() * spacing**2 / 4, rel=0.1)
    assert (np.abs(off.mean(axis=0)) < 3 * off.std(axis=0) / np.sqrt(400)).all()  # to no side


def test_turnover_changes_the_variance_and_not_the_mean() -> None:
    def numbers(turnover: float) -> np.ndarray:
        t = simulate.particles(
            Rotation(), start(3000), [0.0, 1.0], seed=2, turnover_per_h=turnover, step_h=0.25, spacing_um=0.0
        )
        clone = np.array([int(name.rstrip("ab")) for name in t.cells])
        return np.bincount(clone, weights=t.at(-1).mass.numpy(), minlength=3000)

    assert (numbers(0.0) == 1).all()
    turning = numbers(0.5)
    assert abs(turning.mean() - 1) < 4 * np.sqrt(2 * 0.5 / 3000)
    assert turning.var() == pytest.approx(2 * 0.5, rel=0.2)


def test_control_and_edit_share_their_luck_until_they_differ() -> None:
    """An edit of half of the clones from 1 h on: the others, and all before, are the same cells in the same places."""

    class Grown(Gradient):
        def __call__(self, t: torch.Tensor, s: State) -> Velocity:
            v = super().__call__(t, s)
            return Velocity(v.dz, v.dg, v.dx, v.growth + s.g[:, 0])

    context = perturb.Context(("p",), torch.zeros(1, 2), 1.0, seed=0)
    edit = Edit("p", Operation.OVEREXPRESS, dose=3.0, t_on_h=1.0, fraction=0.5)
    law, begin = perturb.apply(Grown(), start(120), [edit], context, t0_h=0.0)
    mutant = {k for k in range(120) if bool(law.masks[0, k])}
    one, two = (simulate.particles(f, s, [0.0, 1.0, 2.0], seed=5) for f, s in ((Grown(), start(120)), (law, begin)))

    def found(t: Trajectory, k: int, *, edited: bool) -> dict[str, list[float]]:
        rows = [i for i, c in enumerate(t.cells) if (int(c.rstrip("ab")) in mutant) is edited and t.at(k).alive[i]]
        return {t.cells[i]: t.x[k, i].tolist() for i in rows}

    assert found(one, 1, edited=True) == found(two, 1, edited=True)
    assert found(one, 2, edited=False) == found(two, 2, edited=False)
    assert len(found(two, 2, edited=True)) > 1.3 * len(found(one, 2, edited=True))


def test_every_cell_has_its_whole_path(tmp_path: Path) -> None:
    """Before its birth a cell lies where its ancestor was, after its death where it was last seen."""
    t = simulate.particles(Gradient(), start(60), [0.0, 0.5, 1.0, 1.5], seed=0, cells=tuple(f"c{k}" for k in range(60)))
    rows = {name: i for i, name in enumerate(t.cells)}
    alive = torch.stack([t.at(k).alive for k in range(4)])
    assert alive[0].sum() == 60
    assert set(t.cells) >= {f"c{k}" for k in range(60)}
    unborn = dead = 0
    for name, i in rows.items():
        seen = alive[:, i].nonzero()[:, 0]
        assert (seen.diff() == 1).all()
        for k in range(4):
            if k < seen[0]:
                mother = name[:-1]
                while mother not in rows or not alive[k, rows[mother]]:
                    mother = mother[:-1]
                assert torch.equal(t.x[k, i], t.x[k, rows[mother]])
                unborn += 1
            elif k > seen[-1]:
                assert torch.equal(t.z[k, i], t.z[seen[-1], i])
                dead += 1
    assert unborn > 20
    assert dead > 20
    write_trajectory(t, tmp_path / "x.zarr")
    assert torch.equal(read_trajectory(tmp_path / "x.zarr").log_mass, t.log_mass)


def test_same_seed_same_cells_and_another_seed_others() -> None:
    one, two, other = (simulate.particles(Gradient(), start(50), [0.0, 1.0], seed=s) for s in (1, 1, 2))
    assert one.cells == two.cells
    assert torch.equal(one.x, two.x)
    assert one.cells != other.cells


def test_a_population_may_die_out() -> None:
    s = start(5)
    s.x[:, 0] = -20.0
    t = simulate.particles(Gradient(), s, [0.0, 30.0, 40.0], seed=0, step_h=1.0)
    assert not t.at(-1).alive.any()
    assert torch.equal(t.x[1], t.x[2])
    assert (t.at(0).mass == 1).all()


def test_what_cannot_be_is_refused() -> None:
    with pytest.raises(EmbryoError, match=r"(?s)2 problems.*times that increase.*spacing -1"):
        simulate.particles(Gradient(), start(3), [1.0, 0.0], seed=0, spacing_um=-1.0)
    with pytest.raises(EmbryoError, match=r"living particles at t = .* at most max_cells = 60"):
        simulate.particles(Expansion(1.0), start(50), [0.0, 1.0], seed=0, max_cells=60)
