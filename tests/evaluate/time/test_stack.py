import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import minimize

from embryo.core.state import State
from embryo.evaluate.time import stack
from embryo.evaluate.time.candidates import Law
from embryo.evaluate.time.floors import COPIES, FLOORS
from embryo.evaluate.time.predictor import Predictor


def shifted(name: str, by: float, role: str = "ours") -> Predictor:
    """Predicts the drift of the fixture `line`, off by so much."""

    def predict(series, t_h: float, seed: int) -> State | None:
        first = series.states[0]
        far = torch.tensor([t_h - series.times_h[0] + by, 0.0])
        return State(first.z + far, first.g, first.x, first.log_mass)

    return Predictor(name, role, predict)  # type: ignore[arg-type]


@pytest.fixture
def line(make_state, make_series, rng):
    return make_series({float(t): make_state(rng.normal([t, 0], 1, (200, 2))) for t in (0, 1, 2, 4, 5)})


@given(st.integers(1, 6), st.integers(0, 1000))
def test_the_simplex_programme_is_solved_exactly(n: int, seed: int) -> None:
    """Against scipy's SLSQP from the centre: the programme is convex, so both must reach the same value."""
    root = np.random.default_rng(seed).normal(size=(n + 1, n)) + 0.5
    gram = root.T @ root
    w = stack.simplex(root)
    other = minimize(
        lambda v: v @ gram @ v,
        np.full(n, 1 / n),
        jac=lambda v: 2 * gram @ v,
        bounds=[(0, 1)] * n,
        constraints={"type": "eq", "fun": lambda v: v.sum() - 1},
        method="SLSQP",
        options={"ftol": 1e-12, "maxiter": 500},
    ).x
    assert w.sum() == pytest.approx(1)
    assert (w >= 0).all()
    assert w @ gram @ w <= other @ gram @ other + 1e-7


def test_full_shrinkage_gives_one_over_the_energy_distance() -> None:
    gram = np.array([[0.1, 0.09, 0.0], [0.09, 0.2, 0.0], [0.0, 0.0, 0.4]])
    w = stack.shares(gram, 0.0, np.arange(3), 1.0)
    assert w == pytest.approx(np.array([4, 2, 1]) / 7, rel=1e-4)


def test_opposite_errors_are_mixed(line) -> None:
    """One candidate is too early, one too late by as much, one far off: the mixture is made of the first two."""
    far, early, late = shifted("far", 5.0), shifted("early", -0.8), shifted("late", 0.8)
    choice = stack.stacked([far, early, late])[1].choose(line, 3.0)
    assert choice.shares["early"] == pytest.approx(0.5, abs=0.15)
    assert choice.shares["late"] == pytest.approx(0.5, abs=0.15)
    assert choice.shares.get("far", 0) < 0.1


def test_what_is_right_takes_nearly_all(line) -> None:
    choice = stack.stacked([shifted("right", 0.0), shifted("off", 1.0), shifted("floor", 1.5, "floor")])[1].choose(
        line, 3.0
    )
    assert choice.shares["right"] > 0.85
    assert "right" in choice.sentence


def test_where_nothing_learned_helps_it_is_a_floor_and_says_so(line) -> None:
    made = [shifted("model", 3.0), shifted("floor", 0.0, "floor"), shifted("second floor", 2.0, "floor")]
    choice = stack.stacked(made)[1].choose(line, 3.0)
    assert choice.learned == 0
    assert "nothing learned helped: this is a floor" in choice.sentence


def test_without_a_fold_it_is_the_floor_that_was_named_beforehand(line) -> None:
    few = line.without(4).without(3).without(1)
    made = [shifted("a", 0.0), shifted("b", 9.0, "floor"), shifted("McCann midpoint", 5.0, "floor")]
    choice = stack.stacked(made)[1].choose(few, 1.0)
    assert choice.shares == {"McCann midpoint": 1.0}
    assert choice.learned == 0
    assert "no stage" in choice.sentence
    assert stack.stacked(made[:1])[1].choose(few, 1.0).shares == {"a": 1.0}


def test_a_law_that_explains_all_stages_is_trusted_between_them_only(line) -> None:
    base = shifted("law", 0.6)
    law = Law("law", "ours", base.predict, False, lambda series, seed: 0.004)
    wrong = Law("wrong", "ours", shifted("wrong", 4.0).predict, False, lambda series, seed: 0.4)
    ours, made = stack.stacked([wrong, law, shifted("floor", 0.1, "floor")])
    between, after = made.choose(line, 3.0), made.choose(line, 7.0)
    assert between.shares["law"] >= stack.TRUST
    assert "one law explains all training stages" in between.sentence
    assert after.misfit is None
    assert after.shares.get("law", 0.0) < stack.TRUST
    assert ours.predict(line, 3.0, 0) is not None


def test_one_cloud_takes_part_once(line) -> None:
    """After the last stage the nearest is the one before."""
    copies = [f for f in FLOORS if f.name in COPIES]
    after = stack.stacked([*copies, shifted("late", 0.8)])[1].choose(line, 7.0)
    assert set(after.energies) == {"copy previous", "late"}


