import subprocess
import sys
from collections.abc import Callable
from math import inf

import numpy as np
import ot
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse
from scipy.optimize import linprog
from scipy.spatial.distance import cdist
from sklearn.neighbors import NearestNeighbors

from embryo.core import schema
from embryo.core.errors import SchemaError
from embryo.couple import large
from embryo.couple.large import candidates, certificate, hierarchy, multiscale
from embryo.couple.large.arcs import Arcs, Masses, Potentials

Rng = np.random.Generator


def islands(n: int, m: int, dims: int, rng: Rng) -> tuple[np.ndarray, np.ndarray]:
    """Eight islands and where they moved to; their shares differ by chance, so that some mass must travel far."""
    middle = 2 * rng.normal(size=(8, dims))
    moved = middle + 0.7 * rng.normal(size=middle.shape)
    scale = 1 / np.sqrt(1 + np.arange(dims))
    return tuple(
        scale * (c[rng.integers(8, size=k)] + 0.7 * rng.normal(size=(k, dims))) for c, k in ((middle, n), (moved, m))
    )


def uniform(rng: Rng, n: int) -> np.ndarray:
    w = rng.random(n)
    return w / w.sum()


# ---------------------------------------------------------------- the whole


@pytest.mark.parametrize("dims", [2, 10, 50])
def test_the_plan_costs_what_the_best_one_costs(dims: int, rng: Rng) -> None:
    a, b = islands(1200, 900, dims, rng)
    wa, wb = uniform(rng, 1200), uniform(rng, 900)
    best = ot.emd2(wa, wb, cdist(a, b, "sqeuclidean"), numItermax=10**7)
    plan, notes = large.plan(a, b, weight_a=wa, weight_b=wb)
    assert plan.multiply(cdist(a, b, "sqeuclidean")).sum() == pytest.approx(notes["cost"], rel=1e-5)
    assert best * (1 - 1e-5) <= notes["cost"] <= best * 1.005
    assert notes["cost"] / best - 1 <= notes["gap"] + 3 * notes["gap_error"] + 1e-5  # the certificate holds
    np.testing.assert_allclose(plan.sum(axis=1), wa, rtol=1e-6)
    np.testing.assert_allclose(plan.sum(axis=0), wb, rtol=1e-6)
    assert plan.nnz < 1200 + 900
    assert notes["converged"]
    assert notes["pairs"] < 0.1 * 1200 * 900


def test_a_straight_map_is_found(rng: Rng) -> None:
    """A gradient of a convex function is the best map (Brenier): each cell goes to its own image."""
    a = rng.normal(size=(3000, 20))
    image = a * np.linspace(0.5, 2, 20) + 3
    mixed = rng.permutation(3000)
    plan, notes = large.plan(a, image[mixed])
    coo = plan.tocoo()
    assert np.array_equal(mixed[coo.coords[1]], coo.coords[0])
    assert notes["cost"] == pytest.approx(((a - image) ** 2).sum(axis=1).mean(), rel=1e-4)
    assert notes["gap"] < 1e-4


@settings(max_examples=10)
@given(
    n=st.integers(1, 60),
    m=st.integers(1, 60),
    dims=st.integers(1, 4),
    grid=st.booleans(),
    seed=st.integers(0, 10**6),
)
def test_small_clouds_are_coupled_exactly(n: int, m: int, dims: int, grid: bool, seed: int) -> None:
    rng = np.random.default_rng(seed)
    a, b = rng.normal(size=(n, dims)), rng.normal(size=(m, dims))
    if grid:  # many cells in one place
        a, b = a.round(), b.round()
    wa, wb = uniform(rng, n), uniform(rng, m)
    plan, _ = large.plan(a, b, weight_a=wa, weight_b=wb)
    cost = cdist(a, b, "sqeuclidean")
    assert plan.multiply(cost).sum() == pytest.approx(ot.emd2(wa, wb, cost), rel=1e-5, abs=1e-6)
    np.testing.assert_allclose(plan.sum(axis=1), wa, rtol=1e-6, atol=1e-9)
    np.testing.assert_allclose(plan.sum(axis=0), wb, rtol=1e-6, atol=1e-9)


def test_the_order_of_cells_does_not_matter(rng: Rng) -> None:
    a, b = islands(700, 800, 5, rng)
    i, j = rng.permutation(700), rng.permutation(800)
    plan, _ = large.plan(a, b)
    shuffled, _ = large.plan(a[i], b[j])
    assert abs(plan[i][:, j] - shuffled).max() < 1e-9


