import anndata as ad
import numpy as np
import pytest
import torch
from scipy import sparse
from scipy.linalg import sqrtm

from embryo import fit, simulate
from embryo.core import schema
from embryo.core.coupling import Coupling
from embryo.core.errors import DivergedError, SchemaError, StaleError
from embryo.core.state import State


def linear_ot(mean: np.ndarray, cov0: np.ndarray, cov1: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Optimal map between Gaussians, T(x) = mean + A x (Gelbrich 1990), computed with scipy."""
    root = np.real(sqrtm(cov0))
    inv = np.linalg.inv(root)
    return inv @ np.real(sqrtm(root @ cov1 @ root)) @ inv, mean


def gaussian_pairs(n: int = 4000, hours: float = 2.0) -> tuple[fit.Pairs, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    cov0 = np.diag([1.0, 0.5, 2.0])
    cov1 = np.array([[2.0, 0.6, 0.0], [0.6, 1.0, 0.2], [0.0, 0.2, 0.5]])
    A, b = linear_ot(np.array([3.0, -1.0, 2.0]), cov0, cov1)
    x0 = rng.normal(size=(n, 3)) @ np.sqrt(cov0)
    x = torch.tensor(np.concatenate([x0, x0 @ A.T + b]), dtype=torch.float32)
    states = State(torch.zeros(2 * n, 0), torch.zeros(2 * n, 0), x, torch.zeros(2 * n))
    one = torch.ones(n)
    growth = torch.full((n,), float(np.log(3) / hours))
    return fit.Pairs(states, torch.arange(n), torch.arange(n, 2 * n), one, 0 * one, hours * one, growth), A, b


def test_flow_matching_recovers_the_gaussian_to_gaussian_map() -> None:
    """The straight paths of the optimal map never cross, so the flow must reproduce the map cell by cell."""
    pairs, A, b = gaussian_pairs()
    field = fit.regress(pairs, fit.Training(steps=1500, batch=512, width=64, seed=0))
    fresh = np.random.default_rng(7).normal(size=(500, 3)) @ np.sqrt(np.diag([1.0, 0.5, 2.0]))
    start = State(torch.zeros(500, 0), torch.zeros(500, 0), torch.tensor(fresh, dtype=torch.float32), torch.zeros(500))
    end = simulate.forward(field, start, [0.0, 2.0], step_h=0.1)
    truth = fresh @ A.T + b
    error = np.linalg.norm(end.x[-1].numpy() - truth, axis=1)
    moved = np.linalg.norm(truth - fresh, axis=1)
    assert np.median(error) < 0.03 * np.median(moved)
    torch.testing.assert_close(end.log_mass[-1].exp(), torch.full((500,), 3.0), rtol=0.02, atol=0.0)


def test_path_and_velocity_agree() -> None:
    """The velocity is the derivative of the point with respect to time, by central differences."""
    rng = torch.Generator().manual_seed(0)

    def ends() -> State:
        return State(
            *(torch.randn(7, d, generator=rng, dtype=torch.float64) for d in (4, 2, 3)),
            torch.zeros(7, dtype=torch.float64),
        )

    a, b = ends(), ends()
    s, dt, growth = (
        torch.rand(7, generator=rng, dtype=torch.float64),
        torch.full((7,), 2.5, dtype=torch.float64),
        torch.zeros(7, dtype=torch.float64),
    )
    h = 1e-5
    up, down = (fit.path(a, b, s + d, dt, growth)[0] for d in (h, -h))
    _, v = fit.path(a, b, s, dt, growth)
    for rate, p, q in zip(v.parts()[:3], up.parts()[:3], down.parts()[:3], strict=True):
        torch.testing.assert_close((p - q) / (2 * h * dt[:, None]), rate)
    for end, at in ((a, 0.0), (b, 1.0)):
        point, _ = fit.path(a, b, torch.full_like(s, at), dt, growth)
        torch.testing.assert_close(point.x, end.x)


def test_a_displaced_point_relaxes_onto_its_path() -> None:
    """d/dt of point(t) = path(t) + e exp(-kappa t), by central differences at t = s dt."""
    rng = torch.Generator().manual_seed(1)
    a, b, e = (State(*(torch.randn(5, d, generator=rng, dtype=torch.float64) for d in (2, 1, 3)),
                     torch.zeros(5, dtype=torch.float64)) for _ in range(3))  # fmt: skip
    s, dt, zero = (torch.full((5,), v, dtype=torch.float64) for v in (0.4, 2.0, 0.0))
    kappa, h = torch.full((5,), 0.7, dtype=torch.float64), 1e-5

    def at(shift: float) -> State:
        tube = fit.Tube(e.map(lambda part: part * np.exp(-0.7 * shift)), kappa)
        return fit.path(a, b, s + shift / dt, dt, zero, tube)[0]

    _, v = fit.path(a, b, s, dt, zero, fit.Tube(e, kappa))
    for rate, up, down in zip(v.parts()[:3], at(h).parts(), at(-h).parts(), strict=False):
        torch.testing.assert_close((up - down) / (2 * h), rate)


def toy() -> tuple[ad.AnnData, list[Coupling]]:
    rng = np.random.default_rng(0)
    adata = ad.AnnData(np.zeros((6, 2), np.float32))
    adata.obs[schema.TIME] = [0.0] * 2 + [1.0] * 4
    adata.obsm[schema.EMBED] = rng.normal(size=(6, 2))
    adata.obsm[schema.PANEL] = rng.random((6, 1))
    plan = sparse.csr_array(np.array([[1.0, 1, 0, 0], [0, 0, 1, 1]]))
    return adata, [Coupling(0.0, 1.0, plan, np.array([0, 1]), np.array([2, 3, 4, 5]))]


def test_pairs_carry_time_growth_and_rows() -> None:
    adata, couplings = toy()
    pairs = fit.pairs(adata, couplings)
    assert pairs.source.tolist() == [0, 0, 1, 1]
    assert pairs.target.tolist() == [2, 3, 4, 5]
    np.testing.assert_allclose(pairs.growth, np.log(2), rtol=1e-6)
    np.testing.assert_allclose(pairs.weight.sum(), 1)
    assert pairs.states.x.shape == (6, 0)


def test_same_seed_same_field_and_another_seed_another() -> None:
    adata, couplings = toy()
    a, b, c = (fit.flow(adata, couplings, fit.Training(steps=5, batch=4, width=8, seed=s)) for s in (0, 0, 1))
    same = [torch.equal(p, q) for p, q in zip(a.state_dict().values(), b.state_dict().values(), strict=True)]
    other = [
        torch.equal(p, q) for p, q in zip(a.trunk.state_dict().values(), c.trunk.state_dict().values(), strict=True)
    ]
    assert all(same)
    assert not any(other)


def test_fitting_leaves_the_global_random_state_alone() -> None:
    adata, couplings = toy()
    torch.manual_seed(5)
    before = torch.get_rng_state()
    fit.flow(adata, couplings, fit.Training(steps=2, batch=4, width=8))
    assert torch.equal(before, torch.get_rng_state())


def test_missing_slots_empty_couplings_and_divergence_are_told() -> None:
    adata, couplings = toy()
    bare = adata.copy()
    del bare.obsm[schema.EMBED], bare.obsm[schema.PANEL]
    with pytest.raises(StaleError, match=r"(?s)2 problems.*X_embed.*embed\.cells.*X_panel.*embed\.panel"):
        fit.flow(bare, couplings)
    empty = Coupling(0.0, 1.0, sparse.csr_array((2, 4)), np.array([0, 1]), np.array([2, 3, 4, 5]))
    with pytest.raises(SchemaError, match="single pair"):
        fit.flow(adata, [empty])
    adata.obsm[schema.EMBED][0, 0] = np.nan
    with pytest.raises(DivergedError, match=r"loss of nan at step 1"):
        fit.flow(adata, couplings, fit.Training(steps=3, batch=4, width=8))
