from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.stats import energy_distance

from embryo import fit, simulate
from embryo.core.errors import DivergedError, SchemaError
from embryo.core.state import State
from embryo.fields.flow import FlowNetwork

FAST = fit.Matching(steps=250, batch=200, width=32, learning_rate=1e-2)


def state(z: np.ndarray, total: float = 1.0, x: np.ndarray | None = None) -> State:
    n = len(z)
    x = np.zeros((n, 0)) if x is None else x
    return State(
        torch.tensor(z, dtype=torch.float32),
        torch.zeros(n, 0),
        torch.tensor(x, dtype=torch.float32),
        torch.full((n,), float(np.log(total / n))),
    )


def rolled(field: FlowNetwork, start: State, t0: float, t1: float) -> State:
    return simulate.forward(field, start, (t0, t1), step_h=(t1 - t0) / 20).at(-1)


def test_an_autonomous_law_is_found_from_its_marginals(rng: np.random.Generator) -> None:
    """dz/dt = -z, seen at 0, 0.5 and 2 h: at 1 h it must be nearer to the truth than half of the straight way is."""

    def at(t: float) -> np.ndarray:
        return np.asarray(rng.normal(4, 1, (300, 1)) * np.exp(-t))

    field = fit.match((0.0, 0.5, 2.0), [state(at(t)) for t in (0.0, 0.5, 2.0)], FAST)
    start = at(0.5)
    end = rolled(field, state(start), 0.5, 1.0).z.numpy()[:, 0]
    truth = start[:, 0] * np.exp(-0.5)
    straight = start[:, 0] * (2 + np.exp(-1.5)) / 3
    assert energy_distance(end, truth) < 0.5 * energy_distance(straight, truth)
    assert np.abs(end - truth).mean() < 0.2


def test_growth_makes_the_numbers_and_the_composition(rng: np.random.Generator) -> None:
    """Two clusters at rest, one of which triples: it must be growth, and the total must come out."""
    place = np.array([[-3.0, 0.0], [3.0, 0.0]])
    early = place[np.repeat([0, 1], [100, 100])] + 0.3 * rng.normal(size=(200, 2))
    late = place[np.repeat([0, 1], [100, 300])] + 0.3 * rng.normal(size=(400, 2))
    field = fit.match((0.0, 2.0), (state(early, 200.0), state(late, 400.0)), replace(FAST, length=0.05))
    end = rolled(field, state(early, 200.0), 0.0, 2.0)
    right = early[:, 0] > 0
    assert float(end.mass.sum()) == pytest.approx(400, rel=0.1)
    assert float(end.mass[torch.tensor(right)].sum()) == pytest.approx(300, rel=0.15)


def test_where_numbers_do_not_grow_only_the_composition_changes(rng: np.random.Generator) -> None:
    place = np.array([[-3.0], [3.0]])
    early = place[np.repeat([0, 1], [150, 50])] + 0.3 * rng.normal(size=(200, 1))
    late = place[np.repeat([0, 1], [50, 150])] + 0.3 * rng.normal(size=(200, 1))
    field = fit.match((0.0, 1.0), (state(early), state(late)), replace(FAST, length=0.05))
    end = rolled(field, state(early), 0.0, 1.0)
    assert float(end.mass.sum()) == pytest.approx(1, rel=0.1)
    assert float((end.mass @ (end.z[:, 0] > 0).float()) / end.mass.sum()) == pytest.approx(0.75, abs=0.1)


def test_space_moves_together_with_state(rng: np.random.Generator) -> None:
    """Cells of high z go right, those of low z left, in µm; the scale of x must not matter."""
    z = rng.normal(0, 1, (300, 1))
    x = 100 * rng.normal(0, 1, (300, 2))
    late_z = rng.normal(0, 1, (300, 1))
    late_x = 100 * rng.normal(0, 1, (300, 2)) + 300 * np.sign(late_z) * np.array([[1.0, 0.0]])
    field = fit.match((0.0, 1.0), (state(z, 1.0, x), state(late_z, 1.0, late_x)), FAST)
    end = rolled(field, state(z, 1.0, x), 0.0, 1.0)
    moved = (end.x[:, 0] - torch.tensor(x[:, 0])).numpy()
    assert moved[z[:, 0] > 0.5].mean() > 150
    assert moved[z[:, 0] < -0.5].mean() < -150


def test_what_is_not_matched_stands_still(rng: np.random.Generator) -> None:
    z, g = rng.normal(size=(50, 2)), rng.random((50, 3))
    early = State(*(torch.tensor(p, dtype=torch.float32) for p in (z, g, np.zeros((50, 0)), np.zeros(50))))
    late = State(early.z + 1, early.g + 1, early.x, early.log_mass)
    field = fit.match((0.0, 1.0), (early, late), replace(FAST, steps=20))
    assert torch.equal(rolled(field, early, 0.0, 1.0).g, early.g)


def test_the_same_seed_gives_the_same_field(rng: np.random.Generator) -> None:
    stages = tuple(state(rng.normal(k, 1, (40, 2))) for k in range(3))
    few = replace(FAST, steps=10)
    one, two, other = (
        fit.match((0.0, 1.0, 2.0), stages, replace(few, seed=seed)).state_dict()["trunk.0.weight"] for seed in (1, 1, 2)
    )
    assert torch.equal(one, two)
    assert not torch.equal(one, other)


def test_the_unit_of_time_and_of_states_does_not_matter(rng: np.random.Generator) -> None:
    z = [rng.normal(k, 1, (60, 2)) for k in range(3)]
    few = replace(FAST, steps=30)
    plain = rolled(fit.match((0.0, 1.0, 2.0), [state(p) for p in z], few), state(z[0]), 0.0, 2.0).z
    large = [state(1000 * p) for p in z]
    scaled = rolled(fit.match((0.0, 24.0, 48.0), large, few), large[0], 0.0, 48.0).z
    assert torch.allclose(plain, scaled / 1000, atol=2e-3)


def test_progress_is_told(rng: np.random.Generator) -> None:
    told: list[tuple[int, int, float]] = []
    stages = (state(rng.normal(size=(30, 1))), state(rng.normal(size=(30, 1))))
    fit.match((0.0, 1.0), stages, replace(FAST, steps=10), progress=lambda *what: told.append(what))
    assert [step for step, _, _ in told] == list(range(1, 11))


def test_a_broken_series_is_refused_and_numbers_that_are_not_finite_are_named(rng: np.random.Generator) -> None:
    one = state(rng.normal(size=(10, 2)))
    with pytest.raises(SchemaError, match="rising times"):
        fit.match((1.0, 1.0), (one, one), FAST)
    with pytest.raises(SchemaError, match="two or more"):
        fit.match((1.0,), (one,), FAST)
    lost = State(one.z * float("nan"), one.g, one.x, one.log_mass)
    with pytest.raises(DivergedError, match="step 1"):
        fit.match((0.0, 1.0), (one, lost), replace(FAST, steps=10))
