import numpy as np
import pytest

from embryo.evaluate.time import ceilings
from embryo.evaluate.time.scores import ENERGY, NUMBER, TRANSPORTS


@pytest.fixture
def square(make_state, make_series):
    """A stage of 400 cells, uniform in a square, of four embryos that are alike."""
    z = np.random.default_rng(0).uniform(size=(400, 2))
    training = make_series({0.0: make_state(z[:50])})
    groups = np.repeat(np.array(list("abcd"), dtype=object), 100)
    return training, make_series({1.0: make_state(z, total=100)}, counts_grow=True, groups=[groups])


def test_halves_are_at_zero_energy_and_say_their_size(square) -> None:
    found = list(ceilings.halves(*square, cells=3000, transport=1000))
    by_metric = {(metric, name.split(",")[0]): value for metric, name, value in found}
    energy = by_metric[ENERGY, "half against half of the truth (200 against 200 cells)"]
    assert energy.n == ceilings.splits(400) == 20
    assert (ceilings.splits(40), ceilings.splits(100_000)) == (20, 4)
    assert abs(energy.value) < 0.01
    assert NUMBER not in {metric for metric, _ in by_metric}


def test_the_floor_of_transport_is_carried_on_to_the_full_number(square, make_state, make_series) -> None:
    """Two samples of 400: what the estimate from halves and quarters of one sample is held against."""
    rng = np.random.default_rng(1)
    training, held = square
    carried = {m: v for m, name, v in ceilings.halves(training, held, cells=3000, transport=1000) if "carried" in name}
    assert set(carried) == set(TRANSPORTS)
    true = []
    for _ in range(10):
        one, other = (make_series({1.0: make_state(rng.uniform(size=(400, 2)))}) for _ in range(2))
        yard = ceilings.Yardstick(training, one)
        true.append(yard.transports(ceilings.Cloud.of(other.states[0], "other"))[TRANSPORTS[0]].value)
    assert carried[TRANSPORTS[0]].value == pytest.approx(np.mean(true), rel=0.15)


def test_small_limits_need_no_estimate(square) -> None:
    names = {name for metric, name, _ in ceilings.halves(*square, cells=100, transport=60) if metric in TRANSPORTS}
    assert names == {"half against half of the truth (60 against 60 cells)"}


def test_embryos_that_differ_lie_above_their_cells(make_state, make_series, square) -> None:
    rng = np.random.default_rng(0)
    member = np.repeat(np.arange(6), 40)
    z = rng.normal(size=(240, 2)) + rng.normal(0, 1.5, (6, 2))[member]
    held = make_series({1.0: make_state(z)}, groups=[member.astype(str).astype(object)])
    cells = {m: v.value for m, _, v in ceilings.halves(square[0], held, cells=3000, transport=1000)}
    embryos = {m: v.value for m, _, v in ceilings.embryos(square[0], held, cells=3000, transport=1000)}
    assert embryos[ENERGY] > cells[ENERGY] + 0.05
    (name,) = {n for _, n, _ in ceilings.embryos(square[0], held, cells=3000, transport=1000)}
    assert name == "half of 6 embryos against the other half"
    one = make_series({1.0: make_state(z)})
    assert list(ceilings.embryos(square[0], one, cells=3000, transport=1000)) == []
