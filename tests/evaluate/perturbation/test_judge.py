"""The judge: what is right scores 1, no change 0, and sentences claim no more than their intervals."""

from dataclasses import replace

import numpy as np
import pytest

from embryo.core import table
from embryo.core.edit import Edit
from embryo.evaluate.perturbation import (
    EndPopulation,
    Prediction,
    Predictor,
    Trial,
    floors,
    halves,
    judge,
    pooled,
    same_law,
    scoring,
)
from embryo.evaluate.perturbation.judge import ABSTAINS, ALL, ANSWERED, AUROC, FORM
from embryo.evaluate.result import Result


def _judged(trial: Trial, *predictors: Predictor) -> Result:
    return judge(trial, [*predictors, *floors(trial), halves(trial)], seeds=(0, 1, 2), draws=100)


def _value(result: Result, model: str, metric: str, split: str = ALL) -> float:
    t = result.table
    found = t.loc[(t["model"] == model) & (t["metric"] == metric) & (t["split"] == split), "value"]
    assert len(found) == 1, (model, metric)
    return float(found.iloc[0])


@pytest.fixture
def right(trial: Trial) -> Predictor:
    return Predictor("right", "ours", lambda edit, _: trial.truth[edit.label], tier="B")


def test_the_truth_itself_recovers_everything_and_no_change_nothing(trial: Trial, right: Predictor) -> None:
    found = _judged(trial, right)
    for metric in (scoring.RECOVERY, scoring.MAP, scoring.LFC):
        assert _value(found, "right", metric) == pytest.approx(1.0)
        assert _value(found, "no change", metric) == 0.0
    for metric in (scoring.STATES, scoring.PLACES):
        assert _value(found, "right", metric) == pytest.approx(1.0, abs=0.05)
        assert _value(found, "no change", metric) == 0.0
    assert _value(found, "right", scoring.SIZE) == pytest.approx(0.0)
    assert _value(found, "right", AUROC) == pytest.approx(1.0)
    assert _value(found, "no change", AUROC) == pytest.approx(0.5)
    assert _value(found, "right", scoring.RETRIEVAL) == 1.0
    assert _value(found, "no change", scoring.RETRIEVAL) == 0.5
    assert _value(found, "half of the truth against the other", scoring.RECOVERY) > 0.6
    t = found.table
    gains = t.loc[(t["role"] == "difference") & (t["split"] == ALL), "value"]
    assert (gains > -1e-9).all()
    assert (gains > 0.5).any()
    assert any("right: better than" in s for s in found.sentences)


def test_recovery_is_its_formula_and_goes_below_zero(trial: Trial) -> None:
    wrong = Predictor("wrong", "ours", lambda *_: trial.earlier[2.0])
    found = _judged(trial, wrong)
    bench = scoring.Bench(trial)
    shares = [bench.viewer.view(p).shares.mean(axis=0) for p in (trial.earlier[2.0], trial.wild)]
    expected = []
    for label in trial.labels:
        truth = bench.truth[label].shares.mean(axis=0)
        apart = [np.abs(s - truth).sum() / 2 for s in shares]
        expected.append(1 - apart[0] / apart[1])
    assert _value(found, "wrong", scoring.RECOVERY) == pytest.approx(np.mean(expected))
    assert _value(found, "wrong", f"median of {scoring.RECOVERY}") == pytest.approx(np.median(expected))
    assert min(expected) < 0
    assert _value(found, "wrong", scoring.RECOVERY, trial.labels[0]) == pytest.approx(expected[0])


def test_ours_that_says_no_change_is_not_better(trial: Trial) -> None:
    found = _judged(trial, Predictor("timid", "ours", lambda *_: trial.wild))
    said = [s for s in found.sentences if s.startswith(scoring.RECOVERY + ":")]
    assert len(said) == 1
    assert "timid: not better than" in said[0]
    row = found.table[(found.table["role"] == "difference") & (found.table["metric"] == scoring.RECOVERY)]
    assert row.loc[row["split"] == ALL, "verdict"].str.startswith("not better than").all()


def test_the_table_is_tidy_and_has_every_role_and_edit(trial: Trial, right: Predictor) -> None:
    found = _judged(trial, right, same_law(trial.truth)).table
    assert list(found.columns[: len(table.COLUMNS)]) == list(table.COLUMNS)
    assert set(found["role"]) == {"ours", "floor", "ceiling", "difference", "control", "edited"}
    for role in ("control", "edited", "ours"):
        part = found[(found["role"] == role) & found["metric"].str.startswith("fraction[")]
        np.testing.assert_allclose(part.groupby("split")["value"].sum(), 1.0)
    assert set(found["split"]) == {ALL, *trial.labels}
    assert not found.duplicated(["split", "model", "metric"]).any()
    assert (found["low"].isna() | (found["low"] <= found["value"] + 1e-9)).mean() > 0.95


