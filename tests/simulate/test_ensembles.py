"""Ensembles: mean, disagreement and their uncertainty, against numbers known beforehand."""

import numpy as np
import pytest
import torch

from embryo import simulate
from embryo.core.errors import EmbryoError
from embryo.core.state import State
from embryo.fields.analytic import Expansion, Linear, Rotation


def start(cells: int = 30) -> State:
    rng = torch.Generator().manual_seed(0)
    z, g, x = (torch.randn(cells, n, generator=rng) for n in (2, 1, 3))
    return State(z, g, x, torch.zeros(cells))


def test_same_members_do_not_disagree_and_their_mean_is_each_of_them() -> None:
    member = simulate.forward(Expansion(0.1), start(), [0.0, 1.0])
    both = simulate.ensemble([member, member, member])
    np.testing.assert_allclose(both.x, member.x.double().numpy())
    np.testing.assert_allclose(both.mass, member.log_mass.exp().double().numpy())
    assert all(np.abs(apart).max() < 1e-12 for apart in both.disagreement.values())


def test_disagreement_is_the_standard_deviation_of_the_members() -> None:
    s = start()
    rates = [0.2, 0.3, 0.5, 0.6]
    fields = [Linear(r * torch.eye(2), r * torch.eye(3)) for r in rates]
    found = simulate.ensemble([simulate.forward(f, s, [0.0, 1.0]) for f in fields])
    sd = np.std(np.exp(rates), ddof=1)
    np.testing.assert_allclose(found.disagreement["disagreement_um"][1], sd * s.x.norm(dim=1), rtol=1e-4)
    np.testing.assert_allclose(found.disagreement["disagreement_z"][1], sd * s.z.norm(dim=1), rtol=1e-4)
    assert (found.disagreement["disagreement_um"][0] == 0).all()
    last = found.table[(found.table["time_h"] == 1) & (found.table["metric"] == "disagreement_um")].iloc[0]
    mean = float(sd * s.x.norm(dim=1).mean())
    assert last["low"] < mean < last["high"]
    assert last["unit"] == "µm"
    assert last["n_seeds"] == 4


def test_number_of_cells_has_its_interval_over_seeds() -> None:
    """Of a pure birth process of 200 founders; the t-interval of 8 members holds the expectation."""
    members = [simulate.particles(Expansion(0.2), start(200), [0.0, 1.0], seed=k, step_h=0.5) for k in range(8)]
    table = simulate.ensemble(members).table
    last = table[(table["time_h"] == 1) & (table["metric"] == "cells")].iloc[0]
    assert last["low"] < 200 * np.exp(0.6) < last["high"]
    assert last["value"] == pytest.approx(np.mean([m.at(-1).mass.sum() for m in members]))


def test_neither_numbers_nor_disagreements_reach_below_zero() -> None:
    rates = [0.0, 0.0, 4.0]
    fields = [Linear(r * torch.eye(2), r * torch.eye(3)) for r in rates]
    table = simulate.ensemble([simulate.forward(f, start(), [0.0, 1.0]) for f in fields]).table
    last = table[(table["time_h"] == 1) & table["metric"].isin(["disagreement_z", "disagreement_um"])]
    assert (last["low"] == 0).all()


def test_a_founder_counts_by_its_living_descendants() -> None:
    members = [simulate.particles(Rotation(), start(), [0.0, 3.0], seed=k, turnover_per_h=1.0) for k in range(3)]
    found = simulate.ensemble(members)
    alive = np.stack([np.bincount(m.provenance["founder"], m.at(-1).mass.numpy(), minlength=30) for m in members])
    np.testing.assert_allclose(found.mass[1], alive.mean(axis=0))
    assert (np.isnan(found.x[1]).all(axis=1) == (alive == 0).all(axis=0)).all()
    known = (alive > 0).sum(axis=0) > 1
    assert (~np.isnan(found.disagreement["disagreement_z"][1]) == known).all()
    assert (alive == 0).any()


def test_members_of_different_starts_are_refused() -> None:
    one, two = (simulate.forward(Rotation(), start(n), times) for n, times in ((3, [0.0, 1.0]), (4, [0.0, 2.0])))
    with pytest.raises(EmbryoError, match=r"(?s)2 problems.*different times.*starts of \[3, 4\] particles"):
        simulate.ensemble([one, two])
    with pytest.raises(EmbryoError, match="1 roll-outs"):
        simulate.ensemble([one])
