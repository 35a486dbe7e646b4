import numpy as np
import pandas as pd
import pytest
from sklearn.decomposition import PCA
from sklearn.linear_model import RidgeCV

from embryo.encoders import stage2
from embryo.encoders.inputs import normalise
from embryo.encoders.stage2 import Comparison, Split, floors
from embryo.encoders.stage2.series import Series

SPLIT = Split(val=(10.0,), test=(30.0,))


def table(**errors):
    """One error per model, seed and embryo."""
    rows = [
        {"model": model, "seed": seed, "role": "test", "stage_h": 30.0, "embryo": f"E{k}", "cells": 5, "error_h": e}
        for model, parts in errors.items()
        for seed, each in enumerate(parts)
        for k, e in enumerate(each)
    ]
    return Comparison(pd.DataFrame(rows), "random")


def test_the_summary_is_over_embryos_then_seeds():
    found = table(a=[[1.0, 3.0], [4.0, 6.0]]).summary().iloc[0]
    assert found[["error_h", "lowest", "highest", "seeds", "embryos"]].tolist() == [3.5, 2.0, 5.0, 2, 2]


@pytest.mark.parametrize(
    ("model", "floor", "says"),
    [
        ([[1.0, 1.2, 0.9]], [[5.0, 5.1, 4.8]], "better than ridge on PCA"),
        ([[1.0, 9.0, 2.0]], [[5.0, 5.1, 4.8]], "not better than ridge on PCA"),
        ([[9.0, 9.0, 9.0]], [[5.0, 5.0, 5.0]], "not better than ridge on PCA"),
        ([[1.0]], [[5.0]], "not shown to be better than ridge on PCA"),
    ],
)
def test_the_verdict_is_paired_by_embryo(model, floor, says):
    found = table(**{"stage 2": model, "ridge on PCA": floor, "train mean": [[20.0] * len(floor[0])]})
    assert found.verdict("test").startswith(says)
    assert "weights: random" in str(found)


def test_the_interval_is_that_of_t():
    """Differences 4, 3 and 5: mean 4, standard error 1/sqrt(3), t 4.3027."""
    found = table(**{"stage 2": [[1.0, 2.0, 0.0]], "train mean": [[5.0, 5.0, 5.0]]})
    assert "+4 h against train mean, 95% 1.52 to 6.48 over 3 embryos" in found.verdict("test")


def test_the_ridge_is_sklearns_on_training_cells_only(encoder, series):
    adata = series()
    data = Series.read(encoder, adata, SPLIT, 16)
    train = data.of("train")
    values = np.asarray(normalise.log1p_normalised(adata).toarray())
    pca = PCA(14, svd_solver="full").fit(values[train])
    z = pca.transform(values)
    z = (z - z[train].mean(0)) / z[train].std(0)
    line = RidgeCV(alphas=np.logspace(-3, 3, 13)).fit(z[train], data.time_h[train])
    np.testing.assert_allclose(floors.ridge(data, adata), line.predict(z), atol=1e-4)


def test_every_row_stands_beside_its_floors(encoder, series, settings):
    """The train mean by hand: stages 0, 20, 40, 50, so that it errs by 17.5 h at 10 h and by 2.5 h at 30 h."""
    found = stage2.compare(encoder, series(), SPLIT, settings(), seeds=(0, 1))
    rows = found.summary().set_index(["role", "model"])
    assert set(rows.index) == {
        (role, model)
        for role in ("val", "test")
        for model in ("stage 2", "train mean", "ridge on PCA", "random body, frozen")
    }
    assert rows.loc[("val", "train mean"), "error_h"] == pytest.approx(17.5)
    assert rows.loc[("test", "train mean"), "error_h"] == pytest.approx(2.5)
    assert rows.loc[("test", "ridge on PCA"), "error_h"] < 2.5
    assert (rows["seeds"] == 2).all()
    assert (rows["embryos"] == 2).all()
    assert found.weights == "random"
