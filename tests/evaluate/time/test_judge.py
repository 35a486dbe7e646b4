import numpy as np
import pytest
import torch

from embryo.core import table
from embryo.core.errors import EmbryoError
from embryo.core.state import State
from embryo.core.table import Interval
from embryo.evaluate.time import FLOORS, Limits, Predictor, judge, require_bounds
from embryo.evaluate.time.judge import _head

LIMITS = Limits(draws=300)


def always(state: State | None, name: str = "ours") -> Predictor:
    return Predictor(name, "ours", lambda series, t_h, seed: state)


@pytest.fixture
def curved(make_state, make_series):
    """(training stages, truth): the stages lie on a line, the truth aside of it, where no floor looks."""
    rng = np.random.default_rng(0)
    stages = {float(t): make_state(rng.normal([3 * t, 0], 1, (120, 2))) for t in (0, 1, 3)}
    return make_series(stages), make_series({2.0: make_state(rng.normal([6, 2.5], 1, (130, 2)))})


def test_the_truth_drawn_again_is_better_than_every_floor(curved, make_state) -> None:
    again = make_state(np.random.default_rng(9).normal([6, 2.5], 1, (140, 2)))
    found = judge("toy", *curved, [always(again)], limits=LIMITS)
    rows = found.table
    assert list(rows.columns[: len(table.COLUMNS)]) == list(table.COLUMNS)
    energy = rows[rows.metric == "energy distance of states"].set_index("model")
    assert set(energy.role) == {"ours", "floor", "ceiling", "difference"}
    assert set(energy.split) == {"t = 2 h, interpolation"}
    floors = energy[energy.role == "floor"]
    assert set(floors.index) == {f.name for f in FLOORS} - {"FGW-assigned"}
    best = floors["value"].idxmin()
    gain = energy.loc[f"ours minus {best}"]
    assert gain["value"] == pytest.approx(floors["value"].min() - energy.loc["ours", "value"])
    assert gain["low"] > 0
    assert gain["verdict"] == f"better than {best}"
    assert energy.loc["random pairs", "n_seeds"] == 5
    assert energy.loc["copy next", "n_seeds"] == 1
    head = "t = 2 h, interpolation: energy distance of states: ours: better than"
    said = [s for s in found.sentences if s.startswith(head)]
    assert len(said) == 1
    assert "95% interval" in said[0]
    assert "t = 2 h, interpolation: FGW-assigned: left out, makes no prediction here." in found.sentences


def test_what_cannot_be_negative_has_no_interval_below_zero(make_series, make_state) -> None:
    """The error of scale of a right prediction is near 0: its interval ends there; that of a loss is below 0."""
    rng = np.random.default_rng(0)

    def body(n: int):
        return make_state(rng.normal(size=(n, 2)), rng.normal(size=(n, 3)))

    training, truth = make_series({float(t): body(40) for t in (0, 1, 3)}), make_series({2.0: body(40)})
    wide = make_state(rng.normal(size=(40, 2)), 2 * rng.normal(size=(40, 3)))
    found = judge("toy", training, truth, [always(body(40)), always(wide, "wide")], limits=LIMITS).table
    scale, gain = found.metric == "error of scale", found.role == "difference"
    assert (found.low[scale & ~gain].dropna() >= 0).all()
    assert (found.low[scale & ~gain] == 0).any()
    assert (found.low[scale & gain & found.model.str.startswith("wide")] < 0).all()
    assert (scale & gain).sum() == 2
    assert (found.low[found.metric == "energy distance of positions"] < 0).any()


def test_a_floor_under_another_name_is_not_better(curved) -> None:
    copies = [Predictor(f"ours, {f.name}", "ours", f.predict, f.random) for f in FLOORS]
    found = judge("toy", *curved, copies, limits=LIMITS).table
    differences = found[(found.role == "difference") & (found.metric == "energy distance of states")]
    assert len(differences) == len(FLOORS) - 1
    assert not differences.verdict.str.startswith("better").any()
    assert (differences.low <= 1e-12).all()


def test_a_gain_that_is_rounding_is_none(curved, make_series, make_state) -> None:
    """Numbers of cells that differ in the seventh digit are the same number; in the third they are not."""
    training, truth = (make_series(dict(zip(s.times_h, s.states, strict=True)), counts_grow=True) for s in curved)
    last = training.states[1]
    said = {}
    for off in (5e-7, 1e-3):
        near = State(last.z, last.g, last.x, last.log_mass + off)
        rows = judge("toy", training, truth, [always(near)], limits=LIMITS).table
        row = rows[(rows.role == "difference") & (rows.metric == "error of cell number")].iloc[0]
        assert 0 < abs(row["value"]) < 1.1 * off + 1e-6
        said[off] = row["verdict"]
    assert said[5e-7].startswith("the same as")
    assert said[1e-3].startswith("not better than")


@pytest.mark.parametrize(
    ("found", "words"),
    [
        ((-4.29e-8, -5.33e-8, -2.6e-8), "the same as"),
        ((4e-8, 2e-8, 5e-8), "the same as"),
        ((0.0, np.nan, np.nan), "the same as"),
        ((0.5, np.nan, np.nan), "not better than"),
        ((5e-5, 5e-7, 1e-4), "not better than"),
        ((-5e-5, -1e-4, -5e-7), "not better than"),
        ((0.2, 0.1, 0.3), "better than"),
        ((-0.2, -0.3, -0.1), "worse than"),
    ],
)
def test_words_stand_for_more_than_rounding(found: tuple[float, float, float], words: str) -> None:
    assert _head(Interval(*found, 5), 1e-6) == words


