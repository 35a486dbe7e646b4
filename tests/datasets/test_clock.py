"""The clock against made-up movies whose map is known, and against the rule that nothing of the future is used."""

from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from embryo.core.errors import SchemaError
from embryo.datasets.clock import LANDMARKS_H, births, synchronise
from embryo.datasets.lineage import ancestors

INF = float("inf")


def frames_of(truth: dict[str, float], slope_h: float, offset_h: float) -> pd.Series:
    return (pd.Series(truth) - offset_h) / slope_h


@given(
    st.lists(
        st.tuples(st.floats(0.005, 0.05), st.floats(-1.0, 1.0)),
        min_size=3,
        max_size=7,
    ),
    st.integers(0, 10_000),
)
@settings(max_examples=25, deadline=None)
def test_known_affine_maps_are_recovered_exactly(maps: list[tuple[float, float]], seed: int) -> None:
    rng = np.random.default_rng(seed)
    truth = {f"c{k}": float(t) for k, t in enumerate(np.sort(rng.uniform(0, 4, 30)))}
    movies = {f"e{k}": frames_of(truth, *m).sample(20, random_state=seed + k) for k, m in enumerate(maps)}
    clocks, consensus = synchronise(movies, landmarks_h=truth)
    for k, (slope, offset) in enumerate(maps):
        assert clocks[f"e{k}"].slope_h == pytest.approx(slope, rel=1e-6)
        assert clocks[f"e{k}"].offset_h == pytest.approx(offset, abs=1e-6)
    np.testing.assert_allclose(consensus, pd.Series(truth)[consensus.index], atol=1e-6)


def test_without_landmarks_the_median_movie_is_nominal_and_the_first_birth_is_zero(births_h: dict[str, float]) -> None:
    movies = {
        "a": frames_of(births_h, 1 / 60, 0.4),
        "b": frames_of(births_h, 1.5 / 60, 0.1),
        "c": frames_of(births_h, 2 / 60, 0),
    }
    clocks, consensus = synchronise(movies, landmarks_h=None, frame_min=1.0)
    assert clocks["b"].slope_h == pytest.approx(1 / 60)  # the median one
    assert clocks["c"].slope_h / clocks["a"].slope_h == pytest.approx(2)
    assert consensus.min() == pytest.approx(0)


def test_gross_errors_of_tracking_do_little(births_h: dict[str, float]) -> None:
    rng = np.random.default_rng(1)
    movies = {
        f"e{k}": frames_of(births_h, 1 / 60 * (1 + 0.1 * k), 0.1 * k) + rng.normal(0, 0.5, len(births_h))
        for k in range(5)
    }
    wrong = movies["e2"].sample(12, random_state=0).index  # a fifth of them, by far
    movies["e2"] = movies["e2"].where(~movies["e2"].index.isin(wrong), movies["e2"] + 60)
    clock = synchronise(movies, landmarks_h=births_h)[0]["e2"]
    at = clock(movies["e2"].drop(wrong).to_numpy())
    assert np.abs(at - pd.Series(births_h).drop(wrong).to_numpy()).mean() < 2.5 / 60


def test_a_held_out_embryo_is_not_in_the_consensus(births_h: dict[str, float]) -> None:
    movies = {"a": frames_of(births_h, 1 / 60, 0), "b": frames_of(births_h, 1.5 / 60, 0.3)}
    alone = synchronise(movies, landmarks_h=births_h)[1]
    strange = frames_of({c: t**3 for c, t in births_h.items()}, 1 / 60, 0)
    _, consensus = synchronise(movies | {"held": strange}, held_out={"held": INF}, landmarks_h=births_h)
    pd.testing.assert_series_equal(consensus, alone)


@pytest.mark.parametrize("until_h", [0.8, 1.0, 1.2])
def test_the_future_of_a_held_out_embryo_changes_nothing(births_h: dict[str, float], until_h: float) -> None:
    rng = np.random.default_rng(0)
    noisy = {
        k: frames_of(births_h, s / 60, o) + rng.normal(0, 0.5, len(births_h))
        for k, s, o in [("a", 1, 0), ("b", 1.4, 0.2)]
    }
    held = frames_of(births_h, 1.2 / 60, 0.1) + rng.normal(0, 0.5, len(births_h))
    before = synchronise(noisy | {"held": held}, held_out={"held": until_h}, landmarks_h=births_h)[0]["held"]
    assert before.last_h <= until_h
    seen = held[before(held.to_numpy()) <= before.last_h + 1e-9]
    assert len(seen) >= before.events > 5
    for change in (
        held * 3 + 100,
        held.sample(frac=1, random_state=0).set_axis(held.index) + held.max() - held.min() + 1,
    ):
        other = change.where(~held.index.isin(seen.index), held)
        after = synchronise(noisy | {"held": other}, held_out={"held": until_h}, landmarks_h=births_h)[0]["held"]
        assert (after.slope_h, after.offset_h) == (before.slope_h, before.offset_h)


def test_a_held_out_clock_from_early_births_is_exact_without_noise(births_h: dict[str, float]) -> None:
    movies = {"a": frames_of(births_h, 1 / 60, 0), "held": frames_of(births_h, 1.37 / 60, -0.2)}
    clock = synchronise(movies, held_out={"held": 0.7}, landmarks_h=births_h)[0]["held"]
    assert clock.slope_h == pytest.approx(1.37 / 60)
    assert clock.offset_h == pytest.approx(-0.2)
    assert clock.events < len(births_h)


def test_too_few_shared_births_are_all_named(births_h: dict[str, float]) -> None:
    good = frames_of(births_h, 1 / 60, 0)
    movies = {"a": good, "b": good, "short": good[:3], "stranger": pd.Series({f"Nuc{k}": 1.0 * k for k in range(30)})}
    with pytest.raises(SchemaError) as caught:
        synchronise(movies, landmarks_h=births_h)
    assert [p.found.split(" in embryo ")[1].split()[0] for p in caught.value.problems] == ["short", "stranger"]
    with pytest.raises(SchemaError, match=r"by -0\.1 h"):
        synchronise({"a": good, "b": good}, held_out={"b": -0.1}, landmarks_h=births_h)


def test_births_are_seen_only_after_the_mother(film: Callable[..., pd.DataFrame], births_h: dict[str, float]) -> None:
    table = film(1 / 60, 0.1)  # frame 1 is at 0.117 h: ABa is there already
    spans = table.groupby("cell").time.agg(["min", "max"]).set_axis(["first", "last"], axis=1).astype(float)
    seen = births(spans)
    assert "ABa" not in seen.index
    for cell, frame in seen.items():
        assert frame == np.ceil((births_h[str(cell)] - 0.1) * 60 - 1e-6)
    late = {c for c, t in births_h.items() if 0.12 < t <= 1.6}
    assert set(seen.index) == late


def test_landmarks_are_in_the_order_of_the_lineage() -> None:
    for cell, born in LANDMARKS_H.items():
        for above in ancestors(cell):
            assert LANDMARKS_H.get(above, -INF) < born
