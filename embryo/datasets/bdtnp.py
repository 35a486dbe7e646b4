"""The virtual *Drosophila* embryo of the BDTNP at stage 5: relative expression of 84 genes per nucleus, in µm."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from anndata import AnnData

from embryo.core import schema
from embryo.core.errors import Problem, SchemaError
from embryo.datasets import contract
from embryo.datasets.registry import Dataset

TIME_H = 2.5  # stage 5, cellularisation, after egg laying at 25 °C
_AXES = ("xcoord", "ycoord", "zcoord")


def convert(files: Sequence[Path], dataset: Dataset) -> AnnData:
    """Convert ``dge.txt`` (nuclei x genes) and ``geometry.txt`` (positions, at least as many rows).

    Raises
    ------
    SchemaError
        If a file is missing or there are fewer positions than nuclei.
    """
    levels = contract.table(contract.one(files, "dge.txt"), (), sep="\t")
    places = contract.table(contract.one(files, "geometry.txt"), _AXES, sep=r"\s+")
    if len(places) < len(levels):
        found = f"{len(places)} positions for {len(levels)} nuclei"
        raise SchemaError(Problem(found, "a position for each nucleus", "give the two files of one embryo"))
    values = contract.numbers(levels, list(levels.columns), subject="dge.txt")
    x_um = contract.numbers(places[: len(levels)], _AXES, subject="geometry.txt")
    name = pd.Index([f"nucleus{k}" for k in range(len(levels))])
    obs = pd.DataFrame(
        {schema.TIME: TIME_H, schema.EMBRYO: "bdtnp", schema.CELL: name, schema.PARENT: ""}, index=name
    ).astype({schema.EMBRYO: "category"})
    var = pd.DataFrame(index=levels.columns.astype(str))
    adata = AnnData(values.astype(np.float32), obs=obs, var=var, obsm={schema.SPATIAL: x_um.astype(np.float32)})
    notes = {
        "time_zero": "egg laying",
        "axes": ["anterior-posterior", "left-right", "dorsal-ventral"],
        "assembled_note": "An average over many embryos; the genes were never measured together.",
    }
    return contract.note(adata, organism=dataset.organism, expression="relative", assembled=True, notes=notes)
