"""Laws that read neighbours as candidates: rolled body by body, admitted where neighbours tell the way, else not."""

import numpy as np
import pytest
import torch

from embryo import fit
from embryo.core.state import State, Velocity
from embryo.evaluate.time import bodies, candidates, stack
from embryo.evaluate.time.floors import FLOORS
from embryo.evaluate.time.series import Series

QUICK = fit.Training(steps=50, batch=24, width=32, depth=2, learning_rate=3e-3, ema=0.95, width_of_paths=0.1)


class Gathering:
    """Every cell goes to the centroid of the cells that it is asked about with; growth is one per hour."""

    alone = False

    def __call__(self, t: torch.Tensor, state: State) -> Velocity:
        still = torch.zeros_like(state.log_mass)
        return Velocity(0 * state.z, 0 * state.g, state.x.mean(0) - state.x, still + 1)


def turn(angle: float) -> np.ndarray:
    return np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])


@pytest.fixture
def followers(make_state, make_series, rng) -> Series:
    """A body of two kinds of cells. All go where their neighbours of the first kind lie, then the body turns at random.

    Its next direction is written in how its cells lie, and nowhere else: neither place nor time tells it.
    """
    place, stages = np.zeros(2), {}
    kind = np.repeat([1.0, -1.0], 12)
    for k, angle in enumerate(rng.uniform(0, 2 * np.pi, 5)):
        shape = np.stack([kind, np.zeros(24)], axis=1) + rng.normal(0, 0.3, (24, 2))
        stages[float(k)] = make_state(kind[:, None] + rng.normal(0, 0.1, (24, 1)), place + shape @ turn(angle).T)
        place = place + 2 * turn(angle)[:, 0]
    return make_series(stages)


@pytest.fixture
def driven(make_state, make_series, rng) -> Series:
    """A round cloud that drifts evenly: its neighbours tell nothing of the way."""
    return make_series({float(k): make_state(rng.normal(size=(24, 1)), rng.normal([2 * k, 0], 1, (24, 2)))
                        for k in range(5)})  # fmt: skip


def chosen(series: Series) -> stack.Choice:
    """What the inner hold-out makes of both laws on the same couplings, beside every floor, after the last stage."""
    fields = candidates.Fields()
    alone = candidates.rolled("alone", candidates.regressed(QUICK), fields)
    social = candidates.rolled(candidates.NEIGHBOURS, candidates.neighbourly(QUICK), fields)
    choice = stack.stacked([*FLOORS, *alone, *social])[1].choose(series, 5.0)
    assert choice is not None
    return choice


def test_where_neighbours_tell_the_way_the_law_that_reads_them_is_admitted(followers: Series) -> None:
    choice = chosen(followers)
    near = f"{candidates.NEIGHBOURS}, from the stage before"
    assert min(choice.energies, key=choice.energies.__getitem__) == near
    assert choice.energies[near] < choice.energies["alone, from the stage before"] / 2
    assert choice.shares[near] == max(choice.shares.values())
    assert f"{choice.shares[near]:.0%} {near}" in choice.sentence


def test_where_neighbours_tell_nothing_it_is_not_taken(driven: Series) -> None:
    choice = chosen(driven)
    assert len(choice.folds_h) == 3
    assert sum(name.startswith(candidates.NEIGHBOURS) for name in choice.energies) == 2
    assert not [name for name in choice.shares if name.startswith(candidates.NEIGHBOURS)]


def test_bodies_are_rolled_one_by_one_and_keep_their_mass(make_state, make_series) -> None:
    """Two embryos, pooled and interleaved: each gathers about its own centroid."""
    x = np.array([[0.0, 0], [100, 0], [2, 0], [102, 0]])
    start = make_state(np.arange(4.0)[:, None], x, total=8.0)
    series = make_series({0.0: start, 9.0: start}, groups=[np.array(list("abab"), dtype=object)] * 2)
    end = bodies.carried(Gathering(), series, 0, 5.0, 40)
    order = torch.argsort(end.z[:, 0])
    assert end.x[order, 0].numpy() == pytest.approx([1, 101, 1, 101], abs=0.05)
    assert end.mass.numpy() == pytest.approx(2 * np.exp(5.0), rel=1e-3)


def test_a_turned_series_is_predicted_turned(followers: Series) -> None:
    """The law turns with the body."""
    quarter = torch.tensor([[0.0, -1.0], [1.0, 0.0]])
    turned = tuple(State(s.z, s.g, s.x @ quarter.T, s.log_mass) for s in followers.states)
    other = Series(followers.times_h, turned, followers.labels, followers.groups, counts_grow=False)
    law = bodies.neighbourly(followers, fit.Training(steps=5, batch=24, width=8, depth=2))
    one, two = (bodies.carried(law, s, 4, 5.0, 4) for s in (followers, other))
    assert torch.allclose(one.x @ quarter.T, two.x, atol=1e-3)
    assert float((one.x - followers.states[4].x).norm(dim=1).min()) > 0.1


def test_couplings_count_descendants_as_flow_matching_does(make_state, make_series, rng) -> None:
    early, late = rng.normal(size=(30, 2)), rng.normal(size=(45, 2))
    series = make_series({0.0: make_state(early, total=30.0), 2.0: make_state(late, total=45.0)}, counts_grow=True)
    (one,), pairs = bodies.couplings(series), candidates._coupled(series)
    wanted = dict(zip(pairs.source.tolist(), (pairs.growth * pairs.dt_h).exp().tolist(), strict=True))
    assert one.descendants == pytest.approx([wanted[int(k)] for k in one.sources], rel=1e-4)
    assert (one.targets >= 30).all()
    assert one.descendants.sum() == pytest.approx(45, rel=1e-4)
