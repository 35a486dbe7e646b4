"""Snapshot benchmarks as csv: a column ``samples`` with the time index, one column per dimension."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from anndata import AnnData

from embryo.core import schema
from embryo.datasets import contract
from embryo.datasets.registry import Dataset

_TIME = "samples"


def convert(files: Sequence[Path], dataset: Dataset, *, hours_per_sample: float = 1.0) -> AnnData:
    """Convert one csv.

    Parameters
    ----------
    files
        The csv.
    dataset
        What the registry knows.
    hours_per_sample
        How many hours one step of the time index stands for. The files give none: 1 is a placeholder.

    Returns
    -------
    AnnData
        X and ``obsm["X_pca"]``: the dimensions.

    Raises
    ------
    SchemaError
        If there is no column ``samples``, or values are not finite numbers.
    """
    path = contract.single(files)
    raw = contract.table(path, (_TIME,))
    names = [c for c in raw.columns if c != _TIME]
    values = contract.numbers(raw, [_TIME, *names], subject=path.name)
    x = values[:, 1:].astype(np.float32)
    obs = pd.DataFrame(
        {schema.TIME: values[:, 0] * hours_per_sample, schema.EMBRYO: "population"},
        index=pd.Index([f"cell{k}" for k in range(len(raw))], dtype=str),
    ).astype({schema.EMBRYO: "category"})
    adata = AnnData(x, obs=obs, var=pd.DataFrame(index=names), obsm={"X_pca": x.copy()})
    scale = f"ordinal: one sample index is written as {hours_per_sample:g} h, not measured"
    return contract.note(adata, organism=dataset.organism, expression="relative", notes={"time_scale": scale})
