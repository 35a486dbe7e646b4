"""Tables of genes that models bring or need: numbered vocabularies, and edge lists of regulatory networks."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from jaxtyping import Int

from embryo.core.checks import phrases
from embryo.core.errors import Problem, StoreError

ENDS = (("regulator", "target"), ("regulator.values", "target.values"), ("source", "target"))
_RESTORE = "restore the published file"


def read_table(path: Path) -> pd.DataFrame:
    """Return a table as text, without spaces around names and entries; tabs part the columns of a ``.tsv``.

    Raises
    ------
    StoreError
        If it is missing or is no table.
    """
    try:
        table = pd.read_csv(path, sep="\t" if path.suffix == ".tsv" else ",", dtype=str, keep_default_na=False)
    except (OSError, ValueError) as error:
        found = f"no table ({str(error).splitlines()[0]})"
        raise StoreError(Problem(found, "a table with a header", _RESTORE), subject=path.name) from error
    return pd.DataFrame({str(name).strip(): column.str.strip() for name, column in table.items()})


def read_numbers(path: Path, genes: str, numbers: str) -> dict[str, int]:
    """Return the number of each gene, in the order of the numbers.

    Parameters
    ----------
    path
        Table with a header.
    genes, numbers
        Its columns of names and of numbers 0, 1, 2, ..., in any order.

    Raises
    ------
    StoreError
        If columns are missing, a gene stands there twice, or the numbers are not 0, 1, 2, ...
    """
    table = read_table(path)
    _require_columns(table, (genes, numbers), path)
    values = pd.to_numeric(table[numbers], errors="coerce")
    double = table[genes][table[genes].duplicated()].unique()
    problems = []
    if len(double):
        problems.append(Problem(f"genes that stand there twice: {phrases.few(double)}", "each gene once", _RESTORE))
    if sorted(values.fillna(-1)) != list(range(len(table))):
        problems.append(Problem("numbers that are not 0, 1, 2, ... up to the last", "each number once", _RESTORE))
    if problems:
        raise StoreError(*problems, subject=path.name)
    order = np.argsort(values.to_numpy())
    return {str(table[genes].iloc[k]): number for number, k in enumerate(order)}


def read_links(path: Path, genes: Sequence[str]) -> Int[np.ndarray, "2 links"]:
    """Return the undirected edges between `genes` of a regulatory network, as their places, each once, without loops.

    Parameters
    ----------
    path
        Edge list with the columns regulator and target (ARACNe's ``regulator.values`` and ``target.values``, or source
        and target); other columns are not read.
    genes
        As the edge list names them.

    Raises
    ------
    StoreError
        If columns are missing, or no edge lies between two of the genes.
    """
    table = read_table(path)
    ends = next((pair for pair in ENDS if set(pair) <= set(table.columns)), ENDS[0])
    _require_columns(table, ends, path)
    place = pd.Index(genes)
    pairs: np.ndarray = np.stack([place.get_indexer(pd.Index(table[end])) for end in ends])
    known = (pairs >= 0).all(axis=0) & (pairs[0] != pairs[1])
    links: np.ndarray = np.unique(np.sort(pairs[:, known], axis=0), axis=1).astype(np.int64)
    if not links.shape[1]:
        theirs = phrases.few(table[ends[0]].unique(), 3) or "none"
        found = f"no edge between two of the model's genes ({len(table)} edges of {theirs})"
        cure = "name the genes as the model does"
        raise StoreError(Problem(found, f"edges between genes such as {genes[0]}", cure), subject=path.name)
    return links


def _require_columns(table: pd.DataFrame, wanted: Sequence[str], path: Path) -> None:
    if not set(wanted) <= set(table.columns):
        found = f"columns {phrases.few(table.columns)}"
        raise StoreError(
            Problem(found, f"columns {' and '.join(wanted)}", "name them so, or restore the file"), subject=path.name
        )
