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
from embryo.fields import FlowNetwork
from embryo.fit.sampling import Sampler
from embryo.fit.training import Training


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


@pytest.mark.parametrize("delta", [None, 1.0])
def test_regression_recovers_a_known_growth_field(delta: float | None) -> None:
    """Cells that stay where they are and divide at the rate 0.5 + 0.4 sin x: any path must give that back."""
    n, hours = 2000, 2.0
    x = torch.rand(n, 1, generator=torch.Generator().manual_seed(0)) * 6 - 3
    states = State(torch.zeros(2 * n, 0), torch.zeros(2 * n, 0), torch.cat([x, x]), torch.zeros(2 * n))
    one, growth = torch.ones(n), 0.5 + 0.4 * x[:, 0].sin()
    data = fit.Pairs(
        states, torch.arange(n), torch.arange(n, 2 * n), (growth * hours).exp(), 0 * one, hours * one, growth
    )
    field = fit.regress(data, fit.Training(steps=1000, width=32, width_of_paths=0.0, delta=delta))
    start = State(torch.zeros(50, 0), torch.zeros(50, 0), torch.linspace(-2, 2, 50)[:, None], torch.zeros(50))
    end = simulate.forward(field, start, [0.0, hours], step_h=0.1)
    wanted = hours * (0.5 + 0.4 * start.x[:, 0].sin())
    torch.testing.assert_close(end.log_mass[-1], wanted, atol=0.05, rtol=0.0)
    assert float((end.x[-1] - start.x).abs().max()) < 0.02


def test_an_autonomous_law_is_the_same_at_all_times() -> None:
    pairs, _, _ = gaussian_pairs(200)
    field = fit.regress(pairs, fit.Training(steps=5, width=8, time=False))
    start = pairs.states[:4]
    assert torch.equal(field(torch.tensor(0.0), start).dx, field(torch.tensor(1.7), start).dx)


def test_the_loss_and_the_weights_are_those_of_the_plain_loop() -> None:
    """Drawing many batches at once, fused steps and weights averaged aside: the same as torch's own, step by step."""
    pairs, _, _ = gaussian_pairs(300)
    training = Training(steps=70, batch=32, width=8, width_of_paths=0.1, delta=2.0)
    fitted = fit.regress(pairs, training)
    sampler = Sampler.of(pairs, training)
    torch.manual_seed(0)
    plain = FlowNetwork(dims=0, genes=0, space=3, width=8)
    plain.standardise(sampler.scales)
    optimiser = torch.optim.AdamW(plain.parameters(), lr=training.learning_rate, weight_decay=training.weight_decay)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, training.steps)
    average = [w.detach().clone() for w in plain.parameters()]
    for batches in sampler.chunks(plain):
        for inputs, rates, weight in batches:
            x, growth = (plain.rates(inputs) - rates).square().split([3, 1], dim=1)
            loss = (weight * (x.mean(1) + growth[:, 0]) / 2).sum() / weight.sum()
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            schedule.step()
            average = [0.995 * m + 0.005 * w.detach() for m, w in zip(average, plain.parameters(), strict=True)]
    for one, other in zip(fitted.parameters(), average, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)


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


@pytest.mark.parametrize("sigma", [0.0, 1.0])
def test_the_flow_of_bridges_has_the_spread_of_the_diffusion(sigma: float) -> None:
    """Independent ends and Brownian bridges: variance (1-s)^2 v0 + s^2 v1 + sigma^2 s (1-s), which ends at v1."""
    n, rng = 4000, np.random.default_rng(0)
    x = torch.tensor(np.r_[rng.normal(0, 1, n), rng.normal(0, 2, n)][:, None], dtype=torch.float32)
    states = State(x, torch.zeros(2 * n, 0), torch.zeros(2 * n, 0), torch.zeros(2 * n))
    one = torch.ones(n)
    data = fit.Pairs(states, torch.arange(n), torch.arange(n, 2 * n), one, 0 * one, one, 0 * one)
    field = fit.regress(data, fit.Training(steps=1500, width=64, width_of_paths=0.0, diffusion=sigma))
    end = simulate.forward(field, states[:n], [0.0, 0.5, 1.0], step_h=0.02)
    unit = float(x.var())
    assert float(end.z[1].var()) == pytest.approx(0.25 + 1.0 + sigma**2 * unit / 4, rel=0.08)
    assert float(end.z[2].var()) == pytest.approx(4.0, rel=0.08)
