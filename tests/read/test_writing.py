"""Writing the checked AnnData: exact round trips, whole or not at all."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from anndata import AnnData
from broken import make
from broken.make import same
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse

from embryo import read
from embryo.core.errors import SchemaError, StoreError
from embryo.core.schema import Needs
from embryo.read import Keys

UM = Keys(time_unit="h", space_unit="um")
ANY = Needs(times=1)


@pytest.mark.parametrize("suffix", [".h5ad", ".zarr"])
@given(st.booleans(), st.integers(0, 9), st.sampled_from([2, 3]))
@settings(max_examples=3)
def test_writing_then_reading_is_exact(
    suffix: str, tmp_path_factory: pytest.TempPathFactory, compact: bool, seed: int, dims: int
) -> None:
    rng = np.random.default_rng(seed)
    obs = pd.DataFrame({"time": rng.random(12) * 50, "mother": [None, *"abcdefghijk"], "track": np.arange(12)})
    obs["note"], obs["level"], obs["seen"] = ["free text", 3, None] * 4, rng.random(12), obs["track"] % 2 == 0
    obs.index = [f"cell {k}" for k in range(12)]
    counts = rng.poisson(4, size=(12, 5)) + 1.0
    adata = AnnData(sparse.csr_matrix(counts) if compact else counts, obs=obs)
    adata.obsm["spatial"] = rng.normal(size=(12, dims)) * 33
    made = read.adopt(adata, UM)
    folder = tmp_path_factory.mktemp("round")
    path = read.write(made, folder / f"cells{suffix}")
    again = read.auto(path)
    same(made, again)
    assert again.uns["embryo"]["read"] == made.uns["embryo"]["read"]
    assert [p.name for p in folder.iterdir()] == [path.name]


def test_what_breaks_the_contract_is_not_written(tmp_path: Path) -> None:
    with pytest.raises(SchemaError, match=r"out\.h5ad: 3 problems"):
        read.write(make.foreign(), tmp_path / "out.h5ad")
    with pytest.raises(StoreError, match=r"the ending \.csv; expected \.h5ad or \.zarr"):
        read.write(make.whole(), tmp_path / "out.csv")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("suffix", [".h5ad", ".zarr"])
def test_a_failed_write_leaves_the_old_file(suffix: str, tmp_path: Path) -> None:
    path = read.write(make.whole(), tmp_path / f"cells{suffix}")
    bad = make.whole()
    bad.uns["thing"] = object()
    with pytest.raises(StoreError, match=rf"values that \{suffix} cannot hold .*To cure it"):
        read.write(bad, path)
    same(read.auto(path), make.whole())
    assert [p.name for p in tmp_path.iterdir()] == [path.name]


@pytest.mark.parametrize("suffix", [".h5ad", ".zarr"])
def test_writing_replaces_and_does_not_modify(suffix: str, tmp_path: Path) -> None:
    path = read.write(make.whole(), tmp_path / f"cells{suffix}")
    other = read.adopt(make.foreign()[make.foreign().obs["time"] > 7].copy(), UM)
    other.obs["note"] = "text"
    kind = other.obs["note"].dtype
    read.write(other, path)
    assert other.obs["note"].dtype == kind  # anndata would make it a category
    assert read.auto(path).n_obs == other.n_obs
    assert [p.name for p in tmp_path.iterdir()] == [path.name]


def test_one_time_can_be_written_and_read_where_it_is_enough(tmp_path: Path) -> None:
    adata = read.adopt(make.whole()[make.whole().obs["time"] == 8].copy(), needs=ANY)
    path = read.write(adata, tmp_path / "one.h5ad")
    assert read.auto(path, needs=ANY).n_obs == adata.n_obs
    with pytest.raises(SchemaError, match="1 distinct time"):
        read.auto(path)
