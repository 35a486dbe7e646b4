import itertools

import pytest
import torch

from embryo import simulate
from embryo.core.errors import DivergedError, EmbryoError
from embryo.core.frame import Frame
from embryo.core.state import State, Velocity
from embryo.fields.analytic import Rotation, Still


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

    with pytest.raises(DivergedError, match=r"6 of 6 cells .* t = 2"):
        simulate.forward(explode, start(), [0.0, 0.5, 2.0], step_h=0.5)


@pytest.mark.parametrize("times", [[0.0], [0.0, 0.0], [0.0, 2.0, 1.0]])
def test_times_out_of_order_and_a_bad_step_are_listed_together(times: list[float]) -> None:
    with pytest.raises(EmbryoError, match=r"(?s)2 problems.*strictly rising.*positive step"):
        simulate.forward(Still(), start(), times, step_h=0.0)
