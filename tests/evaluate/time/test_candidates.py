import numpy as np
import pytest
import torch

from embryo import datasets, fit, measure
from embryo.core.errors import DataError
from embryo.core.state import State
from embryo.evaluate.time import candidates, floors, pairs
from embryo.evaluate.time.series import Series
from embryo.fields import Linear

FAST = fit.Matching(steps=5, batch=30, width=8)


@pytest.fixture
def line(make_state, make_series, rng):
    return make_series({float(t): make_state(rng.normal([t, 0], 1, (60, 2))) for t in (0, 1, 3, 4)})


def decay(series: Series, seed: int) -> Linear:
    return Linear(-torch.eye(2), torch.zeros(0, 0))


def test_a_field_is_rolled_from_the_stage_before_and_from_the_first(line) -> None:
    near, far = candidates.rolled("decay", decay, candidates.Fields())
    assert torch.allclose(near.predict(line, 2.0, 0).z, line.at(1.0).z * np.exp(-1), atol=1e-4)
    assert torch.allclose(far.predict(line, 2.0, 0).z, line.at(0.0).z * np.exp(-2), atol=1e-4)


def test_a_stage_of_the_very_time_is_rolled_to_not_copied(line) -> None:
    near, _ = candidates.rolled("decay", decay, candidates.Fields())
    assert torch.allclose(near.predict(line, 3.0, 0).z, line.at(1.0).z * np.exp(-2), atol=1e-4)


def test_nothing_is_rolled_back_or_fitted_to_one_stage(line) -> None:
    for predictor in candidates.rolled("decay", decay, candidates.Fields()):
        assert predictor.predict(line, -1.0, 0) is None
        assert predictor.predict(line.without(0).without(0).without(0), 5.0, 0) is None


def test_a_law_that_runs_away_makes_no_prediction(line) -> None:
    """Cells fly apart at a rate of 1000 per hour: no 32-bit number holds where they end."""
    near, _ = candidates.rolled("wild", lambda series, seed: Linear(1000 * torch.eye(2), torch.zeros(0, 0)),
                                candidates.Fields())  # fmt: skip
    assert near.predict(line, 3.5, 0) is None


def test_a_fit_is_made_once_per_series_and_seed(line) -> None:
    made: list[tuple[int, int]] = []

    def counted(series: Series, seed: int) -> Linear:
        made.append((len(series), seed))
        return decay(series, seed)

    near, far = candidates.rolled("counted", counted, candidates.Fields())
    near.predict(line, 2.0, 0), far.predict(line, 2.0, 0), near.predict(line, 3.5, 0)
    near.predict(line.without(1), 2.0, 0), near.predict(line, 2.0, 1)
    assert made == [(4, 0), (3, 0), (4, 1)]


def test_a_law_says_how_badly_it_explains_its_stages(make_state, make_series, rng) -> None:
    z = rng.normal(4, 1, (300, 2))
    series = make_series({t: make_state(z * np.exp(-t)) for t in (0.0, 0.5, 2.0)})
    still = make_series({t: make_state(z + 3 * t) for t in (0.0, 0.5, 2.0)})
    fields = candidates.Fields()
    law, _ = candidates.lawful("law", FAST, fields)
    for s in (series, still):
        fields.get("law", decay, s, 0)
    assert abs(law.misfit(series, 0)) < 0.01
    assert law.misfit(still, 0) > 0.3


def test_flow_matching_gets_pairs_whose_descendants_are_the_growth(make_state, make_series, rng) -> None:
    """Two far clusters, one of which doubles while the other keeps its number; 100 cells become 150."""
    place = np.array([[-9.0, 0.0], [9.0, 0.0]])
    early = place[np.repeat([0, 1], [50, 50])] + 0.1 * rng.normal(size=(100, 2))
    late = place[np.repeat([0, 1], [50, 100])] + 0.1 * rng.normal(size=(150, 2))
    series = make_series({0.0: make_state(early, total=100.0), 2.0: make_state(late, total=150.0)}, counts_grow=True)
    found = candidates._coupled(series)
    assert float(found.weight.sum()) == pytest.approx(1, rel=1e-4)
    source = found.states.z[found.source][:, 0]
    assert (source.sign() == found.states.z[found.target][:, 0].sign()).all()
    descendants = (found.growth * found.dt_h).exp()
    assert float(descendants[source > 0].mean()) > 1.6
    assert float(descendants[source < 0].mean()) < 1.4
    one = torch.zeros(100).index_put_((found.source,), descendants)
    assert float(one.sum()) == pytest.approx(150, rel=1e-3)


def test_at_an_even_pace_it_is_the_midpoint_and_at_its_own_pace_it_is_spread(line) -> None:
    even = candidates.interpolant("even", pairs.balanced, None).predict(line, 2.0, 0)
    assert torch.allclose(even.z.mean(0), floors.mccann(line, 2.0).z.mean(0), atol=0.1)
    own = candidates.interpolant("own", pairs.balanced, 0.05).predict(line, 2.0, 0)
    assert torch.allclose(own.z.mean(0), even.z.mean(0), atol=0.15)
    assert float(own.z[:, 0].std()) > float(even.z[:, 0].std()) + 0.2
    assert float(own.mass.sum()) == pytest.approx(1.0, rel=1e-4)


def test_pace_keeps_the_mean_share_of_the_way(line) -> None:
    found = candidates.interpolant("own", pairs.balanced, 1.0).predict(line, 1.5, 0)
    want = 0.75 * line.at(1.0).z.mean(0) + 0.25 * line.at(3.0).z.mean(0)
    assert torch.allclose(found.z.mean(0), want, atol=0.12)


def test_interpolants_need_both_sides(line) -> None:
    assert candidates.interpolant("even", pairs.balanced, None).predict(line, 6.0, 0) is None


def test_all_learned_candidates_have_names_of_their_own() -> None:
    made = candidates.learned()
    assert len({c.name for c in made}) == len(made)
    assert all(c.role == "ours" and c.random for c in made)
    assert isinstance(made[0], candidates.Law)


def test_the_law_of_neighbours_is_a_candidate_where_it_is_asked_for() -> None:
    plain, more = ([c.name for c in candidates.learned(neighbours=asked)] for asked in (False, True))
    assert [name for name in more if name not in plain] == [
        f"{candidates.NEIGHBOURS}, from the stage before",
        f"{candidates.NEIGHBOURS}, from the first stage",
    ]
    assert [name for name in more if name in plain] == plain


@pytest.mark.real
def test_matching_beats_every_floor_where_one_law_made_the_data(make_series) -> None:
    """Gene simulation, t = 2: the guide's McCann midpoint has W1 .261; halves of the truth .075."""
    try:
        adata = datasets.load("simulation-no-interact")
    except DataError as missing:
        pytest.skip(str(missing))
    t, z = adata.obs["time"].to_numpy(float), np.asarray(adata.obsm["X_pca"], dtype=np.float32)
    states = {
        float(u): State(torch.from_numpy(z[t == u]), torch.zeros((t == u).sum(), 0), torch.zeros((t == u).sum(), 0),
                        torch.zeros((t == u).sum()))
        for u in np.unique(t)
    }  # fmt: skip
    truth = states.pop(2.0)
    series = make_series(states, counts_grow=True)
    law = candidates.learned()[0]
    found = law.predict(series, 2.0, 0)
    w1 = measure.wasserstein(found.z.double().numpy(), truth.z.double().numpy(), found.mass.double().numpy()).value
    assert w1 < 0.1
    assert float(found.mass.sum()) == pytest.approx(len(truth), rel=0.1)
    assert law.misfit(series, 0) < 0.01
