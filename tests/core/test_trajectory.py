"""Trajectories: stacked states, the right one at the right time, parts that agree."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from jaxtyping import TypeCheckError

from embryo.core.errors import SchemaError
from embryo.core.frame import BODY, RAW, Frame
from embryo.core.state import State
from embryo.core.trajectory import Trajectory

FRAME = Frame(BODY)


def states(times: int, cells: int = 4, dims: int = 2, genes: int = 3, space: int = 3) -> list[State]:
    gen = torch.Generator().manual_seed(times)
    return [
        State(*(torch.randn(cells, n, generator=gen) for n in (dims, genes, space)), torch.randn(cells, generator=gen))
        for _ in range(times)
    ]


def build(times: int = 3, **changes: object) -> Trajectory:
    parts = {"panel": ("a", "b", "c"), "frame": FRAME} | changes
    return Trajectory.of(torch.arange(times, dtype=torch.float32), states(times), **parts)


@settings(deadline=None)
@given(times=st.integers(1, 5), cells=st.integers(0, 5), dims=st.integers(0, 3), space=st.sampled_from([0, 2, 3]))
def test_of_then_at_gives_every_state_back(times: int, cells: int, dims: int, space: int) -> None:
    given_states = states(times, cells, dims, 2, space)
    path = Trajectory.of(torch.arange(times) * 0.5, given_states, panel=("a", "b"), frame=FRAME)
    assert len(path) == times
    assert path.cells == tuple(str(k) for k in range(cells))
    for k, state in enumerate(given_states):
        for part, stacked in zip(state.parts(), path.at(k).parts(), strict=True):
            assert torch.equal(part, stacked)


@settings(deadline=None)
@given(
    grid=st.lists(st.integers(-50, 50), min_size=1, max_size=6, unique=True),
    t=st.floats(-60, 60),
    falling=st.booleans(),
)
def test_nearest_is_the_nearest(grid: list[int], t: float, falling: bool) -> None:
    times = sorted(grid, reverse=falling)
    path = Trajectory.of(torch.tensor(times, dtype=torch.float64), states(len(times)), panel=(), frame=FRAME)
    best = min(abs(u - t) for u in times)
    chosen = [k for k in range(len(times)) if torch.equal(path.nearest(t).x, path.x[k])]
    assert [abs(times[k] - t) for k in chosen] == [best]


def test_a_gene_is_its_column() -> None:
    path = build()
    assert torch.equal(path.gene("b"), path.g[:, :, 1])


def test_an_unknown_gene_is_told_with_the_nearest_name() -> None:
    with pytest.raises(SchemaError, match=r"gene 'tbx6a'.*3 genes of the panel: tbx6, sox2, t.*write tbx6"):
        build(panel=("tbx6", "sox2", "t")).gene("tbx6a")


def test_moved_changes_positions_and_frame_only() -> None:
    path = build(provenance={"seed": 1})
    before = path.x.clone()
    other = path.moved(path.x + 5, Frame(RAW))
    assert torch.equal(other.x, before + 5)
    assert torch.equal(path.x, before)
    assert (other.frame, path.frame, other.provenance) == (Frame(RAW), FRAME, {"seed": 1})
    for name in ("times_h", "z", "g", "log_mass"):
        assert getattr(other, name) is getattr(path, name)


def test_the_given_provenance_is_copied() -> None:
    notes = {"seed": 1}
    path = build(provenance=notes)
    notes["seed"] = 2
    assert path.provenance["seed"] == 1


def test_names_that_do_not_fit_are_listed_at_once() -> None:
    with pytest.raises(SchemaError) as caught:
        build(panel=("a",), cells=("one", "two"))
    text = str(caught.value)
    assert len(caught.value.problems) == 2
    assert "different numbers of genes: 3 in g; 1 in panel" in text
    assert "different numbers of cells: 4 in z, g, x, log_mass; 2 in cells" in text


@pytest.mark.parametrize(
    "times", [[0.0, 0.0, 1.0], [0.0, 2.0, 1.0], [0.0, float("nan"), 1.0], [0.0, 1.0, float("inf")]]
)
def test_times_run_one_way_and_are_finite(times: list[float]) -> None:
    with pytest.raises(SchemaError, match="strictly rising or falling"):
        Trajectory.of(torch.tensor(times), states(3), panel=(), frame=FRAME)


def test_no_states_or_different_ones_are_refused() -> None:
    with pytest.raises(SchemaError, match="0 states"):
        Trajectory.of(torch.zeros(0), [], panel=(), frame=FRAME)
    with pytest.raises(SchemaError, match="2 states of 2 different shapes"):
        Trajectory.of(torch.arange(2.0), [*states(1), *states(1, cells=5)], panel=(), frame=FRAME)


def test_shape_violations_raise() -> None:
    path = build()
    with pytest.raises(TypeCheckError):
        path.moved(path.x[:, :2], FRAME)
    with pytest.raises(TypeCheckError):
        Trajectory(path.times_h[:2], path.z, path.g, path.x, path.log_mass, path.panel, FRAME, path.cells)