def test_the_same_seed_gives_the_same_plan(rng: Rng) -> None:
    a, b = islands(600, 600, 10, rng)
    (one, notes), (two, other) = (large.plan(a, b, seed=3) for _ in range(2))
    assert (one != two).nnz == 0
    assert notes == other


def test_cells_without_mass_are_left_out(rng: Rng) -> None:
    a, b = islands(400, 300, 3, rng)
    wa = np.where(np.arange(400) % 3, 1.0, 0.0)
    plan, _ = large.plan(a, b, weight_a=wa)
    some, _ = large.plan(a[wa > 0], b)
    assert not plan.sum(axis=1)[wa == 0].any()
    assert abs(plan[wa > 0] - some).max() < 1e-9


def test_progress_is_told(rng: Rng) -> None:
    told: list[tuple[str, float]] = []
    large.plan(*islands(600, 600, 2, rng), on_progress=lambda what, share: told.append((what, share)))
    assert told[0] == ("256 x 256 nodes", 0.0)
    assert all(0 <= share < 1 for _, share in told)
    assert told[-1][0].startswith("600 x 600")


# ---------------------------------------------------------------- relaxed marginals


def test_growth_of_two_islands_is_recovered(rng: Rng) -> None:
    """Far islands exchange nothing; with both marginals relaxed alike each keeps sqrt(source x target) of mass."""
    sizes_a, sizes_b, far = (600, 600), (900, 300), 100.0
    a, b = (
        np.concatenate([rng.normal(size=(k, 3)) * 1e-2 + far * island for island, k in enumerate(s)])
        for s in (sizes_a, sizes_b)
    )
    plan, notes = large.plan(a, b, tau=(1.0, inf))
    growth = plan.sum(axis=1) * len(a)
    np.testing.assert_allclose(plan.sum(axis=0), 1 / len(b), rtol=1e-5)
    assert growth[:600].mean() == pytest.approx(1.5, rel=1e-3)
    assert growth[600:].mean() == pytest.approx(0.5, rel=1e-3)
    both, _ = large.plan(a, b, tau=(1.0, 1.0))
    assert both[:600].sum() == pytest.approx(np.sqrt(0.5 * 0.75), rel=1e-2)
    assert both[600:].sum() == pytest.approx(np.sqrt(0.5 * 0.25), rel=1e-2)
    assert notes["gap"] < 0.02


@pytest.mark.parametrize("tau", [(3.0, 3.0), (1.0, 10.0)])
def test_relaxed_plans_cost_little_more_than_the_best(tau: tuple[float, float], rng: Rng) -> None:
    """The oracle minimises the same objective, without entropy, by majorisation (Chapel et al. 2021)."""
    a, b = islands(150, 120, 5, rng)
    cost, weights = cdist(a, b, "sqeuclidean"), Masses(np.full(150, 1 / 150), np.full(120, 1 / 120))
    plan, notes = large.plan(a, b, tau=tau)
    ours = penalised(plan.toarray(), cost, weights, tau)
    best = penalised(
        ot.unbalanced.mm_unbalanced(*weights, cost, tau, div="kl", numItermax=10_000, stopThr=1e-14), cost, weights, tau
    )
    assert ours <= best * 1.03
    assert ours * (1 - notes["gap"]) <= best * (1 + 1e-6)  # the certificate holds


def penalised(plan: np.ndarray, cost: np.ndarray, weights: Masses, tau: tuple[float, float]) -> float:
    return certificate.objective(sparse.coo_array(plan), cost[plan != 0], weights, tau)


def test_entropy_spreads_the_mass_as_sinkhorn_does(rng: Rng) -> None:
    a, b = islands(200, 250, 4, rng)
    cost = cdist(a, b, "sqeuclidean")
    plan, notes = large.plan(a, b, epsilon=0.2)
    oracle = ot.sinkhorn([], [], cost, 0.2, method="sinkhorn_log", numItermax=5000, stopThr=1e-12)
    np.testing.assert_allclose(plan.toarray(), oracle, atol=2e-3 / 200)
    assert notes["converged"]
    assert notes["target_error"] < 1e-3
    assert plan.nnz > 5 * (200 + 250)


# ---------------------------------------------------------------- its parts


