"""SpatialData stores: the table, and for each row the centroid of the shape or point that it annotates."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from anndata import AnnData

from embryo.core import schema
from embryo.core.checks import phrases
from embryo.core.errors import Problem, SchemaError
from embryo.read import conventions, files
from embryo.read.keys import Keys


def load(path: Path, keys: Keys) -> AnnData:
    """Return the table of a SpatialData store with positions of its rows, or its points where it has no table.

    Positions are centroids in the coordinate system ``global``, in whatever unit that is.

    Raises
    ------
    StoreError
        If it cannot be read.
    SchemaError
        If it has no table and no points, several tables and no choice, or rows whose shapes are missing.
    """
    data = _open(path)
    tables = dict(data.tables)
    if keys.table is not None and keys.table not in tables:
        found = f"no table {keys.table!r} among {phrases.few(tables) or 'none'}{phrases.nearest(keys.table, tables)}"
        problem = Problem(found, "a table of the store", "correct the name (--key table=..., config read.keys.table)")
        raise SchemaError(problem, subject=path.name)
    if keys.table is None and len(tables) > 1:
        problem = Problem(
            f"{len(tables)} tables: {phrases.few(tables)}",
            "one table, or the name of one",
            f"name it (--key table={next(iter(tables))}, config read.keys.table)",
        )
        raise SchemaError(problem, subject=path.name)
    if not tables:
        return _points(data, path)
    name = keys.table or next(iter(tables))
    adata = tables[name].copy()
    if keys.space is None and conventions.find(adata.obsm, (schema.SPATIAL,)) is None:
        _place(adata, data, path)
    return adata


def _open(path: Path) -> Any:
    files.require(path)
    expected = "a SpatialData zarr store"
    with files.explained(path, expected), files.quiet():
        import spatialdata  # noqa: PLC0415  seconds to import

        return spatialdata.read_zarr(path)


def _place(adata: AnnData, data: Any, path: Path) -> None:
    """Write the centroid of each row's element into obsm."""
    attrs = adata.uns.get("spatialdata_attrs")
    if not attrs:
        return
    region, instance = adata.obs[attrs["region_key"]].astype(str), adata.obs[attrs["instance_key"]]
    x = np.full((adata.n_obs, 3), np.nan)
    flat, problems = True, []
    for name in region.unique():
        rows = np.flatnonzero((region == name).to_numpy())
        if name not in data:
            listed = phrases.few(str(e[1]) for e in data.gen_elements())
            problems.append(Problem(f"no element {name!r} for {len(rows)} cells (has {listed})", "it", "add it"))
            continue
        centres = _centroids(data[name])
        found = centres.index.get_indexer(pd.Index(instance.iloc[rows]))
        if (found < 0).any():
            lost = pd.Series(found < 0).to_numpy()
            text = f"no shape in {name!r} for {phrases.cells(lost, adata.obs_names[rows])}"
            problems.append(Problem(text, "one shape per row of the table", "drop these rows, or add their shapes"))
            continue
        flat &= centres.shape[1] < 3
        x[rows, : centres.shape[1]] = centres.to_numpy(dtype=float)[found]
    if problems:
        raise SchemaError(*problems, subject=path.name)
    adata.obsm[schema.SPATIAL] = x[:, :2] if flat else x


def _points(data: Any, path: Path) -> AnnData:
    """Return the points of all elements, each element a time where its name says one."""
    if not len(data.points):
        listed = phrases.few(str(e[1]) for e in data.gen_elements()) or "nothing"
        problem = Problem(f"no table and no points (has {listed})", "a table of cells", "export the cells with a table")
        raise SchemaError(problem, subject=path.name)
    parts = []
    for name, element in data.points.items():
        frame = pd.DataFrame(element.compute()).reset_index(drop=True)
        centres = _centroids(element).to_numpy(dtype=float)
        rest = frame.drop(columns=[c for c in ("x", "y", "z") if c in frame])
        for axis, column in zip("xyz", centres.T, strict=False):
            rest[axis] = column
        if conventions.find(rest.columns, conventions.OBS[schema.TIME]) is None:
            rest["stage"] = name
        rest.index = pd.Index([f"{name}:{k}" for k in range(len(rest))], dtype=object)
        parts.append(rest)
    return AnnData(obs=pd.concat(parts))


def _centroids(element: Any) -> pd.DataFrame:
    from spatialdata import get_centroids  # noqa: PLC0415

    with files.quiet():
        return pd.DataFrame(get_centroids(element, coordinate_system="global").compute())
