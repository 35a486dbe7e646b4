"""A law beside the truth: closed forms, invariance, and what plans say of a motion that is known."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from anndata import AnnData
from scipy import sparse

from embryo.core.coupling import Coupling
from embryo.core.errors import SchemaError
from embryo.core.state import State
from embryo.evaluate.time import truth
from embryo.evaluate.time.truth import Answer, Truth
from embryo.fields import Expansion, Rotation


def known(n: int = 50, space: int = 3) -> Truth:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(2 * n, space))
    state = State(*(torch.as_tensor(p, dtype=torch.float32) for p in (x, x[:, :0], x)), torch.zeros(2 * n))
    return Truth(np.repeat([0.0, 2.0], n), state, rng.normal(size=(2 * n, space)), rng.normal(size=2 * n))


def only(answer: Answer, t: Truth) -> dict[str, float]:
    return {name: value for name, (value, _) in truth.scores(answer, t).items()}


def test_the_truth_itself_is_perfect_and_its_opposite_the_worst() -> None:
    t = known()
    best = only(Answer(t.dx, t.growth), t)
    worst = only(Answer(-t.dx, -t.growth), t)
    for name in best:
        assert best[name] == pytest.approx(0.0 if "error" in name else 1.0, abs=1e-9)
        if "error" not in name:
            assert worst[name] == pytest.approx(-1.0)
    assert worst["velocity error"] == pytest.approx(2.0)


def test_cosines_against_numpy_and_length_does_not_matter() -> None:
    t = known()
    p = np.random.default_rng(1).normal(size=t.dx.shape)
    expected = [a @ b / np.linalg.norm(a) / np.linalg.norm(b) for a, b in zip(p, t.dx, strict=True)]
    found = only(Answer(3 * p, t.growth), t)
    assert found["velocity cosine"] == pytest.approx(np.mean(expected))
    assert found["velocity cosine, pooled"] == pytest.approx(np.corrcoef(p.ravel(), t.dx.ravel())[0, 1], abs=0.02)
    assert found["growth error"] == pytest.approx(0)


@pytest.mark.parametrize("space", [2, 3])
def test_a_turn_of_the_slide_is_forgiven_only_where_it_is_said(space: int) -> None:
    t = known(space=space)
    x = t.states.x.double().numpy()
    turn = np.zeros((space, space))
    turn[0, 1], turn[1, 0] = 1.5, -1.5
    turned = Answer(t.dx + x @ turn + 4.0, t.growth)
    found = only(turned, t)
    assert found["velocity cosine"] < 0.6
    assert found["velocity cosine but for rigid motion"] == pytest.approx(1.0)
    assert found["velocity error but for rigid motion"] == pytest.approx(0.0, abs=1e-6)


def test_a_rotation_is_rigid_and_an_expansion_is_not() -> None:
    t = known()
    rigid = truth.asked(Rotation((0.3, -1.0, 0.2), (1.0, 0.0, 0.0)), t)
    swelling = truth.asked(Expansion(0.5), t)
    x, slides = t.states.x.double().numpy(), truth._slides(t.times_h)
    np.testing.assert_allclose(truth._deformation(x, rigid.dx, slides), 0, atol=1e-6)
    centred = np.concatenate([0.5 * (x[r] - x[r].mean(axis=0)) for _, r in slides])
    np.testing.assert_allclose(truth._deformation(x, swelling.dx, slides), centred, atol=1e-6)
    np.testing.assert_allclose(swelling.growth, 1.5)


def test_what_an_exact_plan_says_of_a_known_motion() -> None:
    rng = np.random.default_rng(0)
    early, step = rng.normal(size=(30, 2)), np.array([2.0, -1.0])
    x = np.concatenate([early, early + step])
    state = State(*(torch.as_tensor(p, dtype=torch.float32) for p in (x, x[:, :0], x)), torch.zeros(60))
    t = Truth(np.repeat([0.0, 2.0], 30), state, np.tile(step / 2, (60, 1)), np.zeros(60))
    rows = np.arange(60)
    plan = sparse.csr_array(sparse.eye_array(30))
    answer = truth.displaced([Coupling(0.0, 2.0, plan, rows[:30], rows[30:])], t)
    np.testing.assert_allclose(answer.dx, t.dx, atol=1e-6)
    np.testing.assert_allclose(answer.growth, np.repeat([0.0, np.nan], 30))


def test_types_grow_by_their_numbers() -> None:
    t = known(60)
    labels = ["a"] * 20 + ["b"] * 40 + ["a"] * 40 + ["b"] * 20
    answer = truth.by_type(t, labels)
    expected = np.where(np.array(labels) == "a", np.log(2) / 2, -np.log(2) / 2)
    np.testing.assert_allclose(answer.growth, expected)
    assert "velocity cosine" not in truth.scores(answer, t)


def test_rows_have_a_value_per_seed() -> None:
    t = known()
    answers = {
        "ours": ("ours", [Answer(t.dx, t.growth), Answer(-t.dx, t.growth)]),
        "plan": ("floor", [Answer(t.dx, t.growth)]),
    }
    rows = {(r["model"], r["metric"]): r for r in truth.rows("board", t, answers)}
    assert rows["ours", "velocity cosine"]["value"] == pytest.approx(0)
    assert rows["ours", "velocity cosine"]["n_seeds"] == 2
    assert rows["plan", "growth correlation"]["role"] == "floor"


def test_a_simulation_that_does_not_tell_is_refused() -> None:
    with pytest.raises(SchemaError, match="spatial_velocity"):
        Truth.of(AnnData(shape=(3, 0)))


@pytest.mark.real
def test_the_simulation_moves_as_it_says(real: Callable[..., AnnData]) -> None:
    """Cells of heart2duck keep their velocity: carried by it they lie on cells of the later slides."""
    adata = real("stvcr-heart2duck")
    x, v, t = adata.obsm["spatial_gt"], adata.obsm["spatial_velocity"], adata.obs["time"].to_numpy()
    there = x[t == 0] + 0.5 * v[t == 0]
    apart = np.linalg.norm(x[t == 0.5][:, None] - there, axis=-1).min(axis=1)
    assert np.median(apart) < 0.001