@pytest.mark.parametrize("dims", [1, 3, 30])
def test_cheapest_partners_are_the_nearest_of_lifted_points(dims: int, rng: Rng) -> None:
    """A price is a squared distance along one more axis."""
    x, y = rng.normal(size=(300, dims)).astype(np.float32), rng.normal(size=(700, dims)).astype(np.float32)
    price = rng.normal(size=700)
    found = candidates.cheapest(x, y, price, 7)
    lifted = NearestNeighbors(n_neighbors=7).fit(np.c_[y, np.sqrt(price.max() - price)])
    distance, rows = lifted.kneighbors(np.c_[x, np.zeros(300)])
    np.testing.assert_array_equal(found.rows, rows)
    np.testing.assert_allclose(found.cost, distance**2 - price.max(), atol=1e-4)


def test_a_longer_reach_finds_more_partners_and_two_fifths_find_nine_in_ten(rng: Rng) -> None:
    cells = [hierarchy.hierarchy(x.astype(np.float32), np.ones(len(x)), rng).x for x in islands(2000, 4000, 10, rng)]
    price = 0.1 * rng.normal(size=4000)
    whole, *parts = (candidates.cheapest(*cells, price, 8, reach=reach).rows for reach in (None, 400, 800, 1600))
    found = [np.mean([np.isin(p, w).mean() for p, w in zip(part, whole, strict=True)]) for part in parts]
    assert found == sorted(found)
    assert found[-1] > 0.9


