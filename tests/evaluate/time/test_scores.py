import numpy as np
import ot
import pytest
from common.core_metrics import mmd_unbiased
from common.shape_metrics import scale_log_ratio
from scipy.spatial.distance import cdist

from embryo import measure
from embryo.core.errors import SchemaError
from embryo.evaluate.ledger import Metric
from embryo.evaluate.time.clouds import Cloud, spread
from embryo.evaluate.time.form import D2, HAND, MARGIN, OVERLAP, SCALE
from embryo.evaluate.time.scores import (
    ENERGY,
    ENERGY_JOINT,
    ENERGY_X,
    MMD,
    NUMBER,
    SURROUNDINGS,
    TRANSPORTS,
    TYPES,
    Yardstick,
)


@pytest.fixture
def body(make_state, make_series, helix):
    """(training, truth, cloud of a prediction) in space with types; the prediction is another draw of the truth."""
    early, truth, other = helix(150, 0, 0.8), helix(160, 1), helix(170, 2)
    groups = [np.repeat(["a", "b"], 75).astype(object)]
    training = make_series(
        {0.0: make_state(early[0], early[1], total=100)}, counts_grow=True, labels=[early[2]], groups=groups
    )
    groups = [np.repeat(["c", "d"], [100, 60]).astype(object)]
    held = make_series(
        {1.0: make_state(truth[0], truth[1], total=80)}, counts_grow=True, labels=[truth[2]], groups=groups
    )
    return training, held, Cloud(other[0], other[1], np.full(170, 80 / 170))


def test_all_scores_apply_in_space(body) -> None:
    scores = Yardstick(*body[:2]).score(body[2])
    assert set(scores) == {
        ENERGY, ENERGY_JOINT, ENERGY_X, MMD, NUMBER, SURROUNDINGS, TYPES, D2, SCALE, OVERLAP, MARGIN, HAND, *TRANSPORTS,
    }  # fmt: skip
    assert next(iter(scores)) == ENERGY
    for metric, score in scores.items():
        assert np.isfinite(score.value), metric
        assert score.influence is not None, metric
        assert score.influence.shape == (160,), metric
        assert score.influence.mean() == pytest.approx(0, abs=1e-9), metric


def test_each_score_is_that_of_its_oracle(body) -> None:
    training, held, p = body
    t = held.states[0]
    tz, tx = t.z.double().numpy(), t.x.double().numpy()
    scores = {metric: score.value for metric, score in Yardstick(training, held).score(p).items()}
    assert scores[ENERGY] == pytest.approx(measure.energy_distance(p.z, tz), rel=1e-9)
    assert scores[ENERGY_X] == pytest.approx(measure.energy_distance(p.x, tx), rel=1e-9)
    sz, sx = (spread([np.asarray(part.double())]) for part in (training.states[0].z, training.states[0].x))
    joint = [np.hstack([z / sz, x / sx]) for z, x in ((p.z, p.x), (tz, tx))]
    assert scores[ENERGY_JOINT] == pytest.approx(measure.energy_distance(*joint), rel=1e-9)
    assert scores[MMD] == pytest.approx(mmd_unbiased(p.z, tz), rel=1e-5, abs=1e-7)
    assert scores[SCALE] == pytest.approx(abs(scale_log_ratio(p.x, tx)), rel=1e-6)
    around = [measure.surroundings(x, z) for z, x in ((p.z, p.x), (tz, tx))]
    assert scores[SURROUNDINGS] == pytest.approx(mmd_unbiased(*around), rel=1e-4, abs=1e-6)
    for order, metric in ((1, TRANSPORTS[0]), (2, TRANSPORTS[2])):
        exact = ot.emd2([], [], cdist(p.z, tz) ** order) ** (1 / order)
        assert scores[metric] == pytest.approx(exact, rel=1e-6)
    assert scores[NUMBER] == pytest.approx(0, abs=1e-6)


def test_masses_count_and_every_particle_once_does_not(body) -> None:
    yard = Yardstick(*body[:2])
    p = body[2]
    half = p.z[:, 0] > 0
    heavy = Cloud(p.z, p.x, np.where(half, 9.0, 1.0))
    copied = np.repeat(np.arange(len(p)), np.where(half, 9, 1))
    scores, spelled_out, plain = (yard.score(c) for c in (heavy, Cloud(*(v[copied] for v in (p.z, p.x, p.mass))), p))
    assert scores[TRANSPORTS[0]].value == pytest.approx(spelled_out[TRANSPORTS[0]].value, rel=1e-4)
    assert scores[TRANSPORTS[1]].value == pytest.approx(plain[TRANSPORTS[1]].value, rel=1e-9)
    assert scores[NUMBER].value == pytest.approx(np.log(heavy.mass.sum() / 80), rel=1e-5)
    assert scores[ENERGY].value > 0.05 > plain[ENERGY].value


def test_a_mirrored_prediction_is_caught(body) -> None:
    yard = Yardstick(*body[:2])
    right = {m: s.value for m, s in yard.score(body[2]).items()}
    mirror = Cloud(body[2].z, body[2].x * [1, 1, -1], body[2].mass)
    wrong = {m: s.value for m, s in yard.score(mirror).items()}
    assert right[MARGIN] > 0.01
    assert wrong[MARGIN] < -0.01
    assert wrong[HAND] > right[HAND] + 0.2
    assert wrong[D2] == pytest.approx(right[D2], abs=1e-9)  # blind to it, as it says


def test_types_missing_from_a_prediction_cost(body) -> None:
    yard = Yardstick(*body[:2])
    whole = yard.score(body[2])[TYPES]
    z, x, mass = body[2].z, body[2].x, body[2].mass
    kept = z[:, 0] < 0.4
    assert yard.score(Cloud(z[kept], x[kept], mass[kept]))[TYPES].value > 1.5 * whole.value


def test_large_clouds_are_thinned_and_say_nothing_else(body) -> None:
    full, thin = (Yardstick(*body[:2], max_cells=c, max_transport=m) for c, m in ((3000, 1000), (120, 60)))
    scores, fewer = full.score(body[2]), thin.score(body[2])
    assert len(thin.held.cells) == 120
    assert set(scores) == set(fewer)
    assert fewer[ENERGY].value == pytest.approx(scores[ENERGY].value, abs=0.05)
    assert fewer[TRANSPORTS[0]].influence.shape == (120,)
    assert (fewer[TRANSPORTS[0]].influence != 0).sum() <= 60


def test_without_space_types_or_numbers_less_is_scored(make_state, make_series) -> None:
    z = np.random.default_rng(0).normal(size=(40, 2))
    training, held = make_series({0.0: make_state(z)}), make_series({1.0: make_state(z + 1)})
    scores = Yardstick(training, held).score(Cloud.of(held.states[0], "copy"))
    assert set(scores) == {ENERGY, MMD, *TRANSPORTS}
    assert scores[Metric("W1", "z", "lower", least=0.0)].value == pytest.approx(0, abs=1e-6)


def test_a_prediction_that_left_the_numbers_is_refused(make_state) -> None:
    with pytest.raises(SchemaError, match=r"ours at 1 h.*finite"):
        Cloud.of(make_state(np.full((3, 2), np.nan)), "ours at 1 h")
