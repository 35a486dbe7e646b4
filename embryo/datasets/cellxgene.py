"""Atlases in the CELLxGENE layout: raw counts in ``raw.X`` or X, ontology terms in obs, Ensembl ids as gene index."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from anndata import AnnData

from embryo.core import schema
from embryo.core.checks import phrases
from embryo.core.errors import Problem, SchemaError
from embryo.datasets import contract, stages
from embryo.datasets.registry import Dataset

_TIMES = ("time", "timepoint", "time_point", "day", "stage", "age", "development_stage")
_EMBRYOS = ("embryo", "embryo_id", "donor_id", "sample", "orig.ident")
_PLACES = ("X_spatial_registered", "spatial_3D", "X_spatial", "spatial")
_SLICES = ("slice", "section", "orig.ident", "puck")
_NOBODY = {"", "na", "nan", "unknown", "pooled"}


def convert(
    files: Sequence[str | Path], dataset: Dataset | None = None, *, unit_um: float = 1.0, time_h: float | None = None
) -> AnnData:
    """Convert one h5ad.

    Parameters
    ----------
    files
        The h5ad.
    dataset
        What the registry knows; not needed for a file of your own.
    unit_um
        µm per unit of the positions; the layout states none.
    time_h
        Time of all cells, hours, for a file that states none.

    Returns
    -------
    AnnData
        X and ``layers["counts"]``: raw counts. obs: time (h), embryo, cell_type, slice where known, and all columns of
        the file. ``obsm["spatial"]`` where the file has positions (registered 3D before flat ones). Genes are named by
        ``var["feature_name"]`` where it is unique, else by their ids.

    Raises
    ------
    SchemaError
        If there are no raw counts, or cells without a time.
    """
    path = contract.single([Path(f) for f in files])
    raw = contract.h5ad(path)
    matrix, var = (raw.raw.X, raw.raw.var) if raw.raw is not None else (raw.X, raw.var)
    if schema.COUNTS in raw.layers:
        matrix, var = raw.layers[schema.COUNTS], raw.var
    counts = contract.counts(matrix, subject=f"{path.name}: {'raw.X' if raw.raw is not None else 'X'}")
    time, source = (np.full(raw.n_obs, time_h), "given") if time_h is not None else _time(raw, path)
    if not np.isfinite(time).all():
        column = phrases.few(c for c in _TIMES if c in raw.obs) or "none of " + ", ".join(_TIMES)
        found = f"{(~np.isfinite(time)).sum()} cells without a time (columns looked at: {column})"
        cure = "give time_h, or add a column such as time with E8.5 or hours"
        raise SchemaError(Problem(found, "a stage such as E8.5 for every cell", cure), subject=path.name)
    obs = _obs(raw, time)
    made = AnnData(counts, obs=obs, var=_genes(var), layers={schema.COUNTS: counts.copy()})
    place = next((key for key in _PLACES if key in raw.obsm), None)
    if place:
        made.obsm[schema.SPATIAL] = np.asarray(raw.obsm[place], dtype=np.float32)[:, :3] * np.float32(unit_um)
    notes: dict[str, Any] = {"time_from": source, "space_from": place, "unit_um": unit_um if place else None}
    organism = _organism(raw, dataset)
    return contract.note(made, organism=organism, expression="counts", notes=notes)


def _time(raw: AnnData, path: Path) -> tuple[np.ndarray, str]:
    """Return hours per cell and where they come from: the column that states most, else the file name."""
    best, source = np.full(raw.n_obs, np.nan), "nowhere"
    for name in _TIMES:
        if name not in raw.obs:
            continue
        column = raw.obs[name]
        if name == "time" and pd.api.types.is_numeric_dtype(column):
            return column.to_numpy(dtype=float), "obs['time'], hours"
        numeric = pd.api.types.is_numeric_dtype(column)
        found = column.to_numpy(dtype=float) * 24 if name == "day" and numeric else stages.parse(column.astype(str))
        if np.isfinite(found).sum() > np.isfinite(best).sum():
            best, source = found, f"obs[{name!r}]"
    stated = stages.hours(path.name)
    if not np.isfinite(best).any() and stated is not None:
        return np.full(raw.n_obs, stated), "file name"
    return best, source


def _obs(raw: AnnData, time: np.ndarray) -> pd.DataFrame:
    obs = raw.obs.copy()
    obs[schema.TIME] = time
    obs[schema.EMBRYO] = _first(raw.obs, _EMBRYOS, "embryo")
    kinds = ("cell_type", "predicted.id", "annotation", "author_cell_type")
    obs[schema.CELL_TYPE] = _first(raw.obs, kinds, "unknown")
    if any(name in raw.obs for name in _SLICES):
        obs[schema.SLICE] = _first(raw.obs, _SLICES, "slice")
    groups = [c for c in (schema.EMBRYO, schema.CELL_TYPE, schema.SLICE) if c in obs]
    obs.index = obs.index.astype(str)
    made: pd.DataFrame = obs.astype(dict.fromkeys(groups, "category"))
    return made


def _first(obs: pd.DataFrame, names: Sequence[str], otherwise: str) -> pd.Series:
    """Return the first of these columns that says something, as words."""
    for name in names:
        if name in obs:
            words = obs[name].astype("string").fillna("").astype(str)
            if not set(words.str.lower().unique()) <= _NOBODY:
                return words.where(~words.str.lower().isin({"", "nan"}), "unknown")
    return pd.Series(otherwise, index=obs.index)


def _genes(var: pd.DataFrame) -> pd.DataFrame:
    names = pd.Index(var["feature_name"].astype(str)) if "feature_name" in var else var.index.astype(str)
    if names.has_duplicates:
        names = var.index.astype(str)
    return pd.DataFrame({"gene_id": var.index.astype(str)}, index=pd.Index(names, dtype=str))


def _organism(raw: AnnData, dataset: Dataset | None) -> str:
    stated = list(raw.obs["organism"].astype(str).unique()) if "organism" in raw.obs else []
    if len(stated) == 1:
        return str(stated[0])
    return str(raw.uns.get("organism", dataset.organism if dataset else "unknown"))
