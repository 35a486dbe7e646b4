import numpy as np
import pytest
import torch

from embryo import measure
from embryo.core.state import State
from embryo.evaluate.time import inner
from embryo.evaluate.time.predictor import Predictor


@pytest.fixture
def line(make_state, make_series, rng):
    """Six stages of 60 cells that drift along the first axis."""
    return make_series({float(t): make_state(rng.normal([t, 0], 1, (60, 2))) for t in (0, 1, 2, 4, 5, 6)})


def test_between_stages_every_inner_stage_is_held_out_once(line) -> None:
    folds = inner.folds(line, 3.0)
    assert [f.t_h for f in folds] == [1.0, 2.0, 4.0, 5.0]
    assert [f.gap_h for f in folds] == [2.0, 3.0, 3.0, 2.0]
    assert all(f.training.index(f.t_h) is None for f in folds)
    assert all(len(f.training) == len(line) - 1 for f in folds)


def test_after_the_last_stage_nothing_later_is_seen(line) -> None:
    folds = inner.folds(line, 8.0)
    assert [f.t_h for f in folds] == [2.0, 4.0, 5.0, 6.0]
    assert all(f.training.times_h[-1] < f.t_h for f in folds)


def test_at_a_stage_halves_predict_each_other_and_share_no_cell(line) -> None:
    one, two = inner.folds(line, 6.0)
    seen = {tuple(row) for row in one.training.at(6.0).z.tolist()}
    asked = {tuple(row) for row in one.truth.z.tolist()}
    assert not seen & asked
    assert len(seen | asked) == 60
    assert asked == {tuple(row) for row in two.training.at(6.0).z.tolist()}
    assert float(one.training.at(6.0).mass.sum()) == pytest.approx(1.0)


def test_before_the_first_stage_there_is_no_fold(line) -> None:
    assert inner.folds(line, -1.0) == ()


def test_the_diagonal_is_the_energy_distance_and_a_mixture_a_quadratic_form(make_state, make_series, rng) -> None:
    """Against `embryo.measure`, which is held against scipy; for the mixture in the biased form, where it is exact."""
    training = make_series({0.0: make_state(rng.normal(size=(80, 3))), 1.0: make_state(rng.normal(size=(80, 3)))})
    ruler = inner.Ruler.of(training)
    truth = make_state(rng.normal(0.5, 1, (70, 3)))
    clouds = [make_state(rng.normal(k, 1, (50 + k, 3))) for k in range(3)]
    gram = ruler.gram(clouds, truth, 0)
    for cloud, own in zip(clouds, gram.diagonal(), strict=True):
        found = measure.energy_distance(cloud.z.double().numpy(), truth.z.double().numpy()) / ruler.z
        assert own == pytest.approx(found, rel=1e-6)
    w = np.array([0.2, 0.5, 0.3])
    mixed = np.concatenate([c.z.double().numpy() for c in clouds])
    mass = np.concatenate([np.full(len(c), s / len(c)) for s, c in zip(w, clouds, strict=True)])
    found = measure.energy_distance(mixed, truth.z.double().numpy(), mass) / ruler.z
    assert w @ gram @ w == pytest.approx(found, abs=0.02)


def test_state_and_space_are_measured_in_their_own_spreads(make_state, make_series, rng) -> None:
    z, x = rng.normal(size=(40, 2)), rng.normal(size=(40, 3))
    plain = make_series({0.0: make_state(z, x), 1.0: make_state(z + 1, x)})
    large = make_series({0.0: make_state(z, 100 * x), 1.0: make_state(z + 1, 100 * x)})
    one, two = inner.Ruler.of(plain), inner.Ruler.of(large)
    assert one.gram([plain.states[0]], plain.states[1], 0) == pytest.approx(
        two.gram([large.states[0]], large.states[1], 0), rel=1e-4
    )


def test_a_candidate_that_does_not_apply_is_left_out(line) -> None:
    def copy(series, t_h: float, seed: int) -> State | None:
        return series.states[0]

    def never(series, t_h: float, seed: int) -> State | None:
        return None

    fold = inner.folds(line, 3.0)[0]
    applies, missed = inner.misses(fold, [Predictor("never", "ours", never), Predictor("copy", "floor", copy)], (0, 1))
    assert applies.tolist() == [0.0, 1.0]
    assert missed.gram.shape == (1, 1)
    assert missed.gram[0, 0] > 0
    assert 0 < missed.noise < 0.1


def test_a_checksum_knows_every_number(line) -> None:
    assert inner.digest(line) != inner.digest(line.without(0))
    other = line.states[2]
    changed = State(other.z, other.g, other.x, other.log_mass + torch.tensor(1e-3))
    states = (*line.states[:2], changed, *line.states[3:])
    assert inner.digest(line) != inner.digest(type(line)(line.times_h, states, line.labels, line.groups, False))
    assert inner.digest(line) == inner.digest(type(line)(line.times_h, line.states, line.labels, line.groups, False))


def test_what_is_wrong_in_mass_alone_is_missed(make_state, make_series, rng) -> None:
    """Half of the cells here, half 5 away; a prediction with the very cells but nine tenths of the mass on one side.

    Against `embryo.measure` with those masses; without them both would be alike.
    """
    z = np.concatenate([rng.normal(0, 1, (60, 1)), rng.normal(5, 1, (60, 1))])
    truth = make_state(z)
    training = make_series({0.0: truth, 1.0: truth})
    mass = np.repeat([0.9 / 60, 0.1 / 60], 60)
    wrong = State(truth.z, truth.g, truth.x, torch.from_numpy(np.log(mass)).float())
    ruler = inner.Ruler.of(training)
    right, off = ruler.gram([truth, wrong], truth, 0).diagonal()
    z = truth.z.double().numpy()
    assert off == pytest.approx(measure.energy_distance(z, z, mass, np.ones(120)) / ruler.z, rel=1e-5)
    assert off > right + 0.3
