"""A circuit law out of cells and couplings: the synthetic embryo is the oracle."""

import numpy as np
import pytest
import torch

from embryo import couple, fit, simulate
from embryo.core import schema
from embryo.core.errors import SchemaError
from embryo.datasets import synthetic
from embryo.fields.circuit import Ligands
from embryo.fit.circuit import Phase
from embryo.fit.regulated import stages_of

QUICK = fit.Training(steps=40, width=16, batch=64)


@pytest.fixture(scope="module")
def cells():
    params = synthetic.Params(n_cells=250, mechanics=None, growth=None)
    seen = synthetic.Measurement(random_pose=False, n_genes=18, tracks=True)
    adata = synthetic.generate(n_embryos=2, seed=3, times_h=(0.0, 1.0, 2.0, 3.0, 4.0), params=params, measurement=seen)
    level = np.asarray(adata.obsm["truth_g"], dtype=np.float32)
    adata.obsm[schema.PANEL] = np.log1p(level)
    adata.obsm[schema.EMBED] = np.log1p(level)[:, :5]
    adata.obsm[schema.ALIGNED] = np.asarray(adata.obsm[schema.SPATIAL])
    adata.uns[schema.META] = {**adata.uns[schema.META], "panel": list(synthetic.PANEL)}
    return adata


@pytest.fixture(scope="module")
def pairs(cells):
    return fit.pairs(cells, couple.series(cells, method="tracks"))


@pytest.fixture(scope="module")
def law(cells, pairs):
    phases = (Phase(iterations=60), Phase(weak=0.0, windows=(1,), iterations=20, decay=True))
    settings = fit.Settings(cells=100, places=15, phases=phases)
    wiring = fit.Wiring(("ligand",), settings=settings)
    return fit.regulated(cells, pairs, QUICK, wiring, torch.eye(18)[:, :5])


def test_stages_hold_levels_in_units_and_places_in_the_own_body(cells) -> None:
    series = stages_of(cells, torch.ones(18), Ligands())
    assert series.times_h == (0.0, 1.0, 2.0, 3.0, 4.0)
    for stage in series.stages:
        for k in (0, 1):
            own = stage.material[stage.embryo == k]
            torch.testing.assert_close(own.mean(0), torch.zeros(3).double(), rtol=0, atol=1e-6)
            torch.testing.assert_close(own.std(0, correction=0), torch.ones(3).double(), rtol=1e-6, atol=1e-6)
    assert float(series.stages[-1].y.max()) == pytest.approx(float(np.asarray(cells.obsm["truth_g"]).max()), rel=1e-4)


def test_rolled_cells_are_nearer_to_what_follows_than_cells_that_stay(cells, law) -> None:
    t = cells.obs[schema.TIME].to_numpy(float)
    start = fit.states(cells[t == 1.0])
    end = simulate.forward(law.begun(start, 1.0), start, [1.0, 4.0], step_h=0.25).g[-1].expm1()
    truth = np.asarray(cells.obsm["truth_g"])[t == 4.0].mean(0)
    gone = np.abs(truth - start.g.expm1().numpy().mean(0)).mean()
    assert np.abs(truth - end.numpy().mean(0)).mean() < 0.5 * gone
    assert (law.decay_per_h > 0.2).all()
    assert (law.decay_per_h < 4.0).all()


def test_only_the_circuit_reads_genes(law) -> None:
    assert law.place.reads == ("x",)
    assert law.birth.reads == ("g",)


def test_what_is_missing_is_said_at_once(cells, pairs) -> None:
    flat = cells[cells.obs[schema.TIME] == 0.0].copy()
    flat.obsm[schema.ALIGNED] = flat.obsm[schema.ALIGNED][:, :2]
    with pytest.raises(SchemaError) as error:
        fit.regulated(flat, pairs, QUICK, fit.Wiring(("wnt",)), torch.eye(18)[:, :5])
    assert [p.found for p in error.value.problems] == ["ligand 'wnt'", "2 columns of positions", "1 stage"]
