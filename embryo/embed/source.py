"""A file of cells that is never read whole: names in memory, expression on disk."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pandas as pd
import zarr
from anndata import AnnData
from anndata.io import read_elem, sparse_dataset
from jaxtyping import Int

from embryo.core import schema
from embryo.core.checks import matrices
from embryo.core.errors import Problem, SchemaError, StoreError
from embryo.core.store.files import find

_RAW, _X = "raw/X", "X"
_LOOKED_AT = 512  # cells that tell what kind of values a matrix holds
H5AD, ZARR = ".h5ad", ".zarr"


@dataclass(frozen=True)
class Source:
    """Cells of an open file.

    Parameters
    ----------
    obs, var
        Names and annotations of cells and genes.
    meta
        ``uns["embryo"]``, with the kind of expression and the organism filled in.
    matrix
        Expression on disk; rows can be taken by slices and index arrays.
    """

    obs: pd.DataFrame
    var: pd.DataFrame
    meta: Mapping[str, Any]
    matrix: Any

    @property
    def n_obs(self) -> int:
        """Cells of the file."""
        return len(self.obs)

    def take(self, rows: slice | Int[np.ndarray, " rows"]) -> AnnData:
        """Return some cells, in memory; counts in ``layers["counts"]``, other values in X."""
        block = self.matrix[rows]
        uns = {schema.META: dict(self.meta)}
        if self.meta["expression"] == "counts":
            return AnnData(obs=self.obs.iloc[rows], var=self.var, uns=uns, layers={schema.COUNTS: block})
        return AnnData(block, obs=self.obs.iloc[rows], var=self.var, uns=uns)


@contextmanager
def opened(path: Path, *, species: str | None = None) -> Iterator[Source]:
    """Open an h5ad or zarr for reading in blocks.

    Memory does not grow with the number of cells, except for a matrix that lies by columns (csc), which is read whole:
    write it by rows (csr) if it does not fit.

    Raw counts are taken from ``layers["counts"]``, else from X or ``raw.X`` where these hold whole numbers; else X is
    taken for what ``uns["embryo"]`` says, or what its values look like.

    Parameters
    ----------
    path
        File or folder in AnnData's layout.
    species
        Overrides what the file says.

    Raises
    ------
    StoreError
        If there is no such file, or it is not in AnnData's layout.
    SchemaError
        If it holds no expression.
    """
    find(path, "an h5ad file or a zarr folder")
    try:
        store: Any = h5py.File(path) if path.suffix == H5AD else zarr.open_group(path, mode="r")
    except (OSError, ValueError, KeyError) as error:
        found = f"a file that cannot be opened ({str(error)[:160]})"
        raise StoreError(
            Problem(found, "an h5ad file or a zarr folder", "write it again"), subject=path.name
        ) from error
    try:
        yield _source(store, path, species)
    finally:
        if path.suffix == H5AD:
            store.close()


def _source(store: Any, path: Path, species: str | None) -> Source:
    missing = [key for key in ("obs", "var") if key not in store]
    if missing:
        found = f"no {' and no '.join(missing)} (there: {', '.join(sorted(store)) or 'nothing'})"
        raise StoreError(Problem(found, "AnnData's layout", "write it with AnnData"), subject=path.name)
    where, kind = _expression(store, path)
    obs = read_elem(store["obs"])
    uns = store.get("uns", {})
    meta = dict(read_elem(uns[schema.META])) if schema.META in uns else {}
    organism = species or meta.get("organism") or _organism(uns, obs)
    about = {**meta, "expression": kind} | ({"organism": organism} if organism else {})
    var = read_elem(store["raw/var"] if where == _RAW else store["var"])
    return Source(obs, var, about, _matrix(store[where]))


def _expression(store: Any, path: Path) -> tuple[str, str]:
    """Return where the expression lies and of which kind it is."""
    layer = f"layers/{schema.COUNTS}"
    if layer in store:
        return layer, "counts"
    there = [where for where in (_X, _RAW) if where in store]
    if not there:
        cure = f"put raw counts into layers[{schema.COUNTS!r}]"
        raise SchemaError(Problem("no expression matrix", "cells by genes", cure), subject=path.name)
    looks = {where: matrices.kind(_matrix(store[where])[:_LOOKED_AT]) for where in there}
    for where, kind in looks.items():
        if kind == "counts":
            return where, kind
    said = read_elem(store["uns"][schema.META]).get("expression") if f"uns/{schema.META}" in store else None
    return there[0], said if said in ("log1p", "relative") else looks[there[0]]


def _matrix(element: Any) -> Any:
    """Return a matrix whose rows can be taken from disk; one that lies by columns is read whole, once."""
    if not hasattr(element, "keys"):
        return element
    matrix = sparse_dataset(element)
    return matrix if matrix.format == "csr" else matrix.to_memory().tocsr()


def _organism(uns: Any, obs: pd.DataFrame) -> str | None:
    """Return what a file in the layout of CELLxGENE says of its species; None where it says nothing, or several."""
    if "organism" in uns:
        return str(read_elem(uns["organism"]))
    if "organism" in obs:
        found = obs["organism"].astype(str).unique()
        return str(found[0]) if len(found) == 1 else None
    return None