@settings(max_examples=10)
@given(n=st.integers(1, 100), dims=st.integers(1, 5), seed=st.integers(0, 10**6))
def test_a_hierarchy_keeps_cells_and_mass(n: int, dims: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    x, w = rng.normal(size=(n, dims)).astype(np.float32), uniform(rng, n)
    tree = hierarchy.hierarchy(x, w, rng)
    assert sorted(tree.order) == list(range(n))
    np.testing.assert_array_equal(tree.x, x[tree.order])
    for k, bounds in enumerate(tree.levels):
        centre, mass = tree.nodes(k)
        assert np.ptp(np.diff(bounds)) <= 1
        assert set(bounds) <= set(tree.levels[-1])
        np.testing.assert_allclose(mass.sum(), 1)
        np.testing.assert_allclose(mass @ centre, w @ x, atol=1e-5)
    assert len(tree.levels[-1]) == n + 1


def test_a_hierarchy_splits_across_the_widest_direction(rng: Rng) -> None:
    x = rng.normal(size=(501, 6)) * np.array([1, 1, 9, 1, 1, 1.0])
    tree = hierarchy.hierarchy(x.astype(np.float32), np.ones(501), rng)
    left, right = np.split(tree.x[:, 2], [tree.levels[1][1]])
    assert abs(len(left) - len(right)) == 1
    assert min(left.mean(), right.mean()) < -6
    assert max(left.mean(), right.mean()) > 6


def test_arcs_are_solved_as_a_linear_programme(rng: Rng) -> None:
    a, b = (rng.normal(size=(n, 2)).astype(np.float32) for n in (12, 9))
    rows, columns = np.nonzero(rng.random((12, 9)) < 0.6)
    rows, columns = np.r_[rows, np.repeat(np.arange(12), 9)[::5]], np.r_[columns, np.tile(np.arange(9), 12)[::5]]
    arcs = Arcs(a, b, rows, columns)
    m = Masses(uniform(rng, 12), uniform(rng, 9))
    start = Potentials(rng.normal(size=12), rng.normal(size=9))
    plan, p, complaints = arcs.exact(start, m)
    equal = sparse.vstack([sparse.eye_array(12).tocsr()[:, arcs.rows], sparse.eye_array(9).tocsr()[:, arcs.columns]])
    oracle = linprog(arcs.cost, A_eq=equal, b_eq=np.r_[m.a, m.b])
    paid = plan.data @ ((a[plan.coords[0]] - b[plan.coords[1]]) ** 2).sum(axis=1)
    assert paid == pytest.approx(oracle.fun, rel=1e-6)
    assert p.f @ m.a + p.g @ m.b == pytest.approx(oracle.fun, rel=1e-5)
    assert complaints == []


def test_arcs_without_a_way_complain(rng: Rng) -> None:
    a, b = (rng.normal(size=(2, 2)).astype(np.float32) for _ in range(2))
    arcs = Arcs(a, b, np.arange(2), np.arange(2))
    zero = Potentials(np.zeros(2), np.zeros(2))
    assert arcs.exact(zero, Masses(np.array([0.7, 0.3]), np.array([0.3, 0.7])))[2]


def test_levels_go_from_few_nodes_to_all_cells(rng: Rng) -> None:
    trees = [hierarchy.hierarchy(rng.normal(size=(n, 2)).astype(np.float32), np.ones(n), rng) for n in (3000, 40)]
    assert list(multiscale.sizes(*trees)) == [256, 1024, 3000]
    small = [hierarchy.hierarchy(rng.normal(size=(n, 2)).astype(np.float32), np.ones(n), rng) for n in (50, 40)]
    assert list(multiscale.sizes(*small)) == [50]


# ---------------------------------------------------------------- memory, errors, real cells

MEMORY = """
import resource, numpy as np
from embryo.couple import large
rng = np.random.default_rng(0)
large.plan(*rng.normal(size=(2, 500, 3)))
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
plan, _ = large.plan(*rng.normal(size=(2, 6000, 3)))
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before, plan.nnz)
"""


def test_memory_is_linear() -> None:
    """6,000 x 6,000 costs would be 275 MiB."""
    done = subprocess.run([sys.executable, "-c", MEMORY], capture_output=True, text=True, check=True)
    kibibytes, pairs = map(int, done.stdout.split())
    assert kibibytes < 100 * 1024
    assert pairs < 2 * 6000


def test_everything_that_is_wrong_is_said_at_once() -> None:
    a, b = np.zeros((3, 2)), np.full((2, 3), np.nan)
    with pytest.raises(SchemaError) as caught:
        large.plan(a, b, weight_a=np.array([1.0, -1.0, 1.0]), tau=(0.0, inf))
    assert len(caught.value.problems) == 4


@pytest.mark.real
@pytest.mark.parametrize("name", ["embryoid-body", "emt", "mouse-blastocyst-wt"])
def test_real_cells_are_coupled_as_by_exact_transport(name: str, real: Callable, rng: Rng) -> None:
    adata = real(name)
    times = np.unique(adata.obs[schema.TIME])
    x = np.asarray(adata.X.toarray() if sparse.issparse(adata.X) else adata.X, float)
    x = (x - x.mean(axis=0)) / x.std(axis=0).mean()
    a, b = (rng.permutation(x[adata.obs[schema.TIME] == t])[:1000, :50] for t in times[:2])
    best = ot.emd2([], [], cdist(a, b, "sqeuclidean"), numItermax=10**7)
    assert large.plan(a, b)[1]["cost"] <= best * 1.005


def test_many_far_islands_are_coupled_at_every_level() -> None:
    """Forty islands in 50 dimensions whose shares change: once the prices of a coarse level came to nothing here."""
    rng = np.random.default_rng(0)
    middle = 3 * rng.normal(size=(40, 50))
    shares = rng.dirichlet(np.full(40, 5.0))
    a = middle[rng.integers(40, size=3000)] + rng.normal(size=(3000, 50))
    b = middle[rng.choice(40, size=3000, p=shares)] + rng.normal(size=(40, 50))[0] + rng.normal(size=(3000, 50))
    plan, notes = large.plan(a / 10, b / 10)
    assert notes["converged"]
    assert notes["gap"] < 0.02
    np.testing.assert_allclose(plan.sum(axis=1), 1 / 3000, rtol=1e-6)


@pytest.mark.parametrize("tau", [(np.inf, np.inf), (1.0, 10.0), (np.inf, 1.0), (1.0, np.inf)])
def test_beyond_the_simplex_plans_cost_hardly_more(tau: tuple[float, float], monkeypatch: pytest.MonkeyPatch) -> None:
    """Where there are too many cells for the network simplex, next to no entropy takes its place."""
    rng = np.random.default_rng(3)
    a, b = (rng.normal(size=(n, 10)) + 2 * rng.integers(0, 3, size=(n, 1)) for n in (2000, 1500))
    exact, notes = large.plan(a, b, tau=tau)
    monkeypatch.setattr(multiscale, "_EXACT", 1000)
    nearly, said = large.plan(a, b, tau=tau)
    assert said["converged"]
    if np.isinf(tau).all():  # else the one carries less far than the other
        assert said["cost"] == pytest.approx(notes["cost"], rel=2e-3)
    assert said["gap"] < notes["gap"] + 2e-3
    assert nearly.nnz < 4 * exact.nnz
    held = [k for k in (0, 1) if np.isinf(tau[k])]
    for k in held:
        mass = np.asarray(nearly.sum(axis=1 - k)).ravel() * nearly.shape[k]
        np.testing.assert_allclose(mass, 1.0, atol=1e-9 if k == max(held) else 0.05)
