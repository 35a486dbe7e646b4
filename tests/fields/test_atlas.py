"""Forecasts of an atlas against laws written down here and against scikit-learn's ridge regression."""

from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.stats import special_ortho_group
from sklearn.linear_model import Ridge

from embryo.core.errors import FrameError, SchemaError, StoreError
from embryo.core.frame import Rigid
from embryo.core.state import State
from embryo.core.store import write_tensors
from embryo.fields.atlas import Atlas
from embryo.fields.departure import Rule, lineage

N, E = 30, 40
MEAN = np.random.default_rng(0).normal(size=(N, 3)) * np.array([25.0, 14.0, 9.0])
DRIFT = np.random.default_rng(1).normal(size=(N, 3)) * 4
REGRESSION = Rule(1.0, 2.0, "regression", float("inf"))


def state(x: np.ndarray, z: np.ndarray | None = None) -> State:
    n = len(x)
    z = np.zeros((n, 0)) if z is None else z
    return State(torch.as_tensor(z).float(), torch.zeros(n, 0), torch.as_tensor(x).float(), torch.zeros(n))


def made(start: np.ndarray, end: np.ndarray, **given: object) -> Atlas:
    """An atlas of two times without divisions."""
    x = np.stack([start, end], axis=1).astype(np.float32)
    names = tuple(f"c{k:02d}" for k in range(x.shape[2]))
    parts = {
        "cells": names, "parents": ("",) * len(names), "embryos": tuple(f"e{k}" for k in range(len(x))),
        "times_h": np.array([1.0, 2.0]), "x": x, "alive": np.ones(x.shape[:3], bool),
        "z": np.zeros((2, len(names), 0), np.float32), "noise": np.zeros(0, np.float32),
    }  # fmt: skip
    return Atlas(**parts | given)


def embryos(rng: np.random.Generator, n: int = E) -> np.ndarray:
    return MEAN + rng.normal(0, 0.7, (n, N, 3))


def test_a_share_of_every_deviation_is_found_and_carried() -> None:
    start = embryos(np.random.default_rng(0))
    atlas = made(start, MEAN + DRIFT + 0.6 * (start - MEAN))
    new = embryos(np.random.default_rng(9), 1)[0]
    found = atlas.predict(state(new), atlas.cells, t0_h=1.0, t1_h=2.0).x.numpy()
    assert np.abs(found - (MEAN + DRIFT + 0.6 * (new - MEAN))).max() < 0.3
    placed = atlas.place(state(new), atlas.cells, t0_h=1.0)
    one = {"t0_h": 1.0, "t1_h": 2.0}
    mean = atlas.carry(state(new), placed, **one, rule=Rule(1.0, 2.0, "position")).x.numpy()
    moved = atlas.carry(state(new), placed, **one, rule=Rule(1.0, 2.0, "displacement")).x.numpy()
    assert np.abs(mean - (MEAN + DRIFT)).max() < 0.6
    assert np.abs(moved - (new + DRIFT)).max() < 0.6


def test_the_whole_pattern_is_scikit_learns_ridge() -> None:
    rng = np.random.default_rng(0)
    start = embryos(rng)
    end = MEAN + DRIFT + np.roll(start - MEAN, 1, axis=1) + rng.normal(0, 0.1, start.shape)
    begin, onward = (atlas := made(start, end)).departure(1.0), atlas.onward(1.0, 2.0)
    own = np.einsum("i,iecs->ecs", onward.pooled, np.stack([begin.deviations, begin.smoother @ begin.deviations]))
    left = (onward.ends - onward.ends.mean(axis=0) - own).reshape(E, -1)
    flat = begin.deviations.reshape(E, -1)
    oracle = Ridge(alpha=0.5 * float((flat**2).sum(axis=1).mean()), fit_intercept=False).fit(flat, left)
    x = begin.mean + rng.normal(0, 0.7, (N, 3))
    slot = np.arange(N)
    gain = onward.carried(x, slot, Rule(1.0, 2.0, "regression", 0.5)) - onward.carried(x, slot, REGRESSION)
    assert gain.ravel() == pytest.approx(oracle.predict((x - begin.mean).reshape(1, -1))[0], abs=1e-8)


