import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from sklearn.decomposition import PCA
from sklearn.linear_model import RidgeCV

from embryo.encoders import stage2
from embryo.encoders.inputs import normalise
from embryo.encoders.stage2 import Comparison, Split, floors
from embryo.encoders.stage2.series import Series
from embryo.encoders.stage2.training import train_series

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
        for model in ("stage 2", "train mean", "ridge on PCA", "random body, trained alike", "random body, frozen")
    }
    assert rows.loc[("val", "train mean"), "error_h"] == pytest.approx(17.5)
    assert rows.loc[("test", "train mean"), "error_h"] == pytest.approx(2.5)
    assert rows.loc[("test", "ridge on PCA"), "error_h"] < 2.5
    assert (rows["seeds"] == 2).all()
    assert (rows["embryos"] == 2).all()
    assert found.weights == "random"


def test_the_random_body_is_trained_as_the_model_is(encoder, series, settings):
    """Its errors are those of `train` with a random body and else the same settings."""
    adata, how = series(), settings(seed=3)
    table = stage2.compare(encoder, adata, SPLIT, how, seeds=(3,)).table
    data = Series.read(encoder, adata, SPLIT, 16)
    asked = data.questions("test", how.context, 3)
    label = np.array([data.label(q) for q in asked])
    for name, settings_of in (("random body, trained alike", how), ("random body, frozen", replace(how, frozen=True))):
        network = train_series(encoder, data, SPLIT, settings_of, random=True)
        error = np.abs(floors.answer(network, data, asked) - label)
        part = table[(table["model"] == name) & (table["role"] == "test")]
        assert np.average(part["error_h"], weights=part["cells"]) == pytest.approx(error.mean())


def test_where_the_model_is_frozen_one_random_body_is_enough(encoder, series, settings):
    found = stage2.compare(encoder, series(), SPLIT, settings(frozen=True), seeds=(0,))
    assert set(found.table["model"]) == {"stage 2", "train mean", "ridge on PCA", "random body, frozen"}


class StoppedError(Exception):
    pass


def test_a_stopped_comparison_goes_on_where_it_was(encoder, series, settings, tmp_path):
    adata, how, seen = series(), settings(steps=4, keep_every=2), []
    whole = stage2.compare(encoder, adata, SPLIT, how, seeds=(0, 1))
    stage2.train(encoder, adata, SPLIT, how, folder=tmp_path)

    def stop(now):
        seen.append(now.step)
        if len(seen) == 7:  # in the second floor of the first seed: 4 steps and 3
            raise StoppedError

    with pytest.raises(StoppedError):
        stage2.compare(encoder, adata, SPLIT, how, seeds=(0, 1), folder=tmp_path, progress=stop)
    assert seen == [1, 2, 3, 4, 1, 2, 3]  # the first seed's model was trained already
    again = stage2.compare(
        encoder, adata, SPLIT, how, seeds=(0, 1), folder=tmp_path, progress=lambda p: seen.append(p.step)
    )
    assert seen[7:] == [3, 4, *[1, 2, 3, 4] * 3]  # 2 steps of the frozen body were on disk
    pd.testing.assert_frame_equal(again.table, whole.table)
    third = stage2.compare(
        encoder, adata, SPLIT, how, seeds=(0, 1), folder=tmp_path, progress=lambda p: pytest.fail(str(p))
    )
    pd.testing.assert_frame_equal(third.table, whole.table)
    names = {path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*") if path.is_file()}
    judged = {
        f"judged/{n}-{s}.json" for n in ("stage-2", "random-body-trained-alike", "random-body-frozen") for s in (0, 1)
    }
    assert names == {"stage2.json", "stage2.safetensors"} | judged
    assert stage2.load(tmp_path, encoder).record["settings"]["seed"] == 0


@pytest.mark.parametrize("change", ["held-out cells", "settings", "Stage 1"])
def test_what_was_judged_of_another_comparison_is_not_taken(encoder, series, settings, tmp_path, change):
    adata, how = series(), settings()
    stage2.compare(encoder, adata, SPLIT, how, seeds=(0,), folder=tmp_path)
    pages = sorted((tmp_path / "judged").iterdir())
    before = [json.loads(page.read_text())["key"] for page in pages]
    if change == "held-out cells":
        adata = adata[(adata.obs["time"] != 30.0).to_numpy() | (np.arange(adata.n_obs) % 3 > 0)].copy()
    elif change == "settings":
        how = replace(how, rate=1e-3)
    else:
        encoder.weights = replace(encoder.weights, files={"model.safetensors": "another"})
    found = stage2.compare(encoder, adata, SPLIT, how, seeds=(0,), folder=tmp_path)
    after = [json.loads(page.read_text())["key"] for page in pages]
    assert not set(before) & set(after)
    pd.testing.assert_frame_equal(found.table, stage2.compare(encoder, adata, SPLIT, how, seeds=(0,)).table)
