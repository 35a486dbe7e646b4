"""The contract: a whole AnnData has no problems, a broken one has them all, and odd input never raises."""

import time
from typing import Any

import numpy as np
import pandas as pd
import pytest
from anndata import AnnData
from broken import make
from broken.odd import odd
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse

from embryo.core import schema
from embryo.core.errors import Problem, SchemaError
from embryo.core.schema import Needs

EVERYTHING = Needs(
    times=2, counts=True, space=True, aligned=True, embed=True, panel=True, cell_types=True, tracks=True, slices=True,
    complete=True,
)  # fmt: skip


def complete() -> AnnData:
    """Return cells that have everything a step may need."""
    adata = make.whole()
    adata.obs["slice"] = pd.Categorical(np.arange(make.N) % 3 + 1)
    adata.obsm["spatial_aligned"] = adata.obsm["spatial"].copy()
    adata.obsm["X_embed"] = np.arange(make.N * 4.0).reshape(make.N, 4)
    adata.obsm["X_panel"] = np.ones((make.N, 2))
    adata.uns["embryo"] |= {"panel": ["wnt", "bmp"], "motions": {"e0": np.eye(3), "e1": np.eye(3)[[1, 2, 0]]}}
    return adata


@st.composite
def valid(draw: st.DrawFn) -> AnnData:
    """Embryos of any number, size and pace, with or without names, in 2D or 3D, dense or sparse."""
    embryos, times, cells = draw(st.integers(1, 3)), draw(st.integers(2, 4)), draw(st.integers(1, 12))
    dims, genes = draw(st.sampled_from([2, 3])), draw(st.integers(0, 4))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    n = embryos * times * cells
    e, t, c = (a.ravel() for a in np.indices((embryos, times, cells)))
    obs = pd.DataFrame({"time": t * draw(st.floats(0.01, 100)) + draw(st.floats(-10, 10)), "embryo": e.astype(str)})
    obs.index = [f"row{k}" for k in range(n)]
    if draw(st.booleans()):
        obs["cell"] = [f"c{k}" for k in c]
    if draw(st.booleans()):
        obs["embryo"] = obs["embryo"].astype("category")
    grid = np.stack(np.unravel_index(rng.permutation(27)[:cells], (3, 3, 3)), axis=1)[:, :dims]  # cells keep apart
    x = (grid[c] + 0.1 * rng.normal(size=(n, dims))) * draw(st.floats(30, 500))
    counts: Any = rng.poisson(2, size=(n, genes)) + 1
    counts = sparse.csr_array(counts) if draw(st.booleans()) else counts
    adata = AnnData(counts, obs=obs, obsm={"spatial": x}, layers={"counts": counts.copy()})
    adata.uns["embryo"] = {"time_unit": "h", "space_unit": "um", "frame": "raw", "expression": "counts"}
    return adata


@given(valid())
@settings(max_examples=50)
def test_valid_data_have_no_problems(adata: AnnData) -> None:
    needs = Needs(space=True, counts=adata.n_vars > 0, tracks="cell" in adata.obs)
    assert schema.check(adata, needs) == []


@given(valid(), st.randoms(use_true_random=False))
@settings(max_examples=25)
def test_order_of_cells_does_not_matter(adata: AnnData, random: Any) -> None:
    order = list(range(adata.n_obs))
    random.shuffle(order)
    assert schema.check(adata[order].copy()) == []
    adata.obs["time"] = 1.0
    adata.obsm["spatial"] *= 1e-6
    kinds = sorted(p.expected for p in schema.check(adata))
    assert len(kinds) >= 1
    assert sorted(p.expected for p in schema.check(adata[order].copy())) == kinds


def test_all_needs_can_be_met() -> None:
    assert schema.check(complete(), EVERYTHING) == []


@pytest.mark.parametrize(
    ("need", "found", "cure"),
    [
        ("counts", 'no layers["counts"]', "config read.keys.counts"),
        ("space", 'no obsm["spatial"]', "--key space="),
        ("aligned", 'no obsm["spatial_aligned"]', "embryo.reconstruct.body_frame"),
        ("embed", 'no obsm["X_embed"]', "embryo.embed.cells"),
        ("panel", 'no obsm["X_panel"]', "embryo.embed.panel"),
        ("cell_types", 'no obs["cell_type"]', "read.keys.cell_type"),
        ("tracks", 'no obs["cell"]', "read.keys.cell"),
        ("slices", 'no obs["slice"]', "read.keys.slice"),
    ],
)
def test_each_need_has_its_problem(need: str, found: str, cure: str) -> None:
    bare = AnnData(obs=pd.DataFrame({"time": [0.0, 1.0]}, index=["a", "b"]))
    bare.uns["embryo"] = {"time_unit": "h"}
    assert schema.check(bare) == []
    (problem,) = schema.check(bare, Needs(**{need: True}))
    assert problem.found.startswith(found)
    assert cure in problem.cure