def test_seeds_reach_random_predictors_alone(curved, make_state) -> None:
    asked: dict[str, list[int]] = {"fixed": [], "drawn": []}

    def predict(name):
        def run(series, t_h, seed):
            asked[name].append(seed)
            return make_state(np.random.default_rng(seed).normal([6, 2.5], 1, (100, 2)))

        return run

    mine = [Predictor("fixed", "ours", predict("fixed")), Predictor("drawn", "ours", predict("drawn"), random=True)]
    found = judge("toy", *curved, mine, seeds=(3, 4, 7), limits=LIMITS).table
    assert asked == {"fixed": [3], "drawn": [3, 4, 7]}
    assert set(found[found.model == "drawn"].n_seeds) == {3}


def test_what_predicts_nothing_is_left_out_and_said(curved) -> None:
    found = judge("toy", *curved, [always(None)], split="mine", limits=LIMITS)
    assert "ours" not in set(found.table.model)
    assert "mine: ours: left out, makes no prediction here." in found.sentences


def test_the_same_call_gives_the_same_table(curved) -> None:
    one, again = (judge("toy", *curved, [], limits=LIMITS).table for _ in range(2))
    assert one.equals(again)


def test_extrapolation_has_the_floors_that_can(curved, make_series) -> None:
    training, truth = curved
    held = training.without(2)
    found = judge("toy", held, truth, [], limits=LIMITS).table
    assert set(found.split) == {"t = 2 h, extrapolation"}
    floors = set(found[found.role == "floor"].model)
    assert floors == {"copy previous", "nearest", "mean shift", "RMS growth", "affine growth"}


def test_embryos_are_the_unit_where_there_are_several(curved, make_series) -> None:
    training, truth = curved
    groups = [np.repeat(np.array(["a", "b", "c"], dtype=object), [40, 45, 45])]
    several = make_series({2.0: truth.states[0]}, groups=groups)
    wide, narrow = (judge("toy", training, t, [], limits=LIMITS).table for t in (several, truth))
    assert "half of 3 embryos against the other half" in set(wide[wide.role == "repeat"].model)
    assert "repeat" not in set(narrow.role)
    widths = [
        float((t.high - t.low)[(t.metric == "W1") & (t.model == "McCann midpoint")].iloc[0]) for t in (wide, narrow)
    ]
    assert widths[0] != pytest.approx(widths[1], rel=0.05)


def test_what_cannot_be_judged_is_refused_at_once(curved, make_series) -> None:
    training, truth = curved
    with pytest.raises(EmbryoError, match="3 true stages") as caught:
        judge("toy", training, training, [FLOORS[0]], floors=[], seeds=(0,))
    assert len(caught.value.problems) == 1
    with pytest.raises(EmbryoError, match="no floor"):
        judge("toy", training, truth, [always(None)], floors=[])
    with pytest.raises(EmbryoError, match="one name"):
        judge("toy", training, truth, [always(None, "union")])
    with pytest.raises(EmbryoError, match="two or more"):
        judge("toy", training, truth, [], seeds=(0,))
    broken = always(State(torch.full((2, 2), torch.nan), torch.zeros(2, 1), torch.zeros(2, 0), torch.zeros(2)), "wild")
    with pytest.raises(EmbryoError, match="wild at 2 h"):
        judge("toy", training, truth, [broken])


def test_a_model_never_stands_alone(curved) -> None:
    rows = judge("toy", *curved, [always(curved[0].states[0])], limits=LIMITS).table
    require_bounds(rows)
    with pytest.raises(EmbryoError, match="without a floor"):
        require_bounds(rows[rows.role != "floor"])
    with pytest.raises(EmbryoError, match="no ceiling"):
        require_bounds(rows[rows.role != "ceiling"])


@pytest.mark.real
def test_the_guides_numbers_of_embryoid_bodies() -> None:
    """550 cells a day, 5 components in the units of the published protocol: floors measured outside of this package."""
    datasets = pytest.importorskip("embryo.datasets")
    from embryo.core.errors import DataError  # noqa: PLC0415
    from embryo.evaluate.time import Series  # noqa: PLC0415

    try:
        adata = datasets.load("embryoid-body")
    except DataError as error:
        pytest.skip(f"no mirror or cache holds the cells: {error}")
    centre, spread = np.array([52.146, 0.349, -0.029, 0.083, 0.132]), np.array([2.614, 6.394, 4.657, 4.569, 3.394])
    adata.obsm["X_embed"] = (np.asarray(adata.obsm["X_pca"], dtype=float)[:, :5] - centre) / spread
    series = Series.of(adata, counts_grow=False)
    truth = Series(*((part[1],) for part in (series.times_h, series.states, series.labels, series.groups)), False)
    rows = judge("EB", series.without(1), truth, [], seeds=(0, 1), limits=LIMITS).table.set_index(["metric", "model"])
    energy, w1 = "energy distance of states", "W1"
    published = {
        (energy, "copy previous"): 1.051, (energy, "copy next"): 0.555, (energy, "McCann midpoint"): 0.160,
        (w1, "copy previous"): 1.632, (w1, "copy next"): 1.423, (w1, "union"): 1.243, (w1, "McCann midpoint"): 0.851,
    }  # fmt: skip
    for place, value in published.items():
        assert rows.loc[place, "value"] == pytest.approx(value, abs=0.001), place
    assert rows.loc[(w1, "half against half of the truth (275 against 275 cells)"), "value"] == pytest.approx(
        0.582, abs=0.03
    )
