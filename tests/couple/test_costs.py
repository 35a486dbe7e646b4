"""Costs against scipy's distances and hand-made niches."""

import anndata as ad
import numpy as np
import pytest
from scipy.spatial.distance import cdist

from embryo.core import schema
from embryo.core.errors import SchemaError
from embryo.couple import Niche, Transport, costs

INF = float("inf")


def cells(n: int = 30, seed: int = 0) -> ad.AnnData:
    rng = np.random.default_rng(seed)
    adata = ad.AnnData(np.zeros((n, 1), np.float32))
    adata.obs[schema.TIME] = np.repeat([0.0, 1.0], n // 2)
    adata.obs[schema.CELL_TYPE] = np.array(["a", "b", "c"])[rng.integers(3, size=n)]
    adata.obsm[schema.EMBED] = rng.normal(size=(n, 4))
    adata.obsm[schema.SPATIAL] = adata.obsm[schema.ALIGNED] = 40 * rng.normal(size=(n, 3)) + 9
    adata.obsm[schema.PANEL] = rng.uniform(size=(n, 2))
    adata.uns[schema.META] = {"panel": ["lig", "rec"]}
    return adata


EARLY, LATE = np.arange(15), np.arange(15, 30)


@pytest.mark.parametrize("space", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("near", [0.0, 0.25])
def test_squared_distance_of_the_features_is_the_fused_cost(space: float, near: float) -> None:
    adata = cells()
    niche = Niche(weight=near, of="z", neighbours=3) if near else None
    pair = costs.populations(adata, EARLY, LATE, Transport(space_weight=space, niche=niche))
    blocks = [((1 - near) * (1 - space), adata.obsm[schema.EMBED]), ((1 - near) * space, adata.obsm[schema.ALIGNED])]
    if niche is not None:
        blocks.append((near, costs.surroundings(adata, np.arange(30), niche)))
    squares = [(w, cdist(v[EARLY], v[LATE], "sqeuclidean")) for w, v in blocks]
    wanted = sum(w * d / d.mean() for w, d in squares)
    np.testing.assert_allclose(costs.squares(*pair.features()), wanted, rtol=1e-9, atol=1e-12)
    assert wanted.mean() == pytest.approx(1)


def test_mean_square_needs_no_pairs() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(9, 3)) + 1e4, rng.normal(size=(7, 3)) + 1e4
    assert costs.mean_square(a, b) == pytest.approx(cdist(a, b, "sqeuclidean").mean(), rel=1e-9)
    same = np.ones((3, 2))
    assert costs.mean_square(same, same) == 0


def test_features_that_never_differ_cost_nothing() -> None:
    adata = cells()
    adata.obsm[schema.EMBED][:] = 5.0
    pair = costs.populations(adata, EARLY, LATE, Transport(space_weight=0.5))
    assert costs.squares(*pair.features()).mean() == pytest.approx(0.5)


def test_a_niche_is_the_composition_of_the_nearest_and_ignores_other_embryos() -> None:
    adata = ad.AnnData(np.zeros((8, 1), np.float32))
    adata.obs[schema.TIME] = 0.0
    adata.obs[schema.EMBRYO] = list("eeeeffff")
    adata.obs[schema.CELL_TYPE] = list("abbcaaac")
    line = np.array([0.0, 1.0, 2.1, 9.0])
    adata.obsm[schema.ALIGNED] = np.c_[np.r_[line, line], np.zeros((8, 2))]
    seen = costs.surroundings(adata, np.arange(8), Niche(neighbours=2))
    np.testing.assert_allclose(seen[:4], [[0, 1, 0], [0.5, 0.5, 0], [0.5, 0.5, 0], [0, 1, 0]])
    np.testing.assert_allclose(seen[4:], [[1, 0, 0]] * 4)


def test_signals_need_ligand_around_and_receptor_in_the_cell() -> None:
    adata = cells()
    g = adata.obsm[schema.PANEL]
    g[:] = 0
    x = adata.obsm[schema.ALIGNED]
    near = np.linalg.norm(x[EARLY] - x[0], axis=1).argsort()[1]
    g[near, 0], g[0, 1] = 4.0, 9.0
    seen = costs.surroundings(adata, EARLY, Niche(of="signals", neighbours=1, pairs=(("lig", "rec"),)))
    assert seen[0, 0] == pytest.approx(6)
    assert np.count_nonzero(seen) == 1


def test_features_of_the_users_own() -> None:
    adata = cells()
    adata.obsm["mine"] = np.arange(30.0)[:, None]
    np.testing.assert_array_equal(costs.surroundings(adata, LATE, Niche(of="mine"))[:, 0], LATE)


@pytest.mark.parametrize(
    ("niche", "text"),
    [
        (Niche(of="mine"), r"obsm\['mine'\].*write it"),
        (Niche(of="signals", pairs=(("lig", "no"),)), r"signals of no.*panel"),
        (Niche(of="signals"), r"no pair"),
    ],
)
def test_what_a_niche_lacks_is_named(niche: Niche, text: str) -> None:
    with pytest.raises(SchemaError, match=text):
        costs.surroundings(cells(), EARLY, niche)


def test_penalties_of_types() -> None:
    adata = cells()
    kind = adata.obs[schema.CELL_TYPE].to_numpy()
    table = {"a": {"b": 2.0, "*": INF}, "*": {"a": 0.5}}
    found = costs.penalties(adata, EARLY, LATE, table)
    for i, p in enumerate(kind[EARLY]):
        for j, q in enumerate(kind[LATE]):
            assert found[i, j] == ({"b": 2.0}.get(q, INF) if p == "a" else {"a": 0.5}.get(q, 0.0))


def test_mistakes_in_penalties_are_listed_together() -> None:
    with pytest.raises(SchemaError, match=r"(?s)types d, e.*some of a, b, c.*negative or NaN"):
        costs.penalties(cells(), EARLY, LATE, {"d": {"a": -1.0}, "a": {"e": 1.0}})
    adata = cells()
    del adata.obs[schema.CELL_TYPE]
    with pytest.raises(SchemaError, match="without types"):
        costs.penalties(adata, EARLY, LATE, {"a": {"b": 1.0}})