def test_every_problem_is_listed_at_once() -> None:
    adata = make.foreign()
    del adata.obs["time"]
    adata.var_names = ["a", "a", "b", "c", "d", "e"]
    adata.obs_names = ["twin", "twin", *adata.obs_names[2:]]
    adata.obsm["spatial"][5] = np.nan
    adata.layers["counts"].data[:7] = -1
    adata.X.data[3] = np.inf
    found = [problem.found for problem in schema.check(adata)]
    for start in (
        "units missing: no time_unit",
        "units missing: no space_unit",
        "expression None",
        'no obs["time"]',
        "1 duplicate gene name: a",
        "1 duplicate cell name in obs_names: twin",
        'NaN or infinite values of obsm["spatial"] in 1 of 270 cells (rows 5:',
        "0 NaN and 1 infinite values in X",
        '7 negative values in layers["counts"] (lowest -1)',
    ):
        assert sum(f.startswith(start) for f in found) == 1, found
    assert len(found) == 9


def test_require_raises_with_all_problems_and_the_subject() -> None:
    adata = make.foreign()
    schema.require(make.whole())
    with pytest.raises(SchemaError) as caught:
        schema.require(adata, subject="atlas")
    assert list(caught.value.problems) == schema.check(adata)
    assert str(caught.value).startswith(f"atlas: {len(caught.value.problems)} problems\n  1. ")


@given(odd(), st.booleans())
@pytest.mark.filterwarnings("ignore:overflow encountered", "ignore:invalid value encountered")
def test_odd_input_has_problems_and_never_raises(adata: AnnData, everything: bool) -> None:
    found = schema.check(adata, EVERYTHING if everything else Needs())
    assert found
    assert all(isinstance(problem, Problem) for problem in found)
    assert all(str(problem) for problem in found)


def test_two_columns_of_one_name() -> None:
    adata = make.whole()
    adata.obs = pd.concat([adata.obs, adata.obs[["time"]]], axis=1)
    assert [p.found for p in schema.check(adata)] == ["columns twice in obs: time"]


def test_the_input_is_not_modified() -> None:
    adata = complete()
    before = adata.copy()
    schema.check(adata, EVERYTHING)
    pd.testing.assert_frame_equal(adata.obs, before.obs)
    assert (adata.X != before.X).nnz == 0
    assert all(np.array_equal(adata.obsm[k], before.obsm[k]) for k in before.obsm)
    assert str(adata.uns) == str(before.uns)


def test_sparse_matrices_stay_sparse() -> None:
    """Dense, this matrix would take 400 TB."""
    n, genes = 10**5, 10**9
    x = sparse.csr_matrix((np.array([2.0, -1.0]), (np.array([0, 5]), np.array([7, genes - 1]))), shape=(n, genes))
    problems = list(schema.matrices.problems(x, "X", counts=True, signed=False))
    assert [p.found for p in problems] == ["1 negative values in X (lowest -1)"]


def test_a_million_cells_take_seconds() -> None:
    n, rng = 10**6, np.random.default_rng(0)
    counts = sparse.random_array((n, 40), density=0.1, format="csr", dtype=np.float32, rng=rng)
    counts.data = np.ceil(counts.data * 5)
    cell = np.arange(n) % 50_000
    obs = pd.DataFrame(
        {
            "time": (np.arange(n) // 50_000 % 10).astype(float),
            "embryo": np.arange(n) // 500_000,
            "cell": cell.astype(str),
        }
    )
    obs.index = obs.index.astype(str)
    x = rng.normal(size=(50_000, 3))[cell] * 100
    adata = AnnData(counts, obs=obs.astype({"embryo": "category"}), obsm={"spatial": x}, layers={"counts": counts})
    adata.uns["embryo"] = {"time_unit": "h", "space_unit": "um", "expression": "counts"}
    start = time.perf_counter()
    assert schema.check(adata, Needs(space=True, tracks=True)) == []
    assert time.perf_counter() - start < 30  # about 3 s on one core of 2026
