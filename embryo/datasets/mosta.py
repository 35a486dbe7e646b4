"""Stereo-seq sections in the MOSTA layout: ``E9.5_E1S1.MOSTA.h5ad`` with ``layers["count"]`` and annotated spots."""

import re
from collections.abc import Sequence
from pathlib import Path

import anndata
import numpy as np
import pandas as pd
from anndata import AnnData

from embryo.core import schema
from embryo.core.errors import EmbryoError, Problem, SchemaError
from embryo.datasets import contract, stages
from embryo.datasets.registry import Dataset

ORGANISM = "Mus musculus"
BIN50_UM = 25.0  # 50 nanoballs, 0.5 µm apart
_SECTION = re.compile(r"(?<![a-z\d])(E\d+)(S\d+)(?![a-z\d])", re.IGNORECASE)
_TIMES = ("timepoint", "time", "stage", "development_stage")


def convert(files: Sequence[str | Path], dataset: Dataset | None = None, *, unit_um: float = BIN50_UM) -> AnnData:
    """Convert sections, one h5ad each, into one AnnData over the genes that all share.

    Parameters
    ----------
    files
        The h5ad files; stage and section are read from obs or from the file name.
    dataset
        What the registry knows; not needed for files of your own.
    unit_um
        µm per unit of ``obsm["spatial"]``: 25 for bins of 50, 0.5 for single nanoballs.

    Returns
    -------
    AnnData
        X and ``layers["counts"]``: raw counts. obs: time (h after conception), embryo, slice, cell_type (annotation).
        ``obsm["spatial"]``: (spots, 2), µm, each section in its own frame.

    Raises
    ------
    SchemaError
        Listing the problems of all files: no counts, no positions, no stage.
    """
    parts, errors = [], []
    for path in map(Path, files):
        try:
            parts.append(_section(path, unit_um))
        except EmbryoError as error:
            errors.append(error)
    contract.collect(errors)
    if not parts:
        raise SchemaError(Problem("no files", "at least one h5ad", "give the files of the stages that you need"))
    adata = parts[0] if len(parts) == 1 else anndata.concat(parts, join="inner", merge="same")
    groups = (schema.EMBRYO, schema.SLICE, schema.CELL_TYPE)
    adata.obs = adata.obs.astype(dict.fromkeys(groups, "category"))
    notes = {"time_zero": "conception", "unit_um": unit_um, "handedness": "sections may be mirrored"}
    return contract.note(adata, organism=dataset.organism if dataset else ORGANISM, expression="counts", notes=notes)


def _section(path: Path, unit_um: float) -> AnnData:
    raw = contract.h5ad(path)
    raw.var_names_make_unique()
    time = _time(raw, path)
    problems = []
    if schema.SPATIAL not in raw.obsm:
        problems.append(Problem("no obsm['spatial']", "a position per spot", "give a file of the MOSTA layout"))
    if not np.isfinite(time).all():
        found = "spots without a stage in obs or in the file name"
        problems.append(Problem(found, "E9.5 or the like", "name the file such as E9.5_E1S1.MOSTA.h5ad"))
    if problems:
        raise SchemaError(*problems, subject=path.name)
    layer = next((name for name in ("count", schema.COUNTS) if name in raw.layers), None)
    matrix = raw.X if layer is None else raw.layers[layer]
    counts = contract.counts(matrix, subject=f"{path.name}: {layer or 'X'}")
    match = _SECTION.search(path.name)
    label = f"{time[0] / 24:g}"
    name = f"E{label}_{match[1].upper() if match else 'E1'}"
    section = f"{name}{match[2].upper() if match else ''}"
    obs = raw.obs.copy()
    obs[schema.TIME] = time
    obs[schema.EMBRYO] = name
    obs[schema.SLICE] = section
    annotation = obs["annotation"] if "annotation" in obs else pd.Series("unknown", index=obs.index)
    obs[schema.CELL_TYPE] = annotation.astype("string").fillna("unknown").astype(str)
    obs.index = section + ":" + obs.index.astype(str)
    x_um = np.asarray(raw.obsm[schema.SPATIAL], dtype=np.float32)[:, :3] * np.float32(unit_um)
    var = pd.DataFrame(index=raw.var_names.astype(str))
    return AnnData(counts, obs=obs, var=var, obsm={schema.SPATIAL: x_um}, layers={schema.COUNTS: counts.copy()})


def _time(raw: AnnData, path: Path) -> np.ndarray:
    """Return hours per spot from a column of stages, else from the file name."""
    for name in _TIMES:
        if name in raw.obs:
            found = stages.parse(raw.obs[name].astype(str))
            if np.isfinite(found).all():
                return found
    stated = stages.hours(path.name)
    return np.full(raw.n_obs, np.nan if stated is None else stated)