def test_the_frame_and_order_do_not_matter() -> None:
    rng = np.random.default_rng(0)
    start = embryos(rng)
    atlas = made(start, MEAN + DRIFT + 0.6 * (start - MEAN))
    new = embryos(rng, 1)[0]
    pose = Rigid(special_ortho_group.rvs(3, random_state=rng), rng.normal(0, 50, 3))
    order = rng.permutation(N)
    here = atlas.predict(state(new), atlas.cells, t0_h=1.0, t1_h=2.0).x.numpy()
    there = atlas.predict(state(pose(new)[order]), [atlas.cells[k] for k in order], t0_h=1.0, t1_h=2.0).x.numpy()
    assert there == pytest.approx(pose(here)[order], abs=1e-3)
    hidden = atlas.predict(state(pose(new)[order]), t0_h=1.0, t1_h=2.0).x.numpy()
    assert np.median(np.linalg.norm(hidden - there, axis=1)) < 0.05


def test_expression_gives_names_where_places_do_not() -> None:
    rng = np.random.default_rng(0)
    start = MEAN + rng.normal(0, 8.0, (E, N, 3))  # so scattered that places say little
    z = rng.normal(size=(2, N, 4)).astype(np.float32)
    atlas = made(start, start, z=z, noise=np.full(4, 0.05, np.float32))
    new = state(MEAN + rng.normal(0, 8.0, (N, 3)), z[0] + rng.normal(0, 0.05, (N, 4)))
    assert (atlas.place(new, t0_h=1.0).slot == np.arange(N)).mean() < 0.6
    assert (atlas.place(new, t0_h=1.0, by_expression=True).slot == np.arange(N)).mean() > 0.9
    with pytest.raises(SchemaError, match="embedding"):
        atlas.place(state(MEAN), t0_h=1.0, by_expression=True)


def family() -> Atlas:
    """Four founders; the first divides before the end, and in half of the embryos before the start."""
    cells, parents = ("A", "B", "C", "D", "Aa", "Ap"), ("", "", "", "", "A", "A")
    corners = np.array([[0, 0, 0], [20, 0, 0], [0, 12, 0], [0, 0, 8]], float)
    x = np.zeros((6, 2, 6, 3), np.float32)
    x[:, :, :4] = corners
    x[:, :, 4] = x[:, :, 5] = corners[0]
    x[:, 1, 4, 2], x[:, 1, 5, 2] = 3, -1
    x[:, 1, 0, 2] = 1  # the mean of the daughters
    alive = np.zeros((6, 2, 6), bool)
    alive[:, :, 1:4] = True
    alive[:3, 0, 0] = alive[3:, 0, 4] = alive[3:, 0, 5] = alive[:, 1, 4] = alive[:, 1, 5] = True
    x += np.random.default_rng(0).normal(0, 1e-3, x.shape).astype(np.float32)
    parts = {"x": x, "alive": alive, "cells": cells, "parents": parents, "z": np.zeros((2, 6, 0), np.float32)}
    return made(np.zeros((6, 1, 3)), np.zeros((6, 1, 3)), **parts | {"embryos": tuple("abcdef")})


