"""Single-cell RNA of the *C. elegans* embryo by lineage group (Packer et al. 2019), and its join with named cells."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from anndata import AnnData
from scipy import sparse

from embryo.core import schema
from embryo.core.checks import phrases
from embryo.core.errors import Problem, SchemaError
from embryo.datasets import contract, lineage
from embryo.datasets.registry import Dataset

_ENDING = "_count_matrix.csv"
_TISSUES = {"hyp": ("Caa", "Cpa"), "body_muscle": ("Cap", "Cpp")}  # groups of the C lineage


def convert(files: Sequence[Path], dataset: Dataset) -> AnnData:
    """Convert the count matrices of lineage groups into one AnnData of single cells.

    Parameters
    ----------
    files
        ``GROUP_count_matrix.csv`` (genes x cells) for each group, and the two gene lists where they are at hand.
    dataset
        What the registry knows.

    Returns
    -------
    AnnData
        X is log1p of the normalised values, sparse; ``obs["cell_type"]`` the lineage group; ``var["regulator"]`` and
        ``var["target"]`` from the gene lists. There is no time and no position.

    Raises
    ------
    SchemaError
        If there is no matrix, or the matrices have different genes.
    """
    matrices = read(files)
    values = np.log1p(np.concatenate([m.to_numpy(dtype=np.float32) for m in matrices.values()], axis=1)).T
    first = next(iter(matrices.values()))
    group = np.repeat(list(matrices), [m.shape[1] for m in matrices.values()])
    named = [f"{g}:{c}" for g, m in matrices.items() for c in m.columns]
    obs = pd.DataFrame({schema.EMBRYO: "pooled", schema.CELL_TYPE: group}, index=pd.Index(named, dtype=str))
    obs = obs.astype({schema.EMBRYO: "category", schema.CELL_TYPE: "category"})
    adata = AnnData(sparse.csr_matrix(values), obs=obs, var=_lists(files, first.index))
    return contract.note(adata, organism=dataset.organism, expression="log1p")


def read(files: Sequence[Path]) -> dict[str, pd.DataFrame]:
    """Return the matrix (genes x cells) of each group; a gene that stands twice is kept once.

    Raises
    ------
    SchemaError
        Listing every matrix that cannot be read or has other genes than the first.
    """
    paths = sorted(path for path in files if path.name.endswith(_ENDING))
    if not paths:
        found = phrases.few(path.name for path in files) or "(none)"
        raise SchemaError(Problem(f"no matrix among {found}", f"files named GROUP{_ENDING}", "give the whole folder"))
    matrices: dict[str, pd.DataFrame] = {}
    problems = []
    for path in paths:
        matrix = contract.table(path, (), index_col=0)
        matrix = matrix[~matrix.index.duplicated()]
        group = path.name.removesuffix(_ENDING)
        values = matrix.to_numpy()
        if values.dtype.kind not in "fiu" or not np.isfinite(values).all() or (values < 0).any():
            cure = "restore the file (embryo data fetch celegans-packer)"
            problems.append(Problem(f"{path.name} with values that are no levels", "finite numbers of 0 or more", cure))
        elif matrices and not matrix.index.equals(next(iter(matrices.values())).index):
            cure = "give matrices of one study"
            problems.append(Problem(f"{path.name} with other genes than {paths[0].name}", "the same genes", cure))
        else:
            matrices[group] = matrix
    if problems:
        raise SchemaError(*problems)
    return matrices


def group_means(matrices: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """Return groups x genes: log1p of the mean normalised level, float32."""
    means = {group: matrix.to_numpy(dtype=np.float64).mean(axis=1) for group, matrix in matrices.items()}
    genes = next(iter(matrices.values())).index.astype(str)
    return pd.DataFrame(np.log1p(np.array(list(means.values()))).astype(np.float32), index=list(means), columns=genes)


def group_of(cell: str, groups: Iterable[str]) -> str:
    """Return the group of a named cell: the longest lineage prefix; ``""`` where no group stands above it.

    A group ``X-`` (descendants of X) and a group ``X`` both take X and what descends from it, unless a deeper group
    does. A group never lends its values to a cell above it: that would be a look into the future.
    """
    if not lineage.named(cell):
        return ""
    best, length = "", 0
    for group in groups:
        for prefix in _TISSUES.get(group, (group.rstrip("-"),)):
            if cell.startswith(prefix) and len(prefix) > length and lineage.founder(cell) == lineage.founder(prefix):
                best, length = group, len(prefix)
    return best


def join(means: pd.DataFrame, cells: Iterable[str]) -> tuple[pd.DataFrame, pd.Series]:
    """Give each named cell the mean of its lineage group.

    Parameters
    ----------
    means
        Groups x genes; see `group_means`.
    cells
        Names.

    Returns
    -------
    table
        Cells x genes, float32. A cell without a group has the mean of all groups, which says nothing about it.
    known
        Per cell, whether it has a group.
    """
    names = list(dict.fromkeys(cells))
    group = pd.Series([group_of(cell, means.index) for cell in names], index=pd.Index(names, dtype=object))
    known = group != ""
    row = means.index.get_indexer(pd.Index(group))
    values = np.where(known.to_numpy()[:, None], means.to_numpy()[row], means.to_numpy().mean(axis=0))
    return pd.DataFrame(values.astype(np.float32), index=group.index, columns=means.columns), known


def _lists(files: Sequence[Path], genes: pd.Index) -> pd.DataFrame:
    var = pd.DataFrame(index=genes.astype(str))
    for path in files:
        column = {"regulatory_genes_name.csv": "regulator", "target_genes_name.csv": "target"}.get(path.name)
        if column:
            listed = contract.table(path, ("x",), index_col=0).x.astype(str)
            var[column] = var.index.isin(listed)
    return var