def test_four_edits_are_split_by_the_size_of_their_effects(trial: Trial) -> None:
    more = {**trial.truth, "knockout g3": trial.truth["knockout g0"]}
    four = replace(trial, truth=more, edits={**trial.edits, "knockout g3": Edit("g3")})
    right = Predictor("right", "ours", lambda edit, _: four.truth[edit.label])
    found = judge(four, [right, *floors(four)], seeds=(0,), draws=20).table
    assert {"weak effects", "strong effects"} <= set(found["split"])
    assert (found.loc[found["split"] == "weak effects", "n_edits"] == 2).all()


def test_the_paired_score_takes_off_what_the_control_gets_wrong(trial: Trial) -> None:
    biased = trial.earlier[2.0]

    def predict(edit: Edit, _seed: int) -> Prediction:
        return Prediction(trial.wild, control=biased, doubt=1.0, abstains=edit.gene == "g0")

    found = _judged(trial, Predictor("odd", "ours", predict))
    assert _value(found, "odd", scoring.RECOVERY) == 0.0
    assert _value(found, "odd", scoring.PAIRED) != 0.0
    assert _value(found, "odd", ABSTAINS) == pytest.approx(1 / 3)
    assert _value(found, "odd", ANSWERED) == 0.0
    assert any("abstains on 1 of 3" in s for s in found.sentences)


def test_a_predictor_without_predictions_has_no_rows(trial: Trial) -> None:
    found = _judged(trial, Predictor("silent", "ours", lambda *_: None))
    assert "silent" not in set(found.table["model"])


def test_one_edit_has_intervals_over_its_embryos(trial: Trial) -> None:
    label = trial.labels[0]
    one = replace(trial, truth={label: trial.truth[label]}, edits={label: trial.edits[label]})
    ours = Predictor("pool", "ours", lambda *_: pooled([trial.wild, trial.truth[label]]))
    found = _judged(one, ours)
    row = found.table[(found.table["model"] == "pool") & (found.table["metric"] == scoring.RECOVERY)].iloc[0]
    assert row["low"] < row["value"] < row["high"]
    assert "one edit, 3 embryos" in " ".join(found.sentences)


def test_seeds_are_also_scored_as_one_ensemble(trial: Trial) -> None:
    """Half of the seeds too far one way and half too far the other are right together, and wrong alone."""
    label = trial.labels[0]
    names = trial.truth[label].embryos
    one = replace(trial, truth={label: trial.truth[label]}, edits={label: trial.edits[label]})
    each = Predictor("each", "ours", lambda edit, seed: trial.truth[edit.label].only([names[seed]]), random=True)
    found = _judged(one, each)
    assert _value(found, "each", scoring.ENSEMBLE) == pytest.approx(1.0)
    assert _value(found, "each", scoring.RECOVERY) < 1


def test_longer_axes_are_told_from_shorter_ones(trial: Trial) -> None:
    rng = np.random.default_rng(0)

    def stretched(factor: float) -> EndPopulation:
        scale = np.array([factor, 1.0, 1 / factor]) * rng.normal(1, 0.01, size=(len(trial.wild.embryos), 3))
        member = np.unique(trial.wild.embryo.astype(str), return_inverse=True)[1]
        return replace(trial.wild, x=trial.wild.x * scale[member])

    truth = dict(zip(trial.labels, (stretched(1.5), stretched(0.7), stretched(1.4)), strict=True))
    seen = replace(trial, truth=truth)
    right = Predictor("right", "ours", lambda edit, _: truth[edit.label])
    found = _judged(seen, right)
    assert _value(found, "right", FORM) == pytest.approx(1.0)
    assert _value(found, "right", scoring.LENGTHS) == pytest.approx(0.0)
    assert _value(found, "no change", scoring.LENGTHS) > 0.1


def test_an_edit_without_any_effect_has_no_recovery_and_breaks_nothing(trial: Trial) -> None:
    still = replace(trial, truth={**trial.truth, "knockout g0": trial.wild})
    found = _judged(still, Predictor("timid", "ours", lambda *_: trial.wild))
    rows = found.table[(found.table["model"] == "timid") & (found.table["metric"] == scoring.RECOVERY)]
    assert rows.loc[rows["split"] == "knockout g0", "value"].isna().all()
    assert (rows.loc[rows["split"] == ALL, "n_edits"] == 2).all()
