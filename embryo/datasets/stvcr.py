"""Spatial and gene simulations of stVCR, with known truth."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from anndata import AnnData

from embryo.core import schema
from embryo.core.errors import Problem, SchemaError
from embryo.datasets import contract
from embryo.datasets.registry import Dataset

TRUE_FRAME, TRUE_VELOCITY = "spatial_gt", "spatial_velocity"  # obsm
TRUE_GROWTH = "growth_rate"  # obs


def convert(files: Sequence[Path], dataset: Dataset) -> AnnData:
    """Convert one h5ad of the stVCR layout; every slot is kept as found.

    Returns
    -------
    AnnData
        obs: time (one unit as one hour), embryo (one slide per time), cell_type where the file has types, theta and
        growth_rate where it has them. obsm: spatial (rotated by theta), spatial_gt, spatial_velocity where known.

    Raises
    ------
    SchemaError
        If time or positions are missing.
    """
    path = contract.single(files)
    adata = contract.h5ad(path)
    problems = []
    if schema.TIME not in adata.obs:
        problems.append(Problem("no obs['time']", "a time per cell", "give a file of the stVCR layout"))
    if schema.SPATIAL not in adata.obsm:
        problems.append(Problem("no obsm['spatial']", "a position per cell", "give a file of the stVCR layout"))
    if problems:
        raise SchemaError(*problems, subject=path.name)
    obs = adata.obs.copy()
    obs[schema.TIME] = pd.to_numeric(obs[schema.TIME]).astype(float)
    obs[schema.EMBRYO] = ("slide" + obs[schema.TIME].map("{:g}".format)).astype("category")
    if schema.CELL_TYPE not in obs and "type" in obs:
        obs[schema.CELL_TYPE] = obs["type"].astype("category")
    obs.index = pd.Index([f"cell{k}" for k in range(len(obs))], dtype=str)
    x = np.asarray(adata.X, dtype=np.float32)
    var = pd.DataFrame(index=[f"gene{k + 1}" for k in range(x.shape[1])])
    made = AnnData(x, obs=obs, var=var, obsm={key: np.asarray(value) for key, value in adata.obsm.items()})
    notes = {"scale": "simulated: one unit of time is written as 1 h, one unit of length as 1 µm"}
    return contract.note(made, organism=dataset.organism, expression="relative", notes=notes)
