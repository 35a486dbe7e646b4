"""Smoothed growth: keeps the number of cells exactly, and finds rates that single plans hide."""

import numpy as np
import pytest
from anndata import AnnData
from scipy import sparse
from scipy.optimize import minimize

from embryo.core import schema
from embryo.core.coupling import Coupling
from embryo.fit import growth


def tissue(n: int, seed: int = 0) -> tuple[AnnData, list[Coupling], np.ndarray]:
    """Two kinds of cells side by side at two times; one doubles in four of five, the other dies in two of five."""
    rng = np.random.default_rng(seed)
    x = rng.uniform(size=(n, 2))
    kind = x[:, 0] > 0.5
    born = np.where(kind, 1 + (rng.uniform(size=n) < 0.8), rng.uniform(size=n) < 0.6).astype(int)
    mother = np.repeat(np.arange(n), born)
    late = x[mother] + rng.normal(0, 0.01, (len(mother), 2))
    plan = sparse.csr_array((np.ones(len(mother)), (mother, np.arange(len(mother)))), shape=(n, len(mother)))
    places = np.concatenate([x, late]).astype(np.float32)
    z = np.where(np.concatenate([kind, kind[mother]]), 1.0, -1.0)[:, None].astype(np.float32)
    adata = AnnData(shape=(len(places), 0))
    adata.obs[schema.TIME] = np.repeat([0.0, 2.0], [n, len(mother)])
    adata.obsm[schema.SPATIAL] = adata.obsm[schema.ALIGNED] = places
    adata.obsm[schema.EMBED], adata.obsm[schema.PANEL] = z, np.zeros((len(places), 0), np.float32)
    rows = np.arange(len(places))
    return adata, [Coupling(0.0, 2.0, plan, rows[:n], rows[n:])], np.where(kind, 1.8, 0.6)


def test_rates_that_a_plan_hides_are_found() -> None:
    adata, couplings, truth = tissue(800)
    (found,) = growth.smoothed(adata, couplings)
    assert np.corrcoef(couplings[0].descendants, truth)[0, 1] < 0.85
    assert np.corrcoef(found, truth)[0, 1] > 0.98
    np.testing.assert_allclose([found[truth > 1].mean(), found[truth < 1].mean()], [1.8, 0.6], atol=0.08)


@pytest.mark.parametrize("strength", [0.1, 16.0, 1000.0])
def test_the_number_of_cells_is_kept(strength: float) -> None:
    adata, couplings, _ = tissue(200)
    (found,) = growth.smoothed(adata, couplings, strength=strength)
    assert found.sum() == pytest.approx(couplings[0].descendants.sum(), rel=1e-5)


def test_the_strongest_prior_gives_one_rate_to_what_hangs_together() -> None:
    adata, couplings, truth = tissue(100)
    (found,) = growth.smoothed(adata, couplings, strength=1e7)
    for kind in (truth > 1, truth < 1):  # unlike cells have no edge between them
        np.testing.assert_allclose(found[kind], couplings[0].descendants[kind].mean(), rtol=1e-3)


def test_rescaled_couplings_keep_who_becomes_whom() -> None:
    adata, couplings, _ = tissue(100)
    (made,), (expected,) = growth.rescaled(adata, couplings), growth.smoothed(adata, couplings)
    before, after = couplings[0].plan.toarray(), made.plan.toarray()
    has = before.sum(axis=1) > 0
    np.testing.assert_allclose(after.sum(axis=1), np.where(has, expected, 0))
    np.testing.assert_allclose(after[has] / expected[has, None], before[has] / before[has].sum(1, keepdims=True))


def test_it_is_the_minimum_that_a_general_optimiser_finds() -> None:
    adata, couplings, _ = tissue(30)
    laplacian = growth._laplacian(growth.states(adata), adata.obs[schema.TIME].to_numpy(float), couplings)
    d = couplings[0].descendants

    def loss(u: np.ndarray) -> float:
        return float((np.exp(u[:30]) - d * u[:30]).sum() + 2.0 / 2 * u @ (laplacian @ u))

    best = minimize(loss, np.zeros(adata.n_obs), method="BFGS", options={"gtol": 1e-6})
    (found,) = growth.smoothed(adata, couplings, strength=2.0)
    np.testing.assert_allclose(found, np.exp(best.x[:30]), rtol=1e-3)


def test_intervals_count_by_their_length() -> None:
    """One true rate over 1 h and 3 h: numbers of descendants are exp of it times the hours, in both."""
    rng = np.random.default_rng(0)
    rate, spans, n = 0.3, (1.0, 3.0), 150
    sizes = [n, *(round(n * np.exp(rate * t)) for t in np.cumsum(spans))]
    x = [rng.uniform(size=(k, 2)).astype(np.float32) for k in sizes]
    adata = AnnData(shape=(sum(sizes), 0))
    times = np.cumsum([0.0, *spans])
    adata.obs[schema.TIME] = np.repeat(times, sizes)
    adata.obsm[schema.SPATIAL] = adata.obsm[schema.ALIGNED] = np.concatenate(x)
    adata.obsm[schema.EMBED] = np.zeros((sum(sizes), 1), np.float32)
    adata.obsm[schema.PANEL] = np.zeros((sum(sizes), 0), np.float32)
    ends = np.cumsum([0, *sizes])
    couplings = []
    for k, hours in enumerate(spans):
        of = np.full((sizes[k], sizes[k + 1]), np.exp(rate * hours) / sizes[k + 1])
        rows = (np.arange(ends[j], ends[j + 1]) for j in (k, k + 1))
        couplings.append(Coupling(times[k], times[k + 1], sparse.csr_array(of), *rows))
    for hours, found in zip(spans, growth.smoothed(adata, couplings, strength=1e4), strict=True):
        np.testing.assert_allclose(np.log(found) / hours, rate, rtol=0.01)
