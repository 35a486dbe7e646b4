from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from anndata import AnnData

from embryo.core import schema
from embryo.core.errors import SchemaError
from embryo.datasets import celegans, packer

GROUPS = ["ABala", "ABalaa-", "ABalap-", "ABplp", "ABplpa", "D-", "Ea-", "hyp", "body_muscle"]


@pytest.mark.parametrize(
    ("cell", "group"),
    [
        ("ABala", "ABala"),
        ("ABalaa", "ABalaa-"),
        ("ABalaapp", "ABalaa-"),
        ("ABalapa", "ABalap-"),
        ("ABplpp", "ABplp"),  # the deeper group is that of its sister
        ("ABplpap", "ABplpa"),
        ("Da", "D-"),
        ("Eala", "Ea-"),
        ("Caap", "hyp"),
        ("Cpaa", "hyp"),
        ("Capa", "body_muscle"),
        ("Cpp", "body_muscle"),
        ("ABal", ""),  # above every group: daughters never lend to mothers
        ("E", ""),
        ("EMS", ""),
        ("Ep", ""),
        ("C", ""),
        ("Ca", ""),
        ("P4", ""),
        ("Nuc7", ""),
    ],
)
def test_group_of(cell: str, group: str) -> None:
    assert packer.group_of(cell, GROUPS) == group


def test_join_takes_the_mean_of_all_groups_where_none_stands_above() -> None:
    means = pd.DataFrame({"g1": [1.0, 3.0], "g2": [0.0, 8.0]}, index=["Ea-", "D-"], dtype=np.float32)
    table, known = packer.join(means, ["Eal", "Da", "P0", "Eal"])
    assert table.loc["Eal"].tolist() == [1.0, 0.0]
    assert table.loc["Da"].tolist() == [3.0, 8.0]
    assert table.loc["P0"].tolist() == [2.0, 4.0]
    assert known.to_dict() == {"Eal": True, "Da": True, "P0": False}


def write(folder: Path, name: str, values: dict[str, list[float]], genes: list[str]) -> Path:
    path = folder / f"{name}_count_matrix.csv"
    pd.DataFrame(values, index=genes).to_csv(path)
    return path


def test_means_are_log1p_of_the_mean(tmp_path: Path) -> None:
    genes = ["a", "b", "a"]  # a stands in both lists
    files = [
        write(tmp_path, "Ea-", {"c0": [1, 0, 1], "c1": [3, 4, 3]}, genes),
        write(tmp_path, "D-", {"c0": [0, 9, 0]}, genes),
    ]
    means = packer.group_means(packer.read(files))
    assert list(means.columns) == ["a", "b"]
    np.testing.assert_allclose(means.loc["Ea-"], np.log1p([2, 2]), rtol=1e-6)
    np.testing.assert_allclose(means.loc["D-"], np.log1p([0, 9]), rtol=1e-6)


def test_broken_matrices_are_all_listed(tmp_path: Path) -> None:
    files = [
        write(tmp_path, "A-", {"c0": [1, 2]}, ["a", "b"]),
        write(tmp_path, "B-", {"c0": [1, 2]}, ["a", "c"]),
        write(tmp_path, "C-", {"c0": [1, -2]}, ["a", "b"]),
        write(tmp_path, "D-", {"c0": [1, np.nan]}, ["a", "b"]),
    ]
    with pytest.raises(SchemaError) as caught:
        packer.read(files)
    assert len(caught.value.problems) == 3
    with pytest.raises(SchemaError, match="no matrix"):
        packer.read([tmp_path / "x.csv"])


@pytest.mark.real
def test_packer(real: Callable[..., AnnData]) -> None:
    adata = real("celegans-packer")
    assert adata.n_obs == 6839
    assert adata.n_vars == 563  # 583 rows, 20 genes twice
    assert (adata.var["regulator"].sum(), adata.var["target"].sum()) == (244, 339)
    assert adata.obs[schema.CELL_TYPE].nunique() == 42
    # known markers: elt-2 in the gut (E), hlh-1 in body muscle, not the other way round
    mean = adata.to_df().groupby(adata.obs[schema.CELL_TYPE], observed=True).mean()
    assert mean.loc[["Ea-", "Ep-"], "elt-2"].min() > 10 * mean.loc[["hyp", "body_muscle"], "elt-2"].max()
    assert mean.loc[["body_muscle", "D-"], "hlh-1"].min() > 10 * mean.loc[["Ea-", "Ep-", "hyp"], "hlh-1"].max()


@pytest.mark.real
def test_values_of_a_cell_are_multiples_of_one_number(real_folder: Callable[[str], Path]) -> None:
    """So they are counts scaled per cell, and log1p of them is log1p of normalised counts."""
    folder = real_folder("celegans-packer")
    matrix = next(iter(packer.read([folder / "Ea-_count_matrix.csv"]).values())).to_numpy()
    for column in matrix.T:
        held = column[column > 0]
        np.testing.assert_allclose(held / held.min(), np.round(held / held.min()), rtol=1e-4)
        assert 500 < 1e4 / held.min() < 50_000  # UMIs of the cell, if scaled to 10,000


@pytest.mark.real
def test_join_with_epic(real_folder: Callable[[str], Path], real: Callable[..., AnnData]) -> None:
    real_folder("celegans-packer")
    name = "CD20080418_pha-4_3E3C5_1"
    adata = real("celegans-epic", embryos=[name], assemble_from=[name], expression="packer")
    assert schema.check(adata) == []
    assert adata.uns[schema.META]["expression"] == "log1p"
    assert adata.n_vars == 563
    known = adata.obs["expression_known"]
    assert known.mean() == pytest.approx(adata.uns[schema.META]["expression_coverage"])
    assert known[adata.obs[schema.TIME] > 2].mean() > 0.9
    early = adata[~known.to_numpy()]
    prefixes = [g.rstrip("-") for g in real("celegans-packer").obs[schema.CELL_TYPE].unique()]
    prefixes += ["Caa", "Cpa", "Cap", "Cpp"]
    assert not any(cell.startswith(p) for cell in set(early.obs[schema.CELL]) for p in prefixes if p[0] in "ABCDEM")
    np.testing.assert_array_equal(np.ptp(early.X, axis=0), 0)
    gut = adata[adata.obs[schema.CELL].astype(str).str.startswith("Ea")]
    assert gut[:, "elt-2"].X.min() > adata[adata.obs[schema.CELL_TYPE] == "D"][:, "elt-2"].X.max()
    assert adata.uns[schema.META]["organism"] == celegans.ORGANISM
