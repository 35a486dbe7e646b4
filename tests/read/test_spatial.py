"""SpatialData stores: cells at the centroids of their shapes, or points."""

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from anndata import AnnData

from embryo import read
from embryo.core.errors import SchemaError, StoreError
from embryo.core.schema import Needs
from embryo.read import Keys

UM = Keys(time_unit="h", space_unit="um")


def places(dims: int, n: int = 8, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(n, dims)) * 40


def cells(regions: list[str], n: int = 8) -> AnnData:
    obs = pd.DataFrame(
        {
            "region": pd.Categorical(np.repeat(regions, n)),
            "instance": np.tile(np.arange(n)[::-1], len(regions)),  # not in the order of the shapes
            "time": np.arange(n * len(regions)) % 2.0,
        },
        index=[f"r{k}" for k in range(n * len(regions))],
    )
    return AnnData(np.ones((len(obs), 3)), obs=obs)


@pytest.fixture
def store(tmp_path: Path) -> Callable[..., Path]:
    """Write a SpatialData store; the library warns about its own dependencies."""

    def write(
        tables: dict[str, AnnData], *, shapes: dict[str, np.ndarray], points: dict[str, Any] | None = None
    ) -> Path:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            from spatialdata import SpatialData  # noqa: PLC0415  it warns while it is imported
            from spatialdata.models import PointsModel, ShapesModel, TableModel  # noqa: PLC0415
            from spatialdata.transformations import Scale  # noqa: PLC0415

            made = {
                name: TableModel.parse(
                    table, region=list(table.obs["region"].unique()), region_key="region", instance_key="instance"
                )
                for name, table in tables.items()
            }
            circles = {
                name: ShapesModel.parse(
                    x, geometry=0, radius=1.0, transformations={"global": Scale([2.0, 2.0], axes=("x", "y"))}
                )
                for name, x in shapes.items()
            }
            clouds = {name: PointsModel.parse(frame) for name, frame in (points or {}).items()}
            SpatialData(tables=made, shapes=circles, points=clouds).write(tmp_path / "store.zarr")
        return tmp_path / "store.zarr"

    return write


def test_cells_lie_at_the_centroids_of_their_shapes(store: Callable[..., Path]) -> None:
    path = store({"table": cells(["a", "b"])}, shapes={"a": places(2), "b": places(2, seed=1)})
    made = read.auto(path, UM, needs=Needs(space=True))
    order = np.arange(8)[::-1]
    expected = 2 * np.concatenate([places(2)[order], places(2, seed=1)[order]])  # the transformation to global doubles
    np.testing.assert_allclose(made.obsm["spatial"], expected)
    assert made.obs["time"].tolist() == [0.0, 1.0] * 8


def test_one_of_several_tables_must_be_named(store: Callable[..., Path]) -> None:
    path = store({"one": cells(["a"]), "two": cells(["a"])}, shapes={"a": places(2)})
    with pytest.raises(SchemaError, match=r"2 tables: one, two.*--key table=one"):
        read.auto(path, UM)
    with pytest.raises(SchemaError, match=r"no table 'tow' among one, two \(did you mean 'two'\?\)"):
        read.auto(path, UM.replace(table="tow"))
    assert read.auto(path, UM.replace(table="two")).n_obs == 8


def test_cells_without_a_shape_are_named(store: Callable[..., Path]) -> None:
    table = cells(["a"])
    path = store({"table": table}, shapes={"a": places(2, n=6)})
    with pytest.raises(SchemaError, match=r"no shape in 'a' for 2 of 8 cells \(rows 0, 1: r0, r1\)"):
        read.auto(path, UM)


def test_points_are_cells_where_there_is_no_table(store: Callable[..., Path]) -> None:
    clouds = {
        name: pd.DataFrame(places(3, seed=k) / 1000, columns=["x", "y", "z"]).assign(fate="gut")
        for k, name in enumerate(["E7.5", "E8.5"])
    }
    made = read.auto(
        store({}, shapes={}, points=clouds), Keys(space_unit="mm"), needs=Needs(space=True, cell_types=True)
    )
    np.testing.assert_allclose(made.obsm["spatial"], np.concatenate([places(3, seed=k) for k in range(2)]))
    assert made.obs["time"].tolist() == [180.0] * 8 + [204.0] * 8


def test_a_store_without_cells(store: Callable[..., Path]) -> None:
    path = store({}, shapes={"a": places(2)})
    with pytest.raises(SchemaError, match="no table and no points"):
        read.auto(path, UM)


def test_a_damaged_store(store: Callable[..., Path]) -> None:
    path = store({"table": cells(["a"])}, shapes={"a": places(2)})
    for file in (path / "shapes").rglob("*.parquet"):
        file.write_bytes(b"broken")
    with pytest.raises((StoreError, SchemaError)) as caught:
        read.spatialdata(path, UM)
    assert "expected" in str(caught.value)
