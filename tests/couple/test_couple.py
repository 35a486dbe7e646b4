import anndata as ad
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linear_sum_assignment
from scipy.spatial.distance import cdist

from embryo import couple
from embryo.core import schema
from embryo.core.errors import SchemaError, StaleError


def clouds(n: int, m: int, seed: int = 0, space: bool = True) -> ad.AnnData:
    rng = np.random.default_rng(seed)
    adata = ad.AnnData(np.zeros((n + m, 1), np.float32))
    adata.obs[schema.TIME] = np.r_[np.zeros(n), np.full(m, 2.0)]
    adata.obsm[schema.EMBED] = rng.normal(size=(n + m, 3))
    if space:
        adata.obsm[schema.SPATIAL] = adata.obsm[schema.ALIGNED] = 50 * rng.normal(size=(n + m, 3))
    return adata


@pytest.mark.parametrize("weight", [0.0, 0.5, 1.0])
def test_exact_transport_agrees_with_linear_sum_assignment(weight: float) -> None:
    adata = clouds(60, 60)
    (c,) = couple.series(adata, transport=couple.Transport(space_weight=weight))
    z, x = adata.obsm[schema.EMBED], adata.obsm[schema.ALIGNED]
    cost = sum(
        w * d / d.mean()
        for w, d in ((1 - weight, cdist(z[:60], z[60:], "sqeuclidean")), (weight, cdist(x[:60], x[60:], "sqeuclidean")))
    )
    i, j = linear_sum_assignment(cost)
    np.testing.assert_array_equal(c.plan.toarray().argmax(1)[i], j)
    assert c.diagnostics["cost"] == pytest.approx(cost[i, j].mean())
    assert c.diagnostics["converged"]


@settings(max_examples=25)
@given(
    n=st.integers(2, 40),
    m=st.integers(2, 40),
    seed=st.integers(0, 10**6),
    solver=st.sampled_from(["exact", "unbalanced"]),
)
def test_plan_sums_to_the_growth(n: int, m: int, seed: int, solver: str) -> None:
    adata = clouds(n, m, seed)
    options = couple.Transport(solver=solver, epsilon=0.1)
    (c,) = couple.series(adata, transport=options)
    assert c.plan.sum() == pytest.approx(m)
    assert (c.t0_h, c.t1_h) == (0.0, 2.0)
    if solver == "exact":
        np.testing.assert_allclose(c.descendants, m / n, rtol=1e-9)
        np.testing.assert_allclose(c.plan.sum(axis=0), 1, rtol=1e-9)
        np.testing.assert_allclose(c.growth, np.log(m / n) / 2, atol=1e-9)


def test_counts_that_do_not_grow() -> None:
    (c,) = couple.series(clouds(20, 60), transport=couple.Transport(counts_grow=False))
    np.testing.assert_allclose(c.growth, 0, atol=1e-12)


def test_unbalanced_transport_gives_more_mass_to_the_population_that_expands() -> None:
    rng = np.random.default_rng(0)
    adata = clouds(100, 100, space=False)
    early = np.r_[np.zeros(50), np.full(50, 10.0)]
    late = np.r_[np.zeros(20), np.full(80, 10.0)]
    adata.obsm[schema.EMBED] = np.r_[early, late][:, None] + 0.1 * rng.normal(size=(200, 1))
    (exact,) = couple.series(adata, transport=couple.Transport(space_weight=0.0))
    (free,) = couple.series(adata, transport=couple.Transport(solver="unbalanced", space_weight=0.0, tau=0.05))
    np.testing.assert_allclose(exact.descendants, 1)
    ratio = free.descendants[50:].mean() / free.descendants[:50].mean()
    assert ratio == pytest.approx(4, rel=0.15)


