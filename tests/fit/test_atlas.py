"""Atlases of made-up named embryos: what is gathered against `Lineage`, what is chosen against the law behind them."""

import numpy as np
import pandas as pd
import pytest
from anndata import AnnData

from embryo.core import schema
from embryo.core.errors import SchemaError
from embryo.evaluate.lineage import Lineage
from embryo.fit.atlas import atlas

TIMES = (1.0, 1.5, 2.0)
CELLS, SPREAD = 24, np.array([25.0, 14.0, 9.0])


def tracked_embryos(
    n: int = 24, *, share: float = 0.7, noise: float = 0.1, seed: int = 0, divide: bool = True, named: bool = True
) -> AnnData:
    """Cells c00 .. that move, with deviations of which a share stays; the first six divide after the first time."""
    rng = np.random.default_rng(0)
    mean, drift = rng.normal(size=(CELLS, 3)) * SPREAD, rng.normal(size=(CELLS, 3)) * 4
    rng = np.random.default_rng(seed + 1)
    rows, x = [], []
    for e in range(n):
        own = rng.normal(0, 1, (CELLS, 3))
        for t in TIMES:
            s = t - TIMES[0]
            here = mean + s * drift + (share ** (s > 0)) * own + rng.normal(0, noise * (s > 0), (CELLS, 3))
            for k in range(CELLS):
                daughters = ("a", "p") if divide and k < 6 and s > 0 else ("",)
                for j, letter in enumerate(daughters):
                    rows.append((t, f"e{seed}-{e:02d}", f"c{k:02d}{letter}", f"c{k:02d}" if letter else ""))
                    x.append(here[k] + (2 * j - 1) * len(letter))
    columns = [schema.TIME, schema.EMBRYO, schema.CELL, schema.PARENT]
    obs = pd.DataFrame(rows, columns=columns, index=[str(k) for k in range(len(rows))])
    adata = AnnData(obs=obs, obsm={schema.ALIGNED: np.array(x, np.float32), schema.SPATIAL: np.array(x, np.float32)})
    adata.uns[schema.META] = {"time_unit": "h", "space_unit": "um", "frame": "body", "named": named}
    return adata


def test_places_are_those_of_the_lineage() -> None:
    adata = tracked_embryos(4)
    adata = adata[np.random.default_rng(0).random(adata.n_obs) < 0.9].copy()  # tracks with holes
    adata.obs[schema.CELL] = adata.obs[schema.CELL].astype(str)
    found, lineage = atlas(adata), Lineage(adata)
    for e, embryo in enumerate(found.embryos):
        for k, t in enumerate(found.times_h):
            expected = lineage.positions(embryo, np.array(found.cells), float(t), 1e-3, fallback=True)
            assert found.x[e, k] == pytest.approx(expected, abs=1e-4, nan_ok=True)
    numbers = found.numbers(2.0)[list(found.cells).index("c00")]
    alive = adata[(adata.obs[schema.TIME] == 2.0) & adata.obs[schema.CELL].isin(["c00a", "c00p"])]
    assert numbers == pytest.approx(alive.n_obs / 4)


def test_a_generation_between_the_kept_times_does_not_cut_the_line() -> None:
    adata = tracked_embryos(3)
    late = adata[adata.obs[schema.TIME] == 2.0].copy()  # once more, a generation on
    late.obs[schema.PARENT] = late.obs[schema.CELL].to_numpy()
    late.obs[schema.CELL] = (late.obs[schema.CELL].astype(str) + "x").to_numpy()
    late.obs[schema.TIME] = 2.5
    late.obs_names = "late" + late.obs_names
    both = AnnData(
        obs=pd.concat([adata.obs, late.obs]),
        obsm={schema.ALIGNED: np.concatenate([adata.obsm[schema.ALIGNED], late.obsm[schema.ALIGNED]])},
        uns=adata.uns,
    )
    found = atlas(both, start_h=1.0, horizons_h=[1.5])
    assert "c00a" not in found.cells
    assert found.parents[found.cells.index("c00ax")] == "c00"


@pytest.mark.parametrize(
    ("share", "noise", "kind"), [(0.0, 1.0, "position"), (1.0, 0.0, "regression"), (0.6, 0.1, "regression")]
)
def test_what_the_law_says_is_chosen(share: float, noise: float, kind: str) -> None:
    found = atlas(tracked_embryos(20, share=share, noise=noise), start_h=1.0, horizons_h=[0.5, 1.0])
    assert [(r.t0_h, r.t1_h) for r in found.rules] == [(1.0, 1.5), (1.0, 2.0)]
    if share == 1.0:  # the whole displacement, by that name or by regression
        kinds = {r.kind for r in found.rules}
        assert kinds <= {"displacement", "regression"}
    elif kind == "position":  # nothing to carry: no forecast by deviations may be far from the mean
        assert all(r.kind == "position" or r.penalty > 1 for r in found.rules)
    else:
        assert {r.kind for r in found.rules} == {kind}


def test_the_same_seed_the_same_atlas() -> None:
    a, b = (atlas(tracked_embryos(8), start_h=1.0, horizons_h=[1.0], seed=3) for _ in range(2))
    assert a.rules == b.rules
    assert np.array_equal(a.x, b.x, equal_nan=True)


def test_two_embryos_leave_nothing_to_choose() -> None:
    assert atlas(tracked_embryos(2), start_h=1.0, horizons_h=[1.0]).rules[0].kind == "displacement"


def test_the_embedding_is_kept_by_name() -> None:
    adata = tracked_embryos(3, divide=False)
    code = pd.factorize(adata.obs[schema.CELL])[0]
    noise = np.random.default_rng(0).normal(0, 0.1, (adata.n_obs, 2))
    adata.obsm[schema.EMBED] = (np.stack([code, -code], axis=1) + noise).astype(np.float32)
    found = atlas(adata)
    assert np.abs(found.z[0, :, 0] - np.arange(CELLS)).max() < 0.3
    assert found.noise == pytest.approx([0.1 * np.sqrt(2 / 3)] * 2, rel=0.25)


def test_what_cannot_be_used_is_told() -> None:
    with pytest.raises(SchemaError, match="one embryo"):
        atlas(tracked_embryos(1))
    with pytest.raises(SchemaError, match="tracks, not identities"):
        atlas(tracked_embryos(3, named=False))
    with pytest.raises(SchemaError, match="no cells at 5 h"):
        atlas(tracked_embryos(3), start_h=5.0)
    bare = tracked_embryos(3)
    del bare.obsm[schema.ALIGNED]
    with pytest.raises(SchemaError, match="spatial_aligned"):
        atlas(bare)
