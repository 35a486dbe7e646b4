from typing import Any

import numpy as np
import pandas as pd
import pytest
from anndata import AnnData

from embryo.core.errors import SchemaError
from embryo.evaluate.time.series import Series


def measured(**columns: Any) -> AnnData:
    n = 12
    rng = np.random.default_rng(0)
    obs = {"time": np.repeat([3.0, 1.0, 2.0], [6, 2, 4]), "embryo": ["a", "b"] * 6, **columns}
    adata = AnnData(obs=pd.DataFrame(obs, index=[str(k) for k in range(n)]))
    adata.obsm["X_embed"] = rng.normal(size=(n, 3))
    adata.obsm["spatial_aligned"] = rng.normal(size=(n, 2))
    return adata


def test_stages_stand_in_order_of_time_with_their_rows() -> None:
    adata = measured(cell_type=pd.Categorical(["u", None] * 6))
    series = Series.of(adata, counts_grow=False)
    assert series.times_h == (1.0, 2.0, 3.0)
    assert [len(s) for s in series.states] == [2, 4, 6]
    np.testing.assert_array_equal(series.at(3.0).z, adata.obsm["X_embed"][:6].astype(np.float32))
    np.testing.assert_array_equal(series.at(1.0).x, adata.obsm["spatial_aligned"][6:8].astype(np.float32))
    assert list(series.labels[0]) == ["u", ""]
    assert list(series.groups[1]) == ["a", "b", "a", "b"]
    assert series.states[0].g.shape == (2, 0)
    assert series.space == 2


def test_mass_is_cells_per_embryo_where_counts_grow() -> None:
    adata = measured()
    np.testing.assert_allclose(Series.of(adata, counts_grow=False).numbers, 1, rtol=1e-6)
    np.testing.assert_allclose(Series.of(adata, counts_grow=True).numbers, [1, 2, 3], rtol=1e-6)
    sampled = Series.of(adata, counts_grow=True, numbers={1.0: 10.0, 2.0: 40.0, 3.0: 90.0})
    np.testing.assert_allclose(sampled.numbers, [10, 40, 90], rtol=1e-6)


def test_flanks_and_holding_out() -> None:
    series = Series.of(measured(), counts_grow=True)
    assert series.flanks(2.0) == (0, 2)
    assert series.flanks(2.5) == (1, 2)
    assert series.flanks(0.0) == (None, 0)
    assert series.flanks(9.0) == (2, None)
    short = series.without(1)
    assert short.times_h == (1.0, 3.0)
    assert short.index(2.0) is None
    assert short.index(3.0 + 1e-9) == 1
    assert series.without(-1).times_h == (1.0, 2.0)
    with pytest.raises(SchemaError, match="no stage at 2 h"):
        short.at(2.0)


def test_what_does_not_fit_together_is_refused() -> None:
    s = Series.of(measured(), counts_grow=True)
    with pytest.raises(SchemaError, match="rising times"):
        Series(s.times_h[::-1], s.states, s.labels, s.groups, s.counts_grow)
    with pytest.raises(SchemaError, match="2 labels for 3 times"):
        Series(s.times_h, s.states, s.labels[:2], s.groups, s.counts_grow)
    with pytest.raises(SchemaError, match="one each per cell"):
        Series(s.times_h, s.states, s.labels[::-1], s.groups, s.counts_grow)
    adata = measured()
    del adata.obsm["X_embed"]
    with pytest.raises(SchemaError, match="embed"):
        Series.of(adata, counts_grow=True)
