"""Tracks as csv: AceTree and EPIC, any table with named columns, samples of a trajectory, folders of embryos."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from embryo import read
from embryo.core.errors import SchemaError
from embryo.core.schema import Needs
from embryo.read import Keys

UM = Keys(time_unit="min", space_unit="um")


def table(cells: int = 6, times: int = 3) -> pd.DataFrame:
    rng = np.random.default_rng(0)
    t, c = (a.ravel() for a in np.indices((times, cells)))
    x = rng.normal(size=(len(t), 3)) * 30
    return pd.DataFrame(
        {
            "cell": [f"c{k}" for k in c], "time": 10 * t, "x": x[:, 0], "y": x[:, 1], "z": x[:, 2],
            "parent": ["" if k == 0 else "c0" for k in c], "wnt": rng.poisson(3, len(t)),
            "bmp": rng.poisson(5, len(t)) + 1, "size": rng.random(len(t)), "fate": np.where(c % 2, "gut", "skin"),
        }
    )  # fmt: skip


@pytest.mark.parametrize(("name", "separator"), [("a.csv", ","), ("a.tsv", "\t"), ("a.txt", "\t"), ("a.csv", ";")])
def test_a_table_with_named_columns(name: str, separator: str, tmp_path: Path) -> None:
    frame = table()
    frame.to_csv(tmp_path / name, sep=separator, index=False)
    made = read.auto(tmp_path / name, UM, needs=Needs(counts=True, space=True, tracks=True, cell_types=True))
    np.testing.assert_array_equal(made.obsm["spatial"], frame[["x", "y", "z"]])
    np.testing.assert_array_equal(made.obs["time"], frame["time"] / 60)
    assert made.var_names.tolist() == ["wnt", "bmp"]  # a size is no gene
    np.testing.assert_array_equal(made.layers["counts"], frame[["wnt", "bmp"]])
    assert made.obs["parent"].tolist() == frame["parent"].tolist()
    assert made.obs["cell_type"].tolist() == frame["fate"].tolist()
    assert set(made.obs["embryo"]) == {"a"}
    np.testing.assert_array_equal(made.obs["size"], frame["size"])


def test_flat_tracks_have_two_columns(tmp_path: Path) -> None:
    table().drop(columns="z").to_csv(tmp_path / "flat.csv", index=False)
    assert read.auto(tmp_path / "flat.csv", UM).obsm["spatial"].shape == (18, 2)


def test_genes_are_those_that_are_named(tmp_path: Path) -> None:
    table().to_csv(tmp_path / "a.csv", index=False)
    made = read.auto(tmp_path / "a.csv", UM.replace(genes=("bmp", "size")))
    assert made.var_names.tolist() == ["bmp", "size"]
    assert made.uns["embryo"]["expression"] == "log1p"
    assert "wnt" in made.obs


def test_order_of_rows_is_kept(tmp_path: Path) -> None:
    order = np.random.default_rng(1).permutation(18)
    table().iloc[order].to_csv(tmp_path / "a.csv", index=False)
    made = read.auto(tmp_path / "a.csv", UM)
    np.testing.assert_array_equal(made.obsm["spatial"], table()[["x", "y", "z"]].to_numpy()[order])


def test_samples_of_a_trajectory(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    frame = pd.DataFrame(rng.random((10, 3)), columns=["x1", "x2", "x3"])
    frame.insert(0, "samples", np.repeat([0, 1], 5))
    frame.to_csv(tmp_path / "emt.csv", index=False)
    made = read.auto(tmp_path / "emt.csv", Keys(time_unit="day"))
    assert made.obs["time"].tolist() == [0.0] * 5 + [24.0] * 5
    np.testing.assert_array_equal(made.X, frame.iloc[:, 1:].to_numpy(np.float32))
    np.testing.assert_array_equal(made.obsm["X_pca"], made.X)
    assert made.uns["embryo"]["expression"] == "relative"
    assert "spatial" not in made.obsm


def epic(name: str = "AB") -> pd.DataFrame:
    """Return two cells of an embryo in the layout of EPIC, pixels, planes and frames from 1."""
    rows = []
    for cell, (x, y, z) in {"ABa": (200, 300, 15), "ABp": (400, 280, 9), "P2": (90, 100, 20)}.items():
        rows += [(f"{cell}:{t}", cell, t, 9, 1, 1, 50 * t, 1, z, x + t, y, 80, 7) for t in (1, 2, 4)]
    header = "cellTime,cell,time,none,global,local,blot,cross,z,x,y,size,gweight"
    return pd.DataFrame(rows, columns=header.split(","))


@pytest.mark.parametrize(
    ("keys", "scale", "hours"),
    [
        (Keys(), (0.09, 0.09, 1.0), 1 / 60),
        (Keys(time_unit="1.5 min"), (0.09, 0.09, 1.0), 1.5 / 60),
        (Keys(space_unit="px", pixel_um=0.2, z_um=0.5), (0.2, 0.2, 0.5), 1 / 60),
        (Keys(pixel_um=0.2), (0.2, 0.2, 1.0), 1 / 60),
        (Keys(space_unit="um"), (1.0, 1.0, 1.0), 1 / 60),
        (Keys(flip_axis="z"), (0.09, 0.09, -1.0), 1 / 60),
    ],
)
def test_epic_tracks_in_pixels_planes_and_frames(
    keys: Keys, scale: tuple[float, ...], hours: float, tmp_path: Path
) -> None:
    frame = epic()
    frame.to_csv(tmp_path / "CD1_pha-4.csv", index=False)
    made = read.auto(tmp_path / "CD1_pha-4.csv", keys, needs=Needs(space=True, tracks=True))
    at = pd.MultiIndex.from_arrays([made.obs["cell"].astype(str), made.obs["frame"]])
    expected = frame.set_index(["cell", "time"]).loc[at]
    np.testing.assert_allclose(made.obsm["spatial"], expected[["x", "y", "z"]] * scale, rtol=1e-6)
    np.testing.assert_allclose(made.obs["time"], made.obs["frame"] * hours)
    assert set(made.obs["embryo"]) == {"CD1_pha-4"}
    assert made.n_obs == 9


def test_epic_tracks_with_an_unknown_unit(tmp_path: Path) -> None:
    epic().to_csv(tmp_path / "a.csv", index=False)
    with pytest.raises(SchemaError) as caught:
        read.auto(tmp_path / "a.csv", Keys(time_unit="tick", space_unit="inch"))
    assert [p.found.split("'")[1] for p in caught.value.problems] == ["tick", "inch"]


def test_a_folder_holds_an_embryo_per_file(tmp_path: Path) -> None:
    for name in ("one", "two"):
        table().drop(columns=["wnt"] if name == "one" else []).to_csv(tmp_path / f"{name}.csv", index=False)
    made = read.auto(tmp_path, UM)
    assert made.obs["embryo"].tolist() == ["one"] * 18 + ["two"] * 18
    assert made.var_names.tolist() == ["bmp"]  # what all have
    assert made.obs_names.is_unique


def test_a_folder_of_two_layouts_is_refused(tmp_path: Path) -> None:
    table().to_csv(tmp_path / "one.csv", index=False)
    epic().to_csv(tmp_path / "two.csv", index=False)
    with pytest.raises(SchemaError, match=r"files of other columns among tracks: one\.csv; expected one layout"):
        read.auto(tmp_path, UM)


def test_a_folder_names_the_problems_of_all_files(tmp_path: Path) -> None:
    (tmp_path / "empty.csv").write_text("")
    (tmp_path / "short.csv").write_text("cell,time\n")
    table().to_csv(tmp_path / "whole.csv", index=False)
    with pytest.raises(SchemaError) as caught:
        read.auto(tmp_path, UM)
    assert [p.found.split(":")[0] for p in caught.value.problems] == ["empty.csv", "short.csv"]
