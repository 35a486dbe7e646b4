"""A flow of several conditions, on drifts that are known."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from embryo import fit
from embryo.core.state import State


def drifting(rate: float, n: int = 200) -> fit.Pairs:
    """Return cells whose one gene moves by `rate` in the hour between two stages; cells are the same otherwise."""
    draw = torch.Generator().manual_seed(0)
    z, g = torch.randn(n, 1, generator=draw), torch.randn(n, 1, generator=draw)
    states = State(torch.cat([z, z]), torch.cat([g, g + rate]), torch.zeros(2 * n, 0), torch.zeros(2 * n))
    rows, one = torch.arange(n), torch.ones(n)
    return fit.Pairs(states, rows, rows + n, one / n, 0 * one, one, 0 * one)


def test_each_condition_has_its_own_drift_and_one_between_lies_between() -> None:
    conditions = [torch.tensor([0.0]), torch.tensor([1.0])]
    law = fit.conditional(
        [drifting(0.0), drifting(2.0)], conditions, fit.Training(steps=600, width=32, ema=0.98, seed=0)
    )
    s = drifting(0.0).ends(slice(None))[0]
    middle = [replace(s, g=s.g + c) for c in (0.0, 0.5, 1.0)]  # where cells are after half of the hour
    found = [float(law.given(m.g[:1, 0] - s.g[:1, 0])(torch.tensor(0.5), m).dg.mean()) for m in middle]
    assert found[0] == pytest.approx(0.0, abs=0.3)
    assert found[2] == pytest.approx(2.0, abs=0.3)
    assert found[0] < found[1] < found[2]


def test_genes_of_one_profile_have_one_vector_and_silent_ones_do_not_break_it() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(2, 500))
    g = np.stack([a, 2 * a + 5, -a, b, np.zeros(500)], 1)
    found = fit.gene_vectors(g, 2)
    np.testing.assert_allclose(found[0], found[1], atol=1e-6)
    assert np.linalg.norm(found[0] - found[2]) > 1
    np.testing.assert_allclose((found**2).mean(axis=0), 1.0)
    assert np.isfinite(found).all()
