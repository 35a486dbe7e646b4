"""The Tal1 knock-out chimera at E8.5: raw counts, knock-out cells marked by tomato."""

from collections.abc import Sequence
from pathlib import Path

import pandas as pd
from anndata import AnnData

from embryo.core import schema
from embryo.core.errors import Problem, SchemaError
from embryo.datasets import contract, stages
from embryo.datasets.registry import Dataset

ORGANISM = "Mus musculus"
GENE = "Tal1"
_TRUE = {"true", "1", "1.0", "yes"}


def convert(files: Sequence[str | Path], dataset: Dataset | None = None) -> AnnData:
    """Convert the h5ad (raw counts in X, colData in obs).

    Parameters
    ----------
    files
        The h5ad.
    dataset
        What the registry knows; not needed for a file of your own.

    Returns
    -------
    AnnData
        obs: time (h after conception, from the stage), embryo (the sample), cell_type, perturbation
        (``"knockout Tal1"`` for tomato cells), and all columns of the file. No positions.

    Raises
    ------
    SchemaError
        If columns are missing or X does not hold counts.
    """
    path = contract.single([Path(f) for f in files])
    adata = contract.h5ad(path)
    missing = [c for c in ("tomato", "stage") if c not in adata.obs]
    if missing:
        found = f"no column {', '.join(missing)} among {', '.join(adata.obs.columns)}"
        cure = "keep colData when converting from R"
        raise SchemaError(Problem(found, "tomato and stage in obs", cure), subject=path.name)
    counts = contract.counts(adata.X, subject=f"{path.name}: X")
    obs = adata.obs.copy()
    tomato = obs["tomato"].astype(str).str.lower().isin(_TRUE)
    obs[schema.TIME] = stages.parse(obs["stage"].astype(str))
    obs[schema.EMBRYO] = "sample" + obs["sample"].astype(str) if "sample" in obs else "chimera"
    obs[schema.CELL] = obs.index.astype(str)
    if "celltype.mapped" in obs:
        obs[schema.CELL_TYPE] = obs["celltype.mapped"].astype(str)
    obs[schema.PERTURBATION] = tomato.map({True: f"knockout {GENE}", False: ""})
    groups = [c for c in (schema.EMBRYO, schema.CELL_TYPE, schema.PERTURBATION) if c in obs]
    obs = obs.astype(dict.fromkeys(groups, "category"))
    made = AnnData(counts, obs=obs, var=pd.DataFrame(index=adata.var_names), layers={schema.COUNTS: counts.copy()})
    notes = {"time_zero": "conception", "gene_ids": "Ensembl, mouse"}
    return contract.note(made, organism=dataset.organism if dataset else ORGANISM, expression="counts", notes=notes)
