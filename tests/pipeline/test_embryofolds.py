"""Whole embryos held out, fold by fold."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from anndata import AnnData

from embryo import datasets
from embryo.config import Embed, Read
from embryo.core import schema
from embryo.core.errors import ConfigError
from embryo.pipeline import embryofolds, timeboards
from embryo.pipeline.timeboards import TimeBoard

EMBRYOS = [f"e{k}" for k in range(6)]


@pytest.fixture
def adata(rng: np.random.Generator) -> AnnData:
    """Six embryos of 20 named cells that move; twice as many cells from 1 h on."""
    rows = []
    place = rng.normal(size=(40, 3)) * [40, 20, 10]
    for e in EMBRYOS:
        for t in (0.0, 0.5, 1.0, 1.5):
            rows += [(t, e, f"c{c}", *(place[c] + t + rng.normal(size=3))) for c in range(40 if t >= 1 else 20)]
    table = pd.DataFrame(rows, columns=[schema.TIME, schema.EMBRYO, schema.CELL, "x", "y", "z"])
    obs = table.iloc[:, :3].set_index(pd.Index([f"r{k}" for k in range(len(table))]))
    adata = AnnData(rng.normal(size=(len(obs), 4)).astype(np.float32), obs=obs)
    adata.obsm[schema.SPATIAL] = table[["x", "y", "z"]].to_numpy()
    adata.uns[schema.META] = {"time_unit": "h", "space_unit": "um", "expression": "relative", "named": True}
    return adata


def board(**kw: object) -> TimeBoard:
    given = {
        "name": "b", "kind": "embryos", "read": Read(dataset="emt"), "embed": Embed(encoder="pca", dims=2),
        "horizons_h": [0.5], **kw,
    }  # fmt: skip
    return TimeBoard.model_validate(given)


def test_every_embryo_is_held_out_once(adata: AnnData) -> None:
    parts = embryofolds.held_out(adata, board(held_out_embryos=3), seed=0)
    assert sorted(name for part in parts for name in part) == EMBRYOS
    assert embryofolds.held_out(adata, board(held_out_embryos=["e1"]), seed=0) == [("e1",)]


@pytest.mark.parametrize("wanted", [1, 7, ["e9"], EMBRYOS[:5]])
def test_folds_that_cannot_be_are_told(adata: AnnData, wanted: object) -> None:
    with pytest.raises(ConfigError, match="board b"):
        embryofolds.held_out(adata, board(held_out_embryos=wanted), seed=0)


def test_the_start_is_when_about_ninety_cells_live_and_a_horizon_is_left(adata: AnnData) -> None:
    assert embryofolds.start_h(adata, board()) == 1.0
    assert embryofolds.start_h(adata, board(start_h=0.25)) == 0.25


def test_what_lies_after_the_start_of_a_held_out_embryo_changes_nothing_but_itself(adata: AnnData) -> None:
    how = board(start_h=0.5)
    ((train, test),) = embryofolds.folds(adata, how, 0, [("e2",)])
    late = ((adata.obs[schema.EMBRYO] == "e2") & (adata.obs[schema.TIME] > 0.5)).to_numpy()
    other = adata.copy()
    other.obsm[schema.SPATIAL][late] += 500.0
    other.X[late] += 9.0
    ((again, moved),) = embryofolds.folds(other, how, 0, [("e2",)])
    assert set(train.obs[schema.EMBRYO]) == set(EMBRYOS) - {"e2"}
    for slot in (schema.ALIGNED, schema.EMBED):
        np.testing.assert_array_equal(train.obsm[slot], again.obsm[slot])
    start = (test.obs[schema.TIME] <= 0.5).to_numpy()
    np.testing.assert_array_equal(test.obsm[schema.ALIGNED][start], moved.obsm[schema.ALIGNED][start])
    assert not np.allclose(test.obsm[schema.ALIGNED][~start], moved.obsm[schema.ALIGNED][~start])


def test_what_is_made_across_embryos_is_made_anew_and_asked_the_same(
    adata: AnnData, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The converter is told who is held out and until when it may look; the board's filters hold in every fold."""
    adata.obs[schema.PERTURBATION] = np.where(adata.obs[schema.EMBRYO] == "e5", "knockout a", "")
    adata.obsm["elsewhere"] = adata.obsm[schema.SPATIAL] * 2.0
    asked: list[dict[str, Any]] = []

    def load(name: str, **params: Any) -> AnnData:
        assert name == "celegans-epic"
        asked.append(params)
        return adata.copy()

    monkeypatch.setattr(datasets, "load", load)
    read = Read(dataset="celegans-epic", params={"step_min": 15}, start_h=0.5, end_h=1.2)
    how = board(read=read, positions="elsewhere", horizons_h=[0.5], start_h=0.5)
    cells = timeboards.load(how, 0)
    parts = [("e0", "e1"), ("e2",)]
    made = list(embryofolds.folds(cells, how, 0, parts))
    told = {"step_min": 15, "synchronise_until_h": 0.5}
    assert asked == [{"step_min": 15}, {**told, "held_out": ["e0", "e1"]}, {**told, "held_out": ["e2"]}]
    for (train, test), held in zip(made, parts, strict=True):
        assert set(test.obs[schema.EMBRYO]) == set(held)
        assert set(train.obs[schema.EMBRYO]) == set(EMBRYOS) - {"e5", *held}
        assert set(train.obs[schema.TIME]) == {0.5, 1.0}
        np.testing.assert_array_equal(train.obsm[schema.SPATIAL], adata[train.obs_names].obsm["elsewhere"])


def test_a_file_of_ones_own_is_not_read_again(adata: AnnData, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(datasets, "load", None)  # calling it would fail
    how = board(read=Read(dataset="celegans-epic", path=tmp_path / "own.h5ad"), start_h=0.5)
    ((train, _),) = embryofolds.folds(adata, how, 0, [("e2",)])
    assert set(train.obs[schema.EMBRYO]) == set(EMBRYOS) - {"e2"}
