import itertools
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from embryo import perturb, simulate
from embryo.core.edit import Edit
from embryo.core.errors import DivergedError, EmbryoError
from embryo.core.field import Field
from embryo.core.frame import Frame
from embryo.core.state import State, Velocity
from embryo.core.store import read_trajectory
from embryo.core.trajectory import Trajectory
from embryo.fields.analytic import Rotation, Still
from embryo.fields.flow import FlowNetwork


def start(cells: int = 6) -> State:
    rng = torch.Generator().manual_seed(0)
    return State(
        torch.randn(cells, 2, generator=rng), torch.rand(cells, 1, generator=rng), torch.randn(cells, 3, generator=rng),
        torch.zeros(cells),
    )  # fmt: skip


def test_kept_times_do_not_depend_on_each_other() -> None:
    """A time kept in between changes nothing when it lies on the grid: no interpolation, no restart error."""
    few = simulate.forward(Rotation(), start(), [0.0, 2.0], step_h=0.25)
    many = simulate.forward(Rotation(), start(), [0.0, 0.5, 1.25, 2.0], step_h=0.25)
    torch.testing.assert_close(few.x[-1], many.x[-1], rtol=1e-6, atol=1e-6)


def test_step_is_never_longer_than_asked() -> None:
    times: list[float] = []
    simulate.forward(Still(), start(), [0.0, 1.0, 1.3], step_h=0.4, method="euler", on_step=times.append)
    grid = [*times, 1.3]
    assert max(b - a for a, b in itertools.pairwise(grid)) <= 0.4 + 1e-6
    assert len(times) == 3 + 1


def test_subset_of_a_field_without_neighbours_moves_as_in_the_whole() -> None:
    s = start(8)
    whole = simulate.forward(Rotation(), s, [0.0, 1.0])
    part = simulate.forward(Rotation(), s[torch.tensor([1, 5])], [0.0, 1.0])
    torch.testing.assert_close(whole.x[:, [1, 5]], part.x)


def test_trajectory_carries_frame_panel_and_names() -> None:
    t = simulate.forward(
        Still(), start(2), [0.0, 1.0], panel=("a",), frame=Frame("raw"), cells=("p", "q"), provenance={"seed": 3}
    )
    assert (t.panel, t.frame.name, t.cells, t.provenance["seed"], t.provenance["method"]) == (
        ("a",),
        "raw",
        ("p", "q"),
        3,
        "rk4",
    )


def test_divergence_names_time_and_cells() -> None:
    def explode(t: torch.Tensor, s: State) -> Velocity:
        v = Still()(t, s)
        return Velocity(v.dz, v.dg, v.dx + torch.where(t > 0.9, torch.inf, 0.0), v.growth)

    with pytest.raises(DivergedError, match=r"6 of 6 cells .* t = 1 h"):
        simulate.forward(explode, start(), [0.0, 0.5, 2.0], step_h=0.5)


def test_a_law_is_not_asked_about_places_that_are_no_numbers() -> None:
    """Within a step too: who looks for neighbours there finds an error of its own."""

    def looks(t: torch.Tensor, s: State) -> Velocity:
        assert bool(s.x.isfinite().all())
        v = Still()(t, s)
        return Velocity(v.dz, v.dg, v.dx + torch.where(t > 0.9, torch.nan, 0.0), v.growth)

    with pytest.raises(DivergedError, match="cells with NaN or infinite state"):
        simulate.forward(looks, start(), [0.0, 2.0], step_h=2.0)


@pytest.mark.parametrize("times", [[0.0], [0.0, 0.0], [0.0, 2.0, 1.0]])
def test_times_out_of_order_and_a_bad_step_are_listed_together(times: list[float]) -> None:
    with pytest.raises(EmbryoError, match=r"(?s)2 problems.*strictly rising.*positive step"):
        simulate.forward(Still(), start(), times, step_h=0.0)


class Crowd:
    """A law that reads the neighbours: every particle is drawn to the common centre; no law for blocks."""

    def __call__(self, t: torch.Tensor, s: State) -> Velocity:
        return Velocity(0.1 * s.z, -s.g, s.x.mean(0) - s.x, 0.1 * s.x[:, 0])


def assert_same(a: Trajectory, b: Trajectory) -> None:
    assert all(torch.equal(getattr(a, name), getattr(b, name)) for name in ("times_h", "z", "g", "x", "log_mass"))
    assert (a.cells, a.panel, a.frame, a.provenance) == (b.cells, b.panel, b.frame, b.provenance)


