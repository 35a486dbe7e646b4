from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from anndata import AnnData
from hypothesis import given
from hypothesis import strategies as st

from embryo.core import schema
from embryo.core.errors import SchemaError
from embryo.datasets import blastocyst


def nuclei(**columns: object) -> pd.DataFrame:
    n = 6
    table = {
        "Embryo_ID": ["e1"] * 3 + ["e2"] * 3,
        "Cell_ID": [1, 2, 3, 1, 2, 2],
        "X": np.arange(n) * 10.0,
        "Y": np.arange(n) ** 2 * 20.0,
        "Z": np.arange(n) ** 3 * 1.0,
        "Cellcount": [40] * 3 + [100] * 3,
        "Identity.hc": ["TE", "EPI", "PRE"] * 2,
        "CH2.Avg": np.arange(n) * 30.0,
        "CH4.ebLogCor": np.linspace(-2, 6, n),
        "CH5.ebLogCor": np.linspace(0, 4, n),
    }
    return pd.DataFrame(table | columns)


def convert(tmp_path: Path, table: pd.DataFrame, **options: float) -> AnnData:
    table.to_csv(tmp_path / "nuclei.csv", index=False)
    return blastocyst.convert([tmp_path / "nuclei.csv"], **options)


def test_levels_positions_and_contract(tmp_path: Path) -> None:
    table = nuclei()
    adata = convert(tmp_path, table, pixel_um=0.5)
    assert schema.check(adata, schema.Needs(space=True, cell_types=True)) == []
    np.testing.assert_allclose(adata[:, "GATA6"].X.ravel(), np.log1p(np.exp(table["CH4.ebLogCor"])), rtol=1e-5)
    np.testing.assert_allclose(adata[:, "CDX2"].X.ravel(), np.log1p(table["CH2.Avg"]), rtol=1e-5)
    assert adata.var["corrected"].to_dict() == {"CDX2": False, "GATA6": True, "NANOG": True}
    np.testing.assert_allclose(adata.obsm[schema.SPATIAL], table[["X", "Y", "Z"]] * [0.5, 0.5, 1])
    assert adata.obs[schema.CELL].is_unique
    assert set(table.columns) <= set(adata.obs.columns)
    adata.write_h5ad(tmp_path / "out.h5ad")


def test_knock_outs_named_by_gene_are_read_and_kept(tmp_path: Path) -> None:
    """The layout of the Gata6 series: columns named after the genes, genotypes in Genotype1."""
    table = nuclei(Gene1="Gata6", Genotype1=["ko"] * 3 + ["het", "wt", np.nan], Gene2="any", Genotype2="wt")
    logs = {f"{g}.ebLogCor": np.linspace(1, 5, 6) for g in ("CDX2", "GATA6", "NANOG")}
    table = table.drop(columns=["CH2.Avg", "CH4.ebLogCor", "CH5.ebLogCor"]).assign(**logs, **{"E.Stage": "E4.5"})
    adata = convert(tmp_path, table)
    assert adata.n_obs == 6
    assert adata.obs[schema.PERTURBATION].tolist() == ["knockout Gata6"] * 3 + ["Gata6 het", "", ""]
    assert adata.var["corrected"].all()
    assert schema.check(adata) == []


def test_time_is_that_of_the_stage() -> None:
    np.testing.assert_allclose(blastocyst.hours(np.array([32, 64, 128])), [78, 90, 102])
    assert blastocyst.stage_count(np.array([32, 63, 64, 89, 90, 149, 150, 400])).tolist() == pytest.approx(
        [45.2548, 45.2548, 75.8947, 75.8947, 103.923, 134.164, 180, 180], rel=1e-4
    )


@given(st.integers(1, 1000), st.integers(1, 1000))
def test_more_cells_are_never_earlier(a: int, b: int) -> None:
    first, second = blastocyst.hours(blastocyst.stage_count(np.array(sorted([a, b]))))
    assert first <= second


def test_without_cell_count_the_rows_are_counted(tmp_path: Path) -> None:
    adata = convert(tmp_path, nuclei().drop(columns="Cellcount"))
    np.testing.assert_allclose(adata.obs["time_count"], blastocyst.hours(np.full(6, 3)))


def test_bad_tables(tmp_path: Path) -> None:
    with pytest.raises(SchemaError, match="no column X, Z"):
        convert(tmp_path, nuclei().drop(columns=["X", "Z"]))
    with pytest.raises(SchemaError, match="no level among"):
        convert(tmp_path, nuclei().drop(columns=["CH2.Avg", "CH4.ebLogCor", "CH5.ebLogCor"]))
    with pytest.raises(SchemaError) as caught:
        convert(tmp_path, nuclei(X=["?"] + ["1"] * 5, Z=[np.nan] * 6))
    assert len(caught.value.problems) == 2


@pytest.mark.real
def test_saiz(real: Callable[..., AnnData]) -> None:
    adata = real("mouse-blastocyst-wt")
    assert adata.n_obs == 11580
    assert adata.obs[schema.EMBRYO].nunique() == 139
    assert schema.check(adata, schema.Needs(space=True, cell_types=True)) == []
    assert adata.obs[schema.TIME].nunique() == 5
    assert (adata.obs[schema.PERTURBATION] == "").all()
    # one hour value per stage of the authors
    assert adata.obs.groupby("Stage", observed=True)[schema.TIME].nunique().eq(1).all()
    # biology: CDX2 marks trophectoderm, NANOG epiblast, GATA6 primitive endoderm
    level = adata.to_df().groupby(adata.obs["Identity.hc"].astype(str)).mean()
    assert level["CDX2"].idxmax() == "TE"
    assert level.loc["EPI", "NANOG"] > level.loc["PRE", "NANOG"] + 1
    assert level.loc["PRE", "GATA6"] > level.loc["EPI", "GATA6"] + 1
    # the pixel makes the embryos as deep as they are wide, and blastocyst-sized
    x = pd.DataFrame(adata.obsm[schema.SPATIAL]).groupby(adata.obs[schema.EMBRYO].to_numpy(), observed=True)
    extent = x.max() - x.min()
    assert extent[[0, 1]].median().between(60, 130).all()
    assert 0.7 < (extent[2] / extent[[0, 1]].min(axis=1)).median() < 1.3
