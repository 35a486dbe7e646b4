"""The control beside measured wild type."""

import numpy as np
import pytest
import torch

from embryo import measure
from embryo.core.frame import BODY, Frame
from embryo.core.state import State
from embryo.core.trajectory import Trajectory
from embryo.pipeline.perturbing import wildtype


def _embryo(share: float, level: float, rng: np.random.Generator, n: int = 200) -> State:
    """A share of the cells is of one fate, told by z; all have one level of the gene."""
    kind = (np.arange(n) < share * n).astype(float)
    z = np.stack([kind, np.zeros(n)], 1) + 0.01 * rng.normal(size=(n, 2))
    g = level + 0.01 * rng.normal(size=(n, 1))
    return State(*(torch.from_numpy(part) for part in (z, g, rng.normal(size=(n, 3)), np.zeros(n))))


def _control(end: State, start: State) -> Trajectory:
    times = torch.tensor([0.0, 1.0]).double()
    cells = tuple(f"c{k}" for k in range(len(start)))
    return Trajectory.of(times, [start, end], panel=("gene",), frame=Frame(BODY), cells=cells, provenance={})


def test_a_control_that_drifts_is_told_and_one_that_holds_is_not() -> None:
    rng = np.random.default_rng(0)
    start = _embryo(0.2, 0.0, rng)
    wild = {1.0: [_embryo(0.6 + d, 1.0 + d, rng) for d in (-0.1, -0.05, 0.0, 0.05, 0.1)], 9.0: [start, start]}
    fate = measure.fates(start.z.numpy(), np.where(start.z[:, 0] > 0.5, "a", "b"), neighbours=5, seed=0)
    for share, level, word in ((0.62, 1.02, "Control holds"), (0.25, 0.1, "CONTROL DRIFTS")):
        found = wildtype.rows([_control(_embryo(share, level, rng), start)], wild, fate)
        assert set(found["time_h"]) == {1.0}  # the other time lies after the end
        value = found.set_index(["metric", "model"])["value"]
        assert value["fates apart", wildtype.CONTROL] == pytest.approx(abs(share - 0.6), abs=0.01)
        assert value["fates apart", wildtype.STILL] == pytest.approx(0.4, abs=0.01)
        assert value["levels apart", wildtype.CONTROL] == pytest.approx(abs(level - 1.0), abs=0.02)
        assert wildtype.sentence(found, "held-out embryos").startswith(word)


def test_a_control_with_nothing_to_be_held_against_says_so() -> None:
    rng = np.random.default_rng(0)
    start = _embryo(0.2, 0.0, rng)
    fate = measure.fates(start.z.numpy(), np.where(start.z[:, 0] > 0.5, "a", "b"), neighbours=5, seed=0)
    found = wildtype.rows([_control(start, start)], {1.0: [start]}, fate)
    assert found.empty
    assert "no later wild-type embryos" in wildtype.sentence(found, "held-out embryos")


def test_embryos_measured_more_often_than_times_are_stored_are_held_to_the_nearest() -> None:
    rng = np.random.default_rng(0)
    start, end = _embryo(0.2, 0.0, rng), _embryo(0.6, 1.0, rng)
    fate = measure.fates(start.z.numpy(), np.where(start.z[:, 0] > 0.5, "a", "b"), neighbours=5, seed=0)
    wild = {0.2: [start, start], 0.8: [start, start], 0.95: [end, end]}
    found = wildtype.rows([_control(end, start)], wild, fate)
    assert set(found["time_h"]) == {1.0}  # 0.2 h is nearest to the start, which is no forecast
    assert len(found) == 6
    value = found.set_index(["metric", "model"])["value"]
    assert value["levels apart", wildtype.CONTROL] == pytest.approx(0.0, abs=0.02)
    assert "mean over 1 times" in wildtype.sentence(found, "held-out embryos")
