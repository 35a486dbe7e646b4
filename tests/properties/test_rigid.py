"""The whole way from cells to a roll-out follows a rigid motion of the input, and nothing else of its pose."""

import anndata as ad
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from embryo import couple, fit, reconstruct, simulate
from embryo.core import schema
from embryo.core.frame import Rigid


def series(seed: int = 0, cells: int = 60) -> ad.AnnData:
    """Two tracked embryos that drift, shear and express genes by place."""
    rng = np.random.default_rng(seed)
    x0 = rng.normal(size=(cells, 3)) * [60, 30, 20]
    names = [f"c{i}" for i in range(cells)]
    parts = []
    for embryo in ("a", "b"):
        for t in (0.0, 1.0, 2.0):
            x = x0 * (1 + 0.1 * t) + 5 * t * np.tanh(x0[:, [1, 2, 0]] / 20) + rng.normal(size=(cells, 3))
            part = ad.AnnData(np.tanh(x0 / 40).astype(np.float32))
            part.obs[schema.TIME], part.obs[schema.EMBRYO], part.obs[schema.CELL] = t, embryo, names
            part.obsm[schema.SPATIAL] = x
            parts.append(part)
    adata = ad.concat(parts, index_unique="-", keys=[str(i) for i in range(len(parts))])
    adata.uns[schema.META] = {
        "time_unit": "h",
        "space_unit": "um",
        "frame": "raw",
        "expression": "relative",
        "named": True,
    }
    adata.obsm[schema.EMBED] = adata.obsm[schema.PANEL] = np.asarray(adata.X)
    return adata


def predicted(adata: ad.AnnData) -> np.ndarray:
    """Roll embryo b forward and return its end in its own raw frame."""
    reconstruct.body_frame(adata, reference="a", until_h={"b": 0.0})
    train = np.flatnonzero(adata.obs[schema.EMBRYO] == "a")
    field = fit.flow(
        adata[train], couple.series(adata[train], method="tracks"), fit.Training(steps=30, width=16, batch=64)
    )
    rows = np.flatnonzero((adata.obs[schema.EMBRYO] == "b") & (adata.obs[schema.TIME] == 0))
    run = simulate.forward(field, fit.states(adata[rows]), [0.0, 2.0], step_h=0.25)
    return reconstruct.to_raw(run.x[-1].numpy().astype(float), reconstruct.motion(adata, "b"))


@settings(max_examples=5)
@given(seed=st.integers(0, 10**6))
@pytest.mark.filterwarnings("ignore:Observation names are not unique")
def test_a_rigid_motion_of_the_input_moves_the_output_rigidly(seed: int) -> None:
    rng = np.random.default_rng(seed)
    motion = Rigid(Rotation.random(random_state=seed).as_matrix(), rng.normal(size=3) * 100)
    still, moved = series(), series()
    rows = (moved.obs[schema.EMBRYO] == "b").to_numpy()
    x = np.asarray(moved.obsm[schema.SPATIAL]).copy()
    x[rows] = motion(x[rows])
    moved.obsm[schema.SPATIAL] = x
    torch.testing.assert_close(
        torch.as_tensor(predicted(moved)), torch.as_tensor(motion(predicted(still))), rtol=0, atol=1e-2
    )


@pytest.mark.filterwarnings("ignore:Observation names are not unique")
def test_the_future_of_a_held_out_embryo_changes_nothing() -> None:
    """What embryo b does after its start reaches neither the alignment nor the fit nor the roll-out: bit for bit."""
    honest, lied = series(), series()
    future = ((lied.obs[schema.EMBRYO] == "b") & (lied.obs[schema.TIME] > 0)).to_numpy()
    x, z = (np.array(lied.obsm[slot]) for slot in (schema.SPATIAL, schema.EMBED))
    x[future] = x[future][::-1] * 3 + 500
    z[future] = -7
    lied.obsm[schema.SPATIAL], lied.obsm[schema.EMBED], lied.obsm[schema.PANEL] = x, z, z
    np.testing.assert_array_equal(predicted(lied), predicted(honest))
