"""The cells that embeddings are judged on: read, labelled, thinned out, with what must be said of them."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from anndata import AnnData
from pydantic import Field
from scipy import sparse

from embryo import datasets, read
from embryo.config import Protect, Read, Section
from embryo.core import schema
from embryo.core.errors import ConfigError, Problem, SchemaError
from embryo.evaluate.exam import Task

_WHOLE = 1e-3  # how near to a whole number a level over the cell's smallest must be, to be a count
_ROWS = 2000  # rows looked at a time


class Derive(Section):
    """A column made from another one by a pattern."""

    column: str
    pattern: str = Field(description="regular expression; its first group, at the start of the text, is the value")
    other: str = Field("other", description="value where the pattern does not match")


class Board(Section):
    """One set of cells and what to ask of it; see `embryo.evaluate.exam.Task` for labels to condition."""

    name: str
    read: Read = Read()
    labels: list[str] = Field(default_factory=lambda: [schema.CELL_TYPE])
    stage: str | None = schema.TIME
    group: str | None = Field(schema.EMBRYO, description="held out whole; none: cells at random, which is optimistic")
    batch: str | None = schema.EMBRYO
    condition: str | None = None
    derive: dict[str, Derive] = Field(default_factory=dict)
    one_per: str | None = Field(None, description="one row per value of this column: means of time and expression")
    recover_counts: bool = Field(default=False, description="counts behind values normalised by one factor per cell")
    drop_genes: list[str] = Field(default_factory=list)
    max_cells: int = Field(1500, ge=20, description="more are subsampled with the run's seed")
    protect: Protect = Protect()
    notes: list[str] = Field(default_factory=list, description="what a reader must know of these cells")

    def task(self, neighbours: int, pca: int, hvg: int) -> Task:
        """Return what to ask."""
        return Task(
            self.name, tuple(self.labels), self.stage, self.group, self.batch, self.condition, neighbours, pca, hvg
        )


@dataclass(frozen=True)
class Loaded:
    """Cells of a board and sentences about how they came about."""

    cells: AnnData
    notes: tuple[str, ...]


def load(board: Board, seed: int) -> Loaded:
    """Read the cells of a board.

    Raises
    ------
    EmbryoError
        If the source, a column or a gene is absent, or values are not what the board says.
    """
    adata = source(board.read, needs=schema.SNAPSHOT, subject=f"board {board.name}")
    notes = list(board.notes)
    if board.drop_genes:
        _require(board.drop_genes, list(adata.var_names), "gene", board)
        adata = adata[:, ~adata.var_names.isin(board.drop_genes)]
        notes.append(f"Genes left out: {', '.join(board.drop_genes)}.")
    if board.one_per is not None:
        _require([board.one_per], list(adata.obs), "column", board)
        rows = adata.n_obs
        adata = one_per(adata, board.one_per)
        notes.append(f"One row per {board.one_per}: {adata.n_obs:,} of {rows:,} rows, means of time and expression.")
    empty = np.asarray((adata.X != 0).sum(axis=1)).ravel() == 0
    adata = adata[~empty].copy()
    if empty.any():
        notes.append(f"{int(empty.sum()):,} cells without expression left out.")
    if adata.n_obs > board.max_cells:
        keep = np.sort(np.random.default_rng(seed).choice(adata.n_obs, board.max_cells, replace=False))
        notes.append(f"{board.max_cells:,} of {adata.n_obs:,} cells, drawn with seed {seed}.")
        adata = adata[keep].copy()
    if board.recover_counts:
        adata = recover_counts(adata)
        notes.append(
            "Counts recovered: in every cell all values are whole multiples of the smallest one, which is taken for "
            "one count."
        )
    for name, how in board.derive.items():
        _require([how.column], list(adata.obs), "column", board)
        adata.obs[name] = derived(adata.obs[how.column], how)
    return Loaded(adata, tuple(notes))


def derived(column: pd.Series, how: Derive) -> pd.Series:
    """Return the first group of the pattern at the start of each text, `other` where there is none."""
    try:
        pattern = re.compile(how.pattern)
    except re.error as error:
        raise ConfigError(Problem(f"pattern {how.pattern!r} ({error})", "a regular expression", "mend it")) from error
    found = [pattern.match(text) for text in column.astype(str)]
    return pd.Series([m[1] if m and pattern.groups else how.other for m in found], index=column.index)


def one_per(adata: AnnData, column: str) -> AnnData:
    """Return one row per value of `column`: mean expression and mean time (h), and the first value of all else.

    For cells that stand in many embryos under one name with the same gene vector: they are one observation, not many.
    """
    codes, names = pd.factorize(adata.obs[column].astype(str))
    weights = sparse.csr_array((1 / np.bincount(codes)[codes], (codes, np.arange(adata.n_obs))))
    first = np.unique(codes, return_index=True)[1]
    obs = adata.obs.iloc[first].copy()
    if schema.TIME in obs:
        obs[schema.TIME] = weights @ adata.obs[schema.TIME].to_numpy(float)
    obs.index = pd.Index(names, dtype=str)
    values = np.zeros((len(names), adata.n_vars))
    for start in range(0, adata.n_obs, _ROWS):
        rows = slice(start, start + _ROWS)
        part = adata.X[rows]
        values += weights[:, rows] @ (part.toarray() if sparse.issparse(part) else np.asarray(part, dtype=float))
    return AnnData(values, obs=obs, var=adata.var, uns=dict(adata.uns))


def recover_counts(adata: AnnData) -> AnnData:
    """Return the counts behind log1p of counts that were divided by one factor per cell.

    Every value of a cell is then a whole multiple of its smallest one, which is taken for one count: the counts are
    right up to a whole factor per cell.

    Raises
    ------
    SchemaError
        If the values are not log1p, or are no such multiples in some cells.
    """
    levels = sparse.csr_array(adata.X, dtype=np.float64)
    levels.data = np.expm1(levels.data)
    levels.eliminate_zeros()
    least = np.array([part.min() if len(part) else 1.0 for part in np.split(levels.data, levels.indptr[1:-1])])
    levels.data /= np.repeat(least, np.diff(levels.indptr))
    off = np.abs(levels.data - levels.data.round()) > _WHOLE * np.maximum(1, levels.data / 100)
    kind = schema.meta(adata).get("expression")
    if kind != "log1p" or off.any():
        found = f"expression of kind {kind!r}, {int(off.sum())} values that are no multiples of the cell's smallest"
        raise SchemaError(Problem(found, "log1p of counts over one factor per cell", "set recover_counts to false"))
    levels.data = levels.data.round()
    counts = sparse.csr_matrix(levels)
    uns = dict(adata.uns) | {schema.META: {**schema.meta(adata), "expression": "counts"}}
    return AnnData(counts, obs=adata.obs, var=adata.var, layers={schema.COUNTS: counts.copy()}, uns=uns)


def source(r: Read, *, needs: schema.Needs, subject: str) -> AnnData:
    """Read a file, or a registered dataset.

    Raises
    ------
    EmbryoError
        If neither is named, or it cannot be read.
    """
    if r.path is not None:
        return read.auto(r.path, keys(r), needs=needs)
    if r.dataset is None or r.dataset == "synthetic":
        found = f"read.dataset {r.dataset!r}"
        raise ConfigError(Problem(found, "a registered dataset or a file", "see embryo data list"), subject=subject)
    return datasets.load(r.dataset, **r.params)


def keys(r: Read) -> read.Keys:
    """Return the names and units that a section gives for the slots of a file."""
    return read.Keys.of({**r.keys, "time_unit": r.time_unit, "space_unit": r.space_unit})


def _require(names: Sequence[str], known: Sequence[str], kind: str, board: Board) -> None:
    problems = [
        Problem(f"no {kind} {name!r}", f"one of {len(known)}", "correct the name")
        for name in names
        if name not in known
    ]
    if problems:
        raise ConfigError(*problems, subject=f"board {board.name}")
