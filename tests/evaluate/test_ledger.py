import numpy as np
import pandas as pd
import pytest
from scipy import stats

from embryo.evaluate.ledger import Ledger, Metric

GROUPS = ("one", "two", "three", "four")
UP, DOWN = Metric("score"), Metric("error", "h", "lower")
PCA = "PCA (5 components)"


def ledger(**scores: float) -> Ledger:
    """Constant gains over PCA, whose scores differ between groups."""
    found = Ledger("board", "split", GROUPS, 5)
    for k, group in enumerate(GROUPS):
        found.add(UP, PCA, "floor", (group, None), 0.5 + 0.1 * k)
        found.add(UP, "guess", "floor", (group, None), 0.1)
        for model, gain in scores.items():
            for seed in range(5):
                found.add(UP, model, "ours", (group, seed), 0.5 + 0.1 * k + gain * (1 + 0.01 * seed))
    return found


def difference(found: Ledger, model: str, floor: str = PCA) -> pd.Series:
    frame = pd.DataFrame(found.rows())
    return frame[frame["model"] == f"{model} minus {floor}"].iloc[0]


def test_a_gain_is_paired_by_group() -> None:
    """The groups differ by far more than the model gains; paired, the gain is plain."""
    row = difference(ledger(new=0.05), "new")
    assert row["value"] == pytest.approx(0.05 * 1.02)
    assert row["verdict"] == f"better than {PCA}"
    assert row["role"] == "difference"
    assert (row["n_groups"], row["n_seeds"]) == (4, 5)


def test_what_gains_nothing_is_not_better() -> None:
    found = ledger(new=0.0, bad=-0.2)
    assert difference(found, "new")["verdict"] == f"not better than {PCA}"
    assert difference(found, "bad")["verdict"] == f"worse than {PCA}"
    said = found.sentences()
    assert said[0].startswith(f"score: new: not better than {PCA} (gain 0, 95% interval 0 to 0, 4 embryos x 5 seeds)")


def test_noise_is_not_better(rng: np.random.Generator) -> None:
    found = Ledger("board", "split", GROUPS, 5)
    for group in GROUPS:
        found.add(UP, PCA, "floor", (group, None), 0.5)
        for seed in range(5):
            found.add(UP, "noise", "ours", (group, seed), 0.5 + rng.normal())
    assert difference(found, "noise")["verdict"] == f"not better than {PCA}"


def test_the_best_floor_is_met_and_pca_too_where_it_is_another() -> None:
    found = ledger(new=0.05)
    for k, group in enumerate(GROUPS):
        found.add(UP, "HVG (9 genes)", "floor", (group, None), 0.7 + 0.1 * k)
    assert difference(found, "new", "HVG (9 genes)")["verdict"] == "worse than HVG (9 genes)"
    assert difference(found, "new")["verdict"] == f"better than {PCA}"
    assert not (pd.DataFrame(found.rows())["model"] == "new minus guess").any()


def test_lower_may_be_better() -> None:
    found = Ledger("board", "split", GROUPS, 2)
    for k, group in enumerate(GROUPS):
        found.add(DOWN, PCA, "floor", (group, None), 2.0 + k)
        found.add(DOWN, "new", "ours", (group, None), 1.0 + k)
    row = difference(found, "new")
    assert (row["value"], row["verdict"], row["unit"]) == (pytest.approx(1), f"better than {PCA}", "h")


def test_errors_end_at_zero_and_their_differences_do_not() -> None:
    error = Metric("error", "h", "lower", least=0.0)
    for metric, bounded in ((error, True), (DOWN, False)):
        found = Ledger("board", "split", GROUPS, 2)
        for k, group in enumerate(GROUPS):
            found.add(metric, PCA, "floor", (group, None), 0.01 + 3.0 * (k == 0))
            found.add(metric, "new", "ours", (group, None), 0.01 + 3.0 * (k == 1))
        frame = pd.DataFrame(found.rows())
        scores = frame[frame["role"] != "difference"]
        assert (scores["low"] == 0).all() if bounded else (scores["low"] < 0).all()
        assert (frame.loc[frame["role"] == "difference", "low"] < 0).all()


def test_random_weights_are_a_floor_of_pretrained_ones_and_not_of_each_other() -> None:
    found = ledger(new=0.05)
    for group in GROUPS:
        for name in ("a architecture, random weights", "b architecture, random weights"):
            for seed in range(5):
                found.add(UP, name, "random", (group, seed), 0.95)
    frame = pd.DataFrame(found.rows())
    names = set(frame.loc[frame["role"] == "difference", "model"])
    assert "new minus a architecture, random weights" in names
    assert not any(n.startswith("a architecture") and "minus b" in n for n in names)
    assert set(frame.loc[frame["model"] == "a architecture, random weights", "role"]) == {"random"}


def test_values_and_intervals_are_those_of_the_groups() -> None:
    frame = pd.DataFrame(ledger(new=0.05).rows()).set_index("model")
    values = 0.5 + 0.1 * np.arange(4)
    low, high = stats.t.interval(0.95, 3, loc=values.mean(), scale=stats.sem(values))
    assert frame.loc[PCA, "value"] == pytest.approx(values.mean())
    assert frame.loc[PCA, "low"] == pytest.approx(low, abs=0.02)
    assert frame.loc[PCA, "high"] == pytest.approx(high, abs=0.02)
    assert frame.loc[PCA, "n_seeds"] == 1
    assert np.isnan(frame.loc[PCA, "seed_sd"])
    assert frame.loc["new", "seed_sd"] == pytest.approx(0.05 * 0.01 * np.std(range(5), ddof=1))


def test_one_group_allows_no_verdict() -> None:
    found = Ledger("board", "split", ("one",), 5)
    found.add(UP, PCA, "floor", ("one", None), 0.1)
    found.add(UP, "new", "ours", ("one", None), 0.9)
    assert found.sentences() == [
        f"score: new: not better than {PCA} (no interval from one group, 1 embryos x 5 seeds)."
    ]