def network() -> FlowNetwork:
    torch.manual_seed(0)
    return FlowNetwork(dims=2, genes=1, space=3, width=16)


@pytest.mark.parametrize("field", [network(), Crowd()], ids=["alone", "with neighbours"])
@pytest.mark.parametrize("times", [[0.0, 0.4, 1.0], [1.0, 0.3, 0.0]])
def test_recorded_as_in_memory_bit_for_bit(field: Field, times: list[float], tmp_path: Path) -> None:
    about = {"block": 7, "cells": tuple("abcdefghijklmnopqrst"), "panel": ("p",), "provenance": {"seed": 3}}
    whole = simulate.forward(field, start(20), times, **about)
    stored = simulate.record(field, start(20), times, tmp_path / "x.zarr", **about)
    assert_same(read_trajectory(tmp_path / "x.zarr"), whole)
    assert torch.equal(stored.at(1).x, whole.x[1])
    assert [p.name for p in tmp_path.iterdir()] == ["x.zarr"]


def test_an_interrupted_record_goes_on_where_it_stopped(tmp_path: Path) -> None:
    times, seen = [0.0, 0.2, 0.4, 0.6], []

    def stop(t: float) -> None:
        if t > 0.45:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        simulate.record(network(), start(), times, tmp_path / "x.zarr", on_step=stop)
    assert not (tmp_path / "x.zarr").exists()
    simulate.record(network(), start(), times, tmp_path / "x.zarr", on_step=seen.append)
    assert min(seen) > 0.39
    assert_same(read_trajectory(tmp_path / "x.zarr"), simulate.forward(network(), start(), times))


def test_another_law_does_not_go_on_with_what_was_interrupted(tmp_path: Path) -> None:
    def stop(t: float) -> None:
        if t > 0.45:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        simulate.record(network(), start(), [0.0, 0.4, 0.6], tmp_path / "x.zarr", on_step=stop)
    simulate.record(Rotation(), start(), [0.0, 0.4, 0.6], tmp_path / "x.zarr")
    assert_same(read_trajectory(tmp_path / "x.zarr"), simulate.forward(Rotation(), start(), [0.0, 0.4, 0.6]))


def test_blocks_change_no_cell_that_reads_itself() -> None:
    whole, parts = (simulate.forward(network(), start(50), [0.0, 1.0], block=b) for b in (50, 8))
    torch.testing.assert_close(whole.x, parts.x)
    crowd, same = (simulate.forward(Crowd(), start(50), [0.0, 1.0], block=b) for b in (50, 8))
    assert torch.equal(crowd.x, same.x)


def test_an_edit_in_some_cells_stays_with_them_in_blocks() -> None:
    context = perturb.Context(("p",), torch.ones(1, 2), 1.0, seed=1)
    edits = [Edit("p", fraction=0.5)]
    law, begin = perturb.apply(network(), start(50), edits, context, t0_h=0.0)
    whole, parts = (simulate.forward(law, begin, [0.0, 1.0], block=b) for b in (50, 8))
    torch.testing.assert_close(whole.z, parts.z)
    assert 5 < int((begin.g[:, 0] == 0).sum()) < 45


MEMORY = """
import re, sys, torch
from pathlib import Path
from embryo import simulate
from embryo.core.state import State
from embryo.fields.analytic import Linear

def peak():
    return int(re.search(r"VmHWM:\\s+(\\d+) kB", Path("/proc/self/status").read_text())[1]) / 1024

s = State(torch.randn(50_000, 16), torch.zeros(50_000, 0), torch.randn(50_000, 3), torch.zeros(50_000))
law = Linear(torch.eye(16), torch.eye(3))
times = [0.01 * k for k in range(20)]
simulate.record(law, s[:2000], times, sys.argv[1] + "/warm.zarr", method="euler")
before = peak()
simulate.record(law, s, times, sys.argv[1] + "/x.zarr", method="euler")
print(peak() - before)
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="peak memory is read from /proc")
def test_a_record_needs_little_memory(tmp_path: Path) -> None:
    """The 20 moments are 80 MB; what the process grows by belongs to three of them and to the names."""
    done = subprocess.run(
        [sys.executable, "-c", MEMORY, str(tmp_path)], capture_output=True, text=True, check=True, timeout=120
    )
    assert float(done.stdout) < 55