def lineage() -> ad.AnnData:
    """Two embryos; in the first, P divides into Pa and Pp, which divides again; the track of Q ends."""
    rows = [
        ("e1", 0.0, "P", ""), ("e1", 0.0, "Q", ""), ("e1", 0.0, "R", ""),
        ("e1", 1.0, "Pa", "P"), ("e1", 1.0, "Pp", "P"), ("e1", 1.0, "R", ""),
        ("e1", 2.0, "Pa", "P"), ("e1", 2.0, "Ppa", "Pp"), ("e1", 2.0, "Ppp", "Pp"),
        ("e1", 2.0, "R", ""), ("e1", 2.0, "N", ""),
        ("e2", 0.0, "P", ""), ("e2", 1.0, "P", ""),
    ]  # fmt: skip
    adata = ad.AnnData(np.zeros((len(rows), 1), np.float32))
    for slot, values in zip(
        (schema.EMBRYO, schema.TIME, schema.CELL, schema.PARENT), zip(*rows, strict=True), strict=True
    ):
        adata.obs[slot] = list(values)
    return adata


def test_tracks_follow_divisions_inside_each_embryo() -> None:
    first, second = couple.series(lineage())
    name = lineage().obs[schema.CELL].to_numpy() + lineage().obs[schema.EMBRYO].to_numpy()
    i, j = first.plan.tocoo().coords
    links = set(zip(name[first.sources[i]], name[first.targets[j]], strict=True))
    assert links == {("Pe1", "Pae1"), ("Pe1", "Ppe1"), ("Re1", "Re1"), ("Pe2", "Pe2")}
    assert dict(zip(name[first.sources], first.descendants, strict=True)) == {"Pe1": 2, "Re1": 1, "Pe2": 1}
    np.testing.assert_allclose(first.plan.sum(axis=0), 1)
    assert first.diagnostics["sources_without_descendants"] == 1
    assert second.diagnostics["targets_without_ancestor"] == 1


def test_tracks_bridge_a_generation_that_was_not_sampled() -> None:
    adata = lineage()
    coarse = adata[adata.obs[schema.TIME] != 1.0].copy()
    coarse.obs[schema.PARENT] = coarse.obs[schema.PARENT].replace({"Pp": "P", "P": "P"})
    (c,) = couple.series(coarse, method="tracks")
    assert c.descendants.max() == 3


def test_auto_takes_transport_where_names_do_not_link() -> None:
    adata = clouds(10, 10)
    adata.obs[schema.EMBRYO] = "e"
    adata.obs[schema.CELL] = [f"c{i}" for i in range(20)]
    (c,) = couple.series(adata)
    assert c.diagnostics["method"] == "transport/exact"
    with pytest.raises(SchemaError, match=r"name the track columns"):
        couple.series(adata, method="tracks")


def test_transport_needs_fresh_slots_and_two_times() -> None:
    adata = clouds(5, 5)
    del adata.obsm[schema.ALIGNED], adata.obsm[schema.EMBED]
    with pytest.raises(StaleError, match=r"X_embed.*embed\.cells"):
        couple.series(adata)
    one = clouds(5, 5)[:5].copy()
    with pytest.raises(SchemaError, match="one time point"):
        couple.series(one)


def test_large_populations_are_subsampled_with_the_seed_where_all_pairs_are_needed_and_growth_stays() -> None:
    adata = clouds(100, 200)
    adata.obs[schema.CELL_TYPE] = "a"
    options = couple.Transport(max_cells=30, transitions={"a": {"a": 0.0}})
    a, b, c = (couple.series(adata, transport=options, seed=s)[0] for s in (0, 0, 1))
    np.testing.assert_array_equal(a.sources, b.sources)
    assert not np.array_equal(a.sources, c.sources)
    np.testing.assert_allclose(a.growth, np.log(2) / 2)


@pytest.mark.parametrize(("solver", "align"), [("exact", "no"), ("exact", "near"), ("unbalanced", "no")])
def test_large_populations_are_coupled_whole_at_nearly_the_same_cost(solver: str, align: str) -> None:
    adata = clouds(300, 400)
    whole, linear = (
        couple.series(adata, transport=couple.Transport(solver=solver, align=align, epsilon=0.05, max_cells=most))[0]
        for most in (2000, 100)
    )
    assert linear.plan.shape == (300, 400)
    assert linear.descendants.sum() == pytest.approx(400, rel=1e-6)
    assert linear.diagnostics["cost"] == pytest.approx(whole.diagnostics["cost"], rel=0.05)
    if solver == "unbalanced":
        assert np.corrcoef(linear.descendants, whole.descendants)[0, 1] > 0.95
