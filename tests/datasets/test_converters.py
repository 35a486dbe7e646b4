"""The small converters: BDTNP, Tal1 chimera, embryoid bodies, snapshot benchmarks, stVCR simulations."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from anndata import AnnData
from scipy import sparse

from embryo import datasets
from embryo.core import schema
from embryo.core.errors import SchemaError
from embryo.datasets import bdtnp, embryoid, snapshots, stvcr, tal1


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)


def test_bdtnp(tmp_path: Path, rng: np.random.Generator) -> None:
    levels = pd.DataFrame(rng.random((5, 2)), columns=["eve", "E(spl)m5-HLH"])
    places = pd.DataFrame(rng.normal(size=(9, 3)), columns=["xcoord", "ycoord", "zcoord"])
    levels.to_csv(tmp_path / "dge.txt", sep="\t", index=False)
    places.to_csv(tmp_path / "geometry.txt", sep=" ", index=False)
    files = [tmp_path / "geometry.txt", tmp_path / "LICENSE", tmp_path / "dge.txt"]
    adata = bdtnp.convert(files, datasets.entry("drosophila-bdtnp"))
    np.testing.assert_allclose(adata.X, levels, rtol=1e-6)
    np.testing.assert_allclose(adata.obsm[schema.SPATIAL], places[:5], rtol=1e-6)
    assert adata.uns[schema.META]["assembled"] is True
    assert schema.check(adata, schema.SNAPSHOT) == []
    places[:4].to_csv(tmp_path / "geometry.txt", sep=" ", index=False)
    with pytest.raises(SchemaError, match="4 positions for 5 nuclei"):
        bdtnp.convert(files, datasets.entry("drosophila-bdtnp"))
    with pytest.raises(SchemaError, match=r"no file dge\.txt"):
        bdtnp.convert(files[:1], datasets.entry("drosophila-bdtnp"))


def chimera(rng: np.random.Generator) -> AnnData:
    obs = pd.DataFrame(
        {"tomato": ["TRUE", "FALSE"] * 3, "stage": "E8.5", "sample": 3, "celltype.mapped": ["Gut"] * 6},
        index=[f"c{k}" for k in range(6)],
    )
    return AnnData(sparse.csr_matrix(rng.poisson(2, (6, 4)).astype(np.float32)), obs=obs)


def test_tal1(tmp_path: Path, rng: np.random.Generator) -> None:
    raw = chimera(rng)
    raw.write_h5ad(tmp_path / "c.h5ad")
    adata = tal1.convert([tmp_path / "c.h5ad"])
    assert adata.obs[schema.PERTURBATION].tolist() == ["knockout Tal1", ""] * 3
    assert set(adata.obs[schema.TIME]) == {204.0}
    assert (adata.layers[schema.COUNTS] != raw.X).nnz == 0
    assert schema.check(adata, schema.Needs(times=1, counts=True)) == []
    raw.X = raw.X.multiply(0.5).tocsr()
    raw.write_h5ad(tmp_path / "c.h5ad")
    with pytest.raises(SchemaError, match="non-integer"):
        tal1.convert([tmp_path / "c.h5ad"])
    del raw.obs["tomato"]
    raw.write_h5ad(tmp_path / "c.h5ad")
    with pytest.raises(SchemaError, match="no column tomato"):
        tal1.convert([tmp_path / "c.h5ad"])
    (tmp_path / "c.h5ad").write_bytes(b"RDX3")
    with pytest.raises(SchemaError, match="no h5ad"):
        tal1.convert([tmp_path / "c.h5ad"])
    with pytest.raises(SchemaError, match="0 files"):
        tal1.convert([])


def test_embryoid(tmp_path: Path, rng: np.random.Generator) -> None:
    parts = {}
    for name in ("test_rna", "val_rna"):
        parts[name] = {"X": rng.normal(size=(4, 3)), "v": rng.normal(size=(4, 3)), "ts": np.array([0, 1, 1, 4])}
        np.savez(tmp_path / f"{name}.npz", **parts[name], idx=np.arange(4))
    files = sorted(tmp_path.glob("*.npz"))
    adata = embryoid.convert(files, datasets.entry("embryoid-body"))
    assert adata.obs[schema.TIME].tolist() == [36, 180, 180, 612] * 2
    assert adata.obs["split"].tolist() == ["test"] * 4 + ["val"] * 4
    np.testing.assert_allclose(adata.obsm["velocity"][4:], parts["val_rna"]["v"], rtol=1e-6)
    assert schema.check(adata) == []
    np.savez(tmp_path / "test_rna.npz", X=np.zeros((4, 3)), v=np.zeros((4, 2)), ts=np.zeros(4))
    with pytest.raises(SchemaError, match=r"v \(4, 2\)"):
        embryoid.convert(files, datasets.entry("embryoid-body"))
    np.savez(tmp_path / "test_rna.npz", X=np.array([{}], dtype=object), v=np.zeros(1), ts=np.zeros(1))
    with pytest.raises(SchemaError, match="no npz archive"):  # pickled objects are refused
        embryoid.convert(files, datasets.entry("embryoid-body"))


def test_snapshots(tmp_path: Path) -> None:
    table = pd.DataFrame({"samples": [0.0, 2.0, 1.0], "x1": [1.0, -2, 3], "x2": [0.5, 0.25, 0]})
    table.to_csv(tmp_path / "s.csv", index=False)
    adata = snapshots.convert([tmp_path / "s.csv"], datasets.entry("emt"), hours_per_sample=24.0)
    assert adata.obs[schema.TIME].tolist() == [0, 48, 24]
    np.testing.assert_array_equal(adata.X, table[["x1", "x2"]].astype(np.float32))
    assert "not measured" in adata.uns[schema.META]["time_scale"]
    assert schema.check(adata) == []
    table.assign(x2=["a", "b", "c"]).to_csv(tmp_path / "s.csv", index=False)
    with pytest.raises(SchemaError, match="x2 without a finite number"):
        snapshots.convert([tmp_path / "s.csv"], datasets.entry("emt"))
    table.drop(columns="samples").to_csv(tmp_path / "s.csv", index=False)
    with pytest.raises(SchemaError, match="no column samples"):
        snapshots.convert([tmp_path / "s.csv"], datasets.entry("emt"))


def test_stvcr(tmp_path: Path, rng: np.random.Generator) -> None:
    obs = pd.DataFrame({"time": [0.0, 0.0, 0.5, 1.0], "theta": 0.1, "type": ["a", "b", "a", "b"]}, index=list("wxyz"))
    space = 10 * rng.normal(size=(4, 2))
    raw = AnnData(
        rng.random((4, 3)), obs=obs, obsm={"spatial": space, "spatial_gt": space + 1, "spatial_velocity": space * 2}
    )
    raw.write_h5ad(tmp_path / "s.h5ad")
    adata = stvcr.convert([tmp_path / "s.h5ad"], datasets.entry("stvcr-heart2duck"))
    assert adata.obs[schema.TIME].tolist() == [0, 0, 0.5, 1]
    assert adata.obs[schema.EMBRYO].tolist() == ["slide0", "slide0", "slide0.5", "slide1"]
    assert adata.obs[schema.CELL_TYPE].tolist() == list("abab")
    np.testing.assert_array_equal(adata.obsm["spatial_velocity"], space * 2)
    assert schema.check(adata, schema.Needs(space=True, cell_types=True)) == []
    del raw.obsm["spatial"]
    raw.write_h5ad(tmp_path / "s.h5ad")
    with pytest.raises(SchemaError, match="spatial"):
        stvcr.convert([tmp_path / "s.h5ad"], datasets.entry("stvcr-heart2duck"))


@pytest.mark.real
@pytest.mark.parametrize(
    ("name", "cells", "features", "times"),
    [
        ("drosophila-bdtnp", 3039, 84, 1),
        ("mouse-tal1-chimera", 2889, 300, 1),
        ("embryoid-body", 5 * (350 + 200), 100, 5),
        ("emt", 3133, 10, 4),
        ("zebrafish", 1599, 52, 2),
        ("simulation-lj", 2747, 2, 5),
        ("simulation-attract", 2710, 2, 5),
        ("simulation-no-interact", 3031, 2, 5),
        ("stvcr-bio-prior", 4349, 3, 2),
        ("stvcr-bio-prior-5pts", 10819, 3, 5),
        ("stvcr-heart2duck", 3799, 3, 5),
        ("stvcr-rectangle", 9858, 3, 6),
    ],
)
def test_real(real: Callable[..., AnnData], tmp_path: Path, name: str, cells: int, features: int, times: int) -> None:
    adata = real(name)
    assert adata.shape == (cells, features)
    assert adata.obs[schema.TIME].nunique() == times
    assert schema.check(adata, schema.Needs(times=times)) == []
    meta = adata.uns[schema.META]
    assert meta["dataset"] == name
    assert len(meta["sha256"]) == 64
    adata.write_h5ad(tmp_path / "x.h5ad")


@pytest.mark.real
def test_the_knock_out_of_the_chimera_shows(real: Callable[..., AnnData]) -> None:
    """Tal1 is needed for blood: knock-out cells make endothelium but no blood progenitors (Pijuan-Sala et al. 2019)."""
    obs = real("mouse-tal1-chimera").obs
    cells = pd.crosstab(obs[schema.CELL_TYPE], obs[schema.PERTURBATION])
    assert cells["knockout Tal1"].sum() == 1153
    assert cells.loc["Endothelium"].min() > 300
    assert cells.loc["Blood progenitors 2", "knockout Tal1"] == 0
    assert cells.loc["Blood progenitors 2", ""] == 187


@pytest.mark.real
def test_the_true_motion_of_the_simulation_is_there(real: Callable[..., AnnData]) -> None:
    adata = real("stvcr-heart2duck")
    first = adata[adata.obs[schema.TIME] == 0]
    np.testing.assert_allclose(first.obsm["spatial"], first.obsm["spatial_gt"])
    late = adata[adata.obs[schema.TIME] == 1]
    theta = late.obs["theta"].iloc[0]
    turn = np.array([[np.cos(theta), -np.sin(theta)], [np.sin(theta), np.cos(theta)]])
    both = [np.abs(late.obsm["spatial"] - late.obsm["spatial_gt"] @ r).max() for r in (turn, turn.T)]
    assert min(both) < 1e-5
    assert "spatial_velocity" in adata.obsm
    assert "growth_rate" in adata.obs