def test_a_divided_cell_stands_for_its_daughters() -> None:
    atlas = family()
    start = state(np.array([[0, 0, 0], [20, 0, 0], [0, 12, 0], [0, 0, 8]], float))
    found = atlas.predict(start, ["A", "B", "C", "D"], t0_h=1.0, t1_h=2.0)
    assert found.mass.tolist() == pytest.approx([2, 1, 1, 1])
    assert found.x[0].tolist() == pytest.approx([0, 0, 1], abs=0.05)
    assert atlas.numbers(1.0)[:4] == pytest.approx([1.5, 1, 1, 1])
    # names that are not there at the start are their relatives; unknown ones whatever lies nearest
    begin = atlas.departure(1.0)
    slot, _ = begin.placed(start.x.numpy().astype(float), ["who", "B", "C", "D"])
    assert begin.cells[slot[0]] in {"A", "Aa", "Ap"}
    with pytest.raises(SchemaError, match="0 of 4 names"):
        begin.placed(start.x.numpy().astype(float), ["w", "x", "y", "z"])


def test_a_name_unseen_at_the_start_is_its_nearest_relative() -> None:
    atlas = family()
    late = Atlas(**{k: v for k, v in vars(atlas).items() if k[0] != "_"} | {"times_h": np.array([1.0, 2.0])})
    begin = late.departure(2.0)  # A has divided everywhere
    slot, _ = begin.placed(np.eye(4, 3) * 9, ["A", "B", "C", "D"])
    assert begin.cells[slot[0]] in {"Aa", "Ap"}


def test_lineage_is_who_descends_from_whom() -> None:
    found = lineage(["P", "Pa", "Paa", "Q"], ["", "P", "Pa", "Q"])
    assert found.astype(int).tolist() == [[1, 1, 1, 0], [0, 1, 1, 0], [0, 0, 1, 0], [0, 0, 0, 1]]


def test_times_between_are_interpolated_and_those_outside_refused() -> None:
    start = embryos(np.random.default_rng(0))
    atlas = made(start, start + DRIFT)
    assert atlas.at(1.25) == pytest.approx(start + 0.25 * DRIFT, abs=1e-4)
    with pytest.raises(SchemaError, match="3 h"):
        atlas.predict(state(MEAN), atlas.cells, t0_h=1.0, t1_h=3.0)
    with pytest.raises(SchemaError, match="3 cells at the start"):
        atlas.predict(state(MEAN[:3]), t0_h=1.0, t1_h=2.0)
    with pytest.raises(FrameError, match="one line"):
        atlas.place(state(MEAN * np.array([1, 0, 0])), atlas.cells, t0_h=1.0)
    with pytest.raises(SchemaError, match="1 embryos"):
        atlas.only(np.arange(E) == 0).departure(1.0)


def test_the_rule_of_the_nearest_times_is_used() -> None:
    atlas = made(embryos(np.random.default_rng(0)), MEAN[None].repeat(E, 0))
    rules = (Rule(1.0, 1.5, "position"), Rule(1.0, 2.0, "displacement"))
    assert atlas.rule(1.0, 1.9).penalty == 1.0
    chosen = Atlas(**{k: v for k, v in vars(atlas).items() if k[0] != "_"} | {"rules": rules})
    assert chosen.rule(1.0, 1.9) is rules[1]
    assert chosen.rule(1.0, 1.6) is rules[0]


def test_saved_and_loaded_it_says_the_same(tmp_path: Path) -> None:
    start = embryos(np.random.default_rng(0))
    end = MEAN + DRIFT + 0.6 * (start - MEAN)
    end[0, 3] = np.nan
    atlas = made(start, end, rules=(Rule(1.0, 2.0, "regression", float("inf")),))
    atlas.save(tmp_path / "atlas.safetensors")
    again = Atlas.load(tmp_path / "atlas.safetensors")
    assert (again.cells, again.embryos, again.rules) == (atlas.cells, atlas.embryos, atlas.rules)
    a, b = (one.predict(state(MEAN + 1), atlas.cells, t0_h=1.0, t1_h=2.0).x for one in (atlas, again))
    assert torch.equal(a, b)
    write_tensors(tmp_path / "other", {"x": torch.zeros(2)}, {"kind": "flow"})
    with pytest.raises(StoreError, match="flow"):
        Atlas.load(tmp_path / "other")