@pytest.mark.parametrize(("misfit", "trusted"), [(0.009, True), (0.05, False)])
def test_a_law_is_trusted_up_to_a_hundredth_of_the_spread(line, misfit: float, trusted: bool) -> None:
    base = shifted("law", 0.6)
    law = Law("law", "ours", base.predict, False, lambda series, seed: misfit)
    choice = stack.stacked([law, shifted("floor", 0.1, "floor")])[1].choose(line, 3.0)
    assert (choice.misfit == misfit) is trusted
    assert (choice.shares.get("law", 0.0) >= stack.TRUST) is trusted


def evidence(*folds: list[list[float]], gaps: tuple[float, ...] = (), noise: float = 0.0) -> stack.Evidence:
    grams = np.array(folds)
    return stack.Evidence(grams, np.full(len(grams), noise), np.array(gaps or [1.0] * len(grams)))


def test_half_of_what_candidates_miss_together_is_believed() -> None:
    """Of two candidates with K = [[a, c], [c, b]] the share of the first is (b - c/2) / (a + b - c)."""
    how, w = stack.mixed(evidence([[2.0, 1.0], [1.0, 4.0]]), np.array([False, False]))
    assert how == "a mixture"
    assert w == pytest.approx([3.5 / 5, 1.5 / 5], rel=1e-6)


def test_folds_weigh_as_one_over_their_gap_squared() -> None:
    """Gaps of 1 and 2 hours: 4 to 1. Own misses (1.8, 3.6) then give shares in the ratio of 2 to 1."""
    made = evidence([[1.0, 0.0], [0.0, 4.0]], [[5.0, 0.0], [0.0, 2.0]], gaps=(1.0, 2.0))
    np.testing.assert_allclose(made.mean(), [[1.8, 0.0], [0.0, 3.6]])
    np.testing.assert_allclose(made.mean(without=0), [[5.0, 0.0], [0.0, 2.0]])
    assert stack.mixed(made, np.array([False, False]))[1] == pytest.approx([2 / 3, 1 / 3], rel=1e-6)
    noisy = stack.Evidence(made.grams, np.array([1.0, 2.0]), made.gap_h)
    assert noisy.mean_noise() == pytest.approx(1.2)


def together(*own: float) -> list[list[float]]:
    """K of candidates that miss so much each, and nine tenths of it in one direction."""
    root = np.sqrt(own)
    return (0.1 * np.diag(own) + 0.9 * np.outer(root, root)).tolist()


def test_no_fold_has_a_say_in_what_it_is_predicted_with() -> None:
    """On all folds the third is the best and beats every mixture; but the second fold alone names the second.

    The second misses 6 on the first fold, more than a mixture does: what a fold says of itself is not asked.
    """
    made = evidence(together(3.0, 6.0, 2.0), together(3.0, 1.0, 1.05))
    assert stack.shares(made.mean(), 0.0, np.arange(3), None).tolist() == [0.0, 0.0, 1.0]
    w = stack.shares(made.mean(), 0.0, np.arange(3), stack.SHRINKAGE)
    assert all(w @ gram @ w > gram[2, 2] for gram in made.grams)
    assert stack.mixed(made, np.zeros(3, dtype=bool))[0] == "a mixture"


def test_what_wins_every_fold_from_the_others_stands_alone() -> None:
    made = evidence(together(3.0, 6.0, 2.0), together(3.0, 4.0, 1.05))
    how, w = stack.mixed(made, np.zeros(3, dtype=bool))
    assert how == "the best single candidate"
    assert w.tolist() == [0.0, 0.0, 1.0]


def test_a_mixture_keeps_shares_and_the_mean_number(make_state, rng) -> None:
    one, two = make_state(np.zeros((2500, 1)), total=100.0), make_state(np.ones((2500, 1)), total=400.0)
    found = stack.mixture([(0.25, one), (0.75, two)], 0)
    assert len(found) <= 3001
    assert float(found.mass.double().sum()) == pytest.approx(0.25 * 100 + 0.75 * 400, rel=1e-4)
    assert float((found.mass.double() @ found.z[:, 0].double()) / found.mass.double().sum()) == pytest.approx(
        0.75, rel=1e-4
    )


def test_prediction_is_the_mixture_of_the_choice_and_repeats(line) -> None:
    ours, _ = stack.stacked([shifted("early", -0.8), shifted("late", 0.8)])
    assert (ours.name, ours.role) == ("embryo", "ours")
    a, b = ours.predict(line, 3.0, 1), ours.predict(line, 3.0, 1)
    assert torch.equal(a.z, b.z)
    assert float(a.z[:, 0].double() @ a.mass.double() / a.mass.double().sum()) == pytest.approx(3.0, abs=0.3)


def test_nothing_applies_before_the_first_stage_of_nothing(line) -> None:
    def never(series, t_h: float, seed: int) -> State | None:
        return None

    ours, _ = stack.stacked([Predictor("never", "floor", never)])
    assert ours.predict(line, 3.0, 0) is None
