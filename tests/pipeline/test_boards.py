from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from scipy import sparse

from embryo.config import Read
from embryo.core import schema
from embryo.core.errors import ConfigError, SchemaError
from embryo.pipeline import boards


def cells(x: np.ndarray, kind: str = "log1p", **columns: object) -> ad.AnnData:
    obs = pd.DataFrame({schema.TIME: np.arange(len(x)) * 1.0, schema.EMBRYO: "e", **columns})
    obs.index = [f"c{i}" for i in range(len(x))]
    uns = {schema.META: {"time_unit": "h", "expression": kind, "organism": "Mus musculus"}}
    var = pd.DataFrame(index=[f"g{i}" for i in range(x.shape[1])])
    return ad.AnnData(sparse.csr_matrix(x.astype(np.float32)), obs=obs, var=var, uns=uns)


def test_counts_come_back_from_levels_of_one_factor_per_cell(rng: np.random.Generator) -> None:
    counts = rng.poisson(1.0, (50, 80))
    counts[:, 0] = 1  # every cell has a gene with one count
    factor = rng.uniform(0.3, 9, (50, 1))
    back = boards.recover_counts(cells(np.log1p(counts / factor)))
    np.testing.assert_array_equal(back.layers[schema.COUNTS].toarray(), counts)
    assert schema.meta(back)["expression"] == "counts"


def test_levels_that_are_no_counts_are_refused(rng: np.random.Generator) -> None:
    with pytest.raises(SchemaError, match="no multiples"):
        boards.recover_counts(cells(np.log1p(rng.uniform(0.1, 5, (20, 30)))))
    with pytest.raises(SchemaError, match="kind 'relative'"):
        boards.recover_counts(cells(np.log1p(np.ones((3, 2))), kind="relative"))


def test_one_row_per_name_is_the_mean_of_its_rows() -> None:
    x = np.array([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]])
    one = boards.one_per(cells(x, cell=["b", "a", "b"]), "cell")
    assert list(one.obs_names) == ["b", "a"]
    np.testing.assert_allclose(one.X, [[3, 4], [3, 4]])
    np.testing.assert_allclose(one.obs[schema.TIME], [1, 1])


def test_columns_are_derived_by_the_first_group() -> None:
    how = boards.Derive(column="cell", pattern="(AB[a-z]{3}|MS[ap])", other="early")
    found = boards.derived(pd.Series(["ABalapp", "MSpa", "MS", "P1", "xABala"]), how)
    assert list(found) == ["ABala", "MSp", "early", "early", "early"]
    with pytest.raises(ConfigError, match="regular expression"):
        boards.derived(pd.Series(["a"]), boards.Derive(column="c", pattern="("))


def test_a_board_says_what_it_did(tmp_path: Path, rng: np.random.Generator) -> None:
    x = rng.poisson(2.0, (60, 5))
    x[:3] = 0
    adata = cells(x, kind="counts")
    adata.layers[schema.COUNTS] = adata.X.copy()
    adata.write_h5ad(tmp_path / "cells.h5ad")
    board = boards.Board(
        name="b", read=Read(path=tmp_path / "cells.h5ad"), drop_genes=["g4"], max_cells=20, notes=["mind the gap"]
    )
    loaded = boards.load(board, seed=0)
    assert loaded.cells.shape == (20, 4)
    assert loaded.notes[0] == "mind the gap"
    said = " ".join(loaded.notes)
    for words in ("Genes left out: g4", "cells without expression left out", "20 of 5"):
        assert words in said
    assert list(boards.load(board, seed=0).cells.obs_names) == list(loaded.cells.obs_names)
    with pytest.raises(ConfigError, match="no gene 'none'"):
        boards.load(board.model_copy(update={"drop_genes": ["none"]}), seed=0)
    with pytest.raises(ConfigError, match="synthetic"):
        boards.load(boards.Board(name="b"), seed=0)
