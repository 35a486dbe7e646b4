"""MOSTA and CELLxGENE layouts, on small files of the same layout."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from anndata import AnnData
from scipy import sparse

from embryo.core import schema
from embryo.core.errors import SchemaError
from embryo.datasets import cellxgene, mosta


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)


def section(rng: np.random.Generator, spots: int = 6, genes: tuple[str, ...] = ("Actb", "Shh", "T")) -> AnnData:
    counts = sparse.csr_matrix(rng.poisson(3, (spots, len(genes))).astype(np.float64))
    obs = pd.DataFrame({"annotation": ["Heart", "Brain"] * (spots // 2)}, index=[f"{k}_{-k}" for k in range(spots)])
    grid = np.column_stack([np.arange(spots) + 100.0, -(np.arange(spots) ** 2) - 200.0])
    adata = AnnData(counts.copy(), obs=obs, var=pd.DataFrame(index=list(genes)), obsm={"spatial": grid})
    adata.layers["count"] = counts
    adata.X = np.log1p(counts.toarray())
    return adata


def test_mosta(tmp_path: Path, rng: np.random.Generator) -> None:
    early, late = section(rng), section(rng, 8, ("T", "Shh", "Hbb-bt"))
    early.write_h5ad(tmp_path / "E9.5_E1S1.MOSTA.h5ad")
    late.write_h5ad(tmp_path / "E10.5_E2S3.MOSTA.h5ad")
    adata = mosta.convert([tmp_path / "E9.5_E1S1.MOSTA.h5ad", tmp_path / "E10.5_E2S3.MOSTA.h5ad"])
    assert adata.shape == (14, 2)
    assert adata.obs[schema.TIME].tolist() == [228.0] * 6 + [252.0] * 8
    assert set(adata.obs[schema.EMBRYO]) == {"E9.5_E1", "E10.5_E2"}
    assert set(adata.obs[schema.SLICE]) == {"E9.5_E1S1", "E10.5_E2S3"}
    assert set(adata.obs[schema.CELL_TYPE]) == {"Heart", "Brain"}
    np.testing.assert_allclose(adata.obsm[schema.SPATIAL][:6], early.obsm["spatial"] * 25)
    np.testing.assert_array_equal(adata[:6, "Shh"].X.toarray(), early[:, "Shh"].layers["count"].toarray())
    assert schema.check(adata, schema.Needs(counts=True, space=True, cell_types=True)) == []


def test_mosta_stage_from_obs_and_other_bins(tmp_path: Path, rng: np.random.Generator) -> None:
    raw = section(rng)
    raw.obs["timepoint"] = "E12.5"
    raw.write_h5ad(tmp_path / "mine.h5ad")
    adata = mosta.convert([tmp_path / "mine.h5ad"], unit_um=0.5)
    assert set(adata.obs[schema.TIME]) == {300.0}
    np.testing.assert_allclose(adata.obsm[schema.SPATIAL], raw.obsm["spatial"] * 0.5)


def test_mosta_lists_all_problems(tmp_path: Path, rng: np.random.Generator) -> None:
    raw = section(rng)
    raw.write_h5ad(tmp_path / "nostage.h5ad")
    del raw.obsm["spatial"]
    raw.write_h5ad(tmp_path / "E9.5_E1S1.MOSTA.h5ad")
    raw = section(rng)
    del raw.layers["count"]
    raw.write_h5ad(tmp_path / "E10.5_E1S1.MOSTA.h5ad")
    with pytest.raises(SchemaError) as caught:
        mosta.convert([*sorted(tmp_path.glob("*.h5ad")), tmp_path / "absent.h5ad"])
    text = str(caught.value)
    for expected in ("E10.5_E1S1.MOSTA.h5ad: X", "spatial", "without a stage", "no file absent.h5ad"):
        assert expected in text


def atlas(rng: np.random.Generator) -> AnnData:
    n = 6
    counts = sparse.csr_matrix(rng.poisson(3, (n, 3)).astype(np.float32))
    obs = pd.DataFrame(
        {
            "donor_id": ["d1", "d2"] * 3,
            "cell_type": pd.Categorical(["neural tube", "somite", "unknown"] * 2),
            "development_stage": pd.Categorical(["Theiler stage 13", "Theiler stage 14"] * 3),
            "organism": pd.Categorical(["Mus musculus"] * n),
            "orig.ident": ["E8_5_1", "E8_5_2"] * 3,
        },
        index=[f"bead{k}" for k in range(n)],
    )
    var = pd.DataFrame({"feature_name": ["Tbx6", "Sox2", "T"]}, index=[f"ENSMUSG{k:011d}" for k in range(3)])
    whole = AnnData(counts, obs=obs, var=var)
    adata = AnnData(np.log1p(counts.toarray()), obs=obs, var=var)
    adata.raw = whole
    adata.obsm["X_spatial"] = rng.normal(size=(n, 2))
    adata.obsm["X_spatial_registered"] = rng.normal(size=(n, 3))
    adata.obsm["X_umap"] = rng.normal(size=(n, 2))
    return adata


def test_cellxgene(tmp_path: Path, rng: np.random.Generator) -> None:
    raw = atlas(rng)
    raw.write_h5ad(tmp_path / "a.h5ad")
    adata = cellxgene.convert([tmp_path / "a.h5ad"], unit_um=2.0)
    assert list(adata.var_names) == ["Tbx6", "Sox2", "T"]
    assert adata.var["gene_id"].tolist() == list(raw.var_names)
    np.testing.assert_array_equal(adata.layers[schema.COUNTS].toarray(), raw.raw.X.toarray())
    assert adata.obs[schema.TIME].tolist() == [204.0, 216.0] * 3
    assert set(adata.obs[schema.EMBRYO]) == {"d1", "d2"}
    np.testing.assert_allclose(adata.obsm[schema.SPATIAL], raw.obsm["X_spatial_registered"] * 2, rtol=1e-6)
    meta = adata.uns[schema.META]
    assert (meta["organism"], meta["expression"]) == ("Mus musculus", "counts")
    assert schema.check(adata, schema.Needs(counts=True, space=True, cell_types=True)) == []


def test_cellxgene_without_raw_space_and_stage(tmp_path: Path, rng: np.random.Generator) -> None:
    raw = atlas(rng)
    counts = AnnData(raw.raw.X.copy(), obs=raw.obs.drop(columns=["donor_id", "development_stage"]), var=raw.var)
    counts.var["feature_name"] = "same"
    counts.write_h5ad(tmp_path / "plain.h5ad")
    with pytest.raises(SchemaError, match="6 cells without a time"):
        cellxgene.convert([tmp_path / "plain.h5ad"])
    adata = cellxgene.convert([tmp_path / "plain.h5ad"], time_h=204.0)
    assert set(adata.obs[schema.TIME]) == {204.0}
    assert list(adata.var_names) == list(raw.var_names)  # feature names are not unique
    assert schema.SPATIAL not in adata.obsm
    counts.write_h5ad(tmp_path / "embryo_E8.5.h5ad")
    assert set(cellxgene.convert([tmp_path / "embryo_E8.5.h5ad"]).obs[schema.TIME]) == {204.0}


@pytest.mark.parametrize(
    ("column", "values", "hours"),
    [
        ("time", [1.5, 2.5] * 3, [1.5, 2.5] * 3),
        ("day", [8, 9] * 3, [192.0, 216.0] * 3),
        ("timepoint", ["E8.5", "E9.0"] * 3, [204.0, 216.0] * 3),
        ("stage", ["24hpf", "36 hpf"] * 3, [24.0, 36.0] * 3),
    ],
)
def test_cellxgene_times(tmp_path: Path, rng: np.random.Generator, column: str, values: list, hours: list) -> None:
    raw = atlas(rng)
    del raw.obs["development_stage"]
    raw.obs[column] = values
    raw.write_h5ad(tmp_path / "a.h5ad")
    assert cellxgene.convert([tmp_path / "a.h5ad"]).obs[schema.TIME].tolist() == hours


def test_cellxgene_needs_counts(tmp_path: Path, rng: np.random.Generator) -> None:
    raw = atlas(rng)
    AnnData(raw.X, obs=raw.obs, var=raw.var).write_h5ad(tmp_path / "a.h5ad")
    with pytest.raises(SchemaError, match="non-integer values"):
        cellxgene.convert([tmp_path / "a.h5ad"])
