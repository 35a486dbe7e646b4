"""Plans as expected numbers of descendants: growth, what is on the way, and targets that nothing reaches."""

import anndata as ad
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse

from embryo.core import schema
from embryo.core.errors import SchemaError
from embryo.couple import Transport, transport
from embryo.couple.unpaired import descent

INF = float("inf")


def cells(early: np.ndarray, late: np.ndarray) -> ad.AnnData:
    adata = ad.AnnData(np.zeros((len(early) + len(late), 1), np.float32))
    adata.obs[schema.TIME] = np.r_[np.zeros(len(early)), np.ones(len(late))]
    adata.obsm[schema.EMBED] = np.r_[early, late].reshape(len(adata), -1)
    return adata


@settings(max_examples=20, deadline=None)
@given(
    n=st.integers(2, 20),
    m=st.integers(2, 20),
    seed=st.integers(0, 10**6),
    growth=st.floats(0.2, 5),
    tau=st.sampled_from([(1.0, INF), (0.3, 0.3), (2.0, 0.5)]),
)
def test_every_target_descends_from_someone(n: int, m: int, seed: int, growth: float, tau: tuple[float, float]) -> None:
    rng = np.random.default_rng(seed)
    adata = cells(rng.normal(size=(n, 2)), rng.normal(size=(m, 2)))
    options = Transport(solver="unbalanced", epsilon=0.05, tau=tau[0], tau_target=tau[1])
    c = transport(adata, np.arange(n), n + np.arange(m), options=options, growth=growth)
    np.testing.assert_allclose(c.plan.sum(axis=0), growth * n / m, rtol=1e-6)
    assert c.descendants.sum() == pytest.approx(growth * n, rel=1e-6)
    np.testing.assert_allclose(c.at(0.0).sum(axis=1), 1, rtol=1e-9)
    np.testing.assert_allclose(c.at(0.5).sum(axis=1), np.sqrt(c.descendants), rtol=1e-9)
    np.testing.assert_allclose(c.at(1.0).toarray(), c.plan.toarray(), rtol=1e-12)


@pytest.mark.parametrize("tau_target", [INF, 0.1])
def test_growth_is_read_off_the_plan(tau_target: float) -> None:
    """Of two groups far apart one doubles while the other halves; what targets relax comes back as growth."""
    rng = np.random.default_rng(0)
    early, late = np.repeat([0.0, 10.0], [40, 40]), np.repeat([0.0, 10.0], [20, 80])
    adata = cells(early + 0.1 * rng.normal(size=80), late + 0.1 * rng.normal(size=100))
    options = Transport(solver="unbalanced", tau=0.1, tau_target=tau_target)
    c = transport(adata, np.arange(80), np.arange(80, 180), options=options, growth=1.25)
    assert c.descendants[:40].mean() == pytest.approx(0.5, rel=0.1)
    assert c.descendants[40:].mean() == pytest.approx(2, rel=0.1)
    middle = c.at(0.5)
    assert middle[:40].sum() / middle.sum() == pytest.approx(1 / 3, abs=0.03)  # geometric means: 0.707 against 1.414


def test_forbidden_transitions_carry_nothing_and_orphans_are_left_out() -> None:
    rng = np.random.default_rng(0)
    adata = cells(rng.normal(size=(20, 2)), rng.normal(size=(20, 2)))
    adata.obs[schema.CELL_TYPE] = ["a", "b"] * 10 + ["a", "b"] * 9 + ["c", "c"]
    options = Transport(solver="unbalanced", transitions={"*": {"c": INF}, "a": {"b": INF, "c": INF}})
    c = transport(adata, np.arange(20), np.arange(20, 40), options=options)
    kind = adata.obs[schema.CELL_TYPE].to_numpy()
    i, j = c.plan.tocoo().coords
    found = set(zip(kind[c.sources[i]], kind[c.targets[j]], strict=True))
    assert found == {("a", "a"), ("b", "a"), ("b", "b")}
    assert len(c.targets) == 18
    none = Transport(solver="unbalanced", transitions={"*": {"*": INF}})
    with pytest.raises(SchemaError, match="no allowed pair"):
        transport(adata, np.arange(20), np.arange(20, 40), options=none)


def test_descent_by_hand() -> None:
    plan = sparse.csr_array(np.array([[0.2, 0.1, 0.0], [0.2, 0.0, 0.0]]))
    found, sources, targets = descent(plan, 3.0, np.array([4, 5]), np.array([7, 8, 9]))
    np.testing.assert_allclose(found.toarray(), [[1, 2], [1, 0]])
    np.testing.assert_array_equal(targets, [7, 8])
    np.testing.assert_array_equal(sources, [4, 5])
