"""Raw counts out of an AnnData, block by block, and gene edits on them: the inputs of every pretrained encoder."""

import hashlib
import zlib
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
from anndata import AnnData
from jaxtyping import Bool, Float, UInt64
from scipy import sparse

from embryo.core import schema
from embryo.core.checks import phrases
from embryo.core.edit import Edit, Operation
from embryo.core.errors import EditError, Problem, SchemaError
from embryo.encoders.genes.genemap import GeneMap
from embryo.encoders.inputs import normalise
from embryo.encoders.inputs.tokens import Profiles

BLOCK = 2048  # cells held in memory at a time


def blocks(adata: AnnData, size: int = BLOCK) -> Iterator[tuple[slice, sparse.csr_array]]:
    """Yield (rows, raw counts over all genes) block by block; memory does not grow with the number of cells.

    Parameters
    ----------
    adata
        Cells by genes; counts in ``layers["counts"]``, or in X where there is no such layer. May be backed.
    size
        Cells per block.

    Raises
    ------
    SchemaError
        If the expression is not declared to be counts, or is not whole and non-negative: a model that takes logarithms
        or ranks itself gives nonsense, silently, on values that are already normalised.
    """
    found = normalise.kind(adata)
    if found != normalise.COUNTS:
        raise SchemaError(
            Problem(
                f"expression of kind {found!r}",
                "raw counts: this encoder normalises by itself",
                f"put the raw counts into layers[{schema.COUNTS!r}] and read the data again",
            )
        )
    source: Any = adata.layers.get(schema.COUNTS)
    source = adata.X if source is None else source
    for start in range(0, adata.n_obs, size):
        rows = slice(start, min(start + size, adata.n_obs))
        yield rows, _whole(source[rows], adata, rows)


def profiles(counts: sparse.csr_array, gene_map: GeneMap) -> Profiles:
    """Return cells over the genes of a model.

    Parameters
    ----------
    counts
        Raw counts over all genes of the data, shape (cells, genes).
    gene_map
        Which of them the model reads.
    """
    collected = gene_map.collect(counts)
    total = np.asarray(counts.sum(axis=1), dtype=np.float64).ravel()
    return Profiles(collected, total, _keys(collected))


def edit(
    cells: Profiles,
    edits: Sequence[Edit],
    gene_map: GeneMap,
    carriers: Bool[np.ndarray, "edits cells"] | None = None,
) -> Profiles:
    """Return the cells with genes edited, before any tokenising: one meaning for every model.

    On the level ``g = log1p(1e4 counts / total)`` of the gene: knock-out 0, knock-down the counts times the dose,
    over-expression ``g + dose``, clamp ``dose``. The library size stays that of the unedited cell, so that no other
    gene changes, and so do the keys, so that control and edit share what is drawn. Fractional counts are meant.
    Together, edits act in the order of `Edit.turn`.

    Parameters
    ----------
    cells
        What `profiles` gave; not modified.
    edits
        Genes by their names in the data or in the model. A gene that the model does not read changes nothing.
    gene_map
        As for `profiles`.
    carriers
        Which cells carry each edit; all by default.
    """
    counts = cells.counts
    scale = schema.TARGET_SUM / np.maximum(cells.total, 1.0)
    for number, each in sorted(enumerate(edits), key=lambda pair: pair[1].turn):
        column = gene_map.column(each.gene)
        if column < 0:
            continue
        before = counts[:, [column]].toarray().ravel()
        after = _operate(each, before, scale)
        if carriers is not None:
            after = np.where(carriers[number], after, before)
        counts = _with_column(counts, column, before, after)
    return Profiles(counts, cells.total, cells.keys)


def carriers(adata: AnnData, edits: Sequence[Edit], *, seed: int) -> Bool[np.ndarray, "edits cells"]:
    """Return which cells carry each edit: those of its type, at its times, and of these its share.

    Who belongs to a mosaic is drawn from the seed and the cell's name, so that it does not hang on the other cells.

    Raises
    ------
    SchemaError
        If an edit is for a cell type, and the cells have none.
    """
    typed = [each for each in edits if each.cell_type is not None]
    if typed and schema.CELL_TYPE not in adata.obs:
        found = f"an edit of {typed[0].cell_type} cells for cells without a type"
        raise SchemaError(Problem(found, f"obs[{schema.CELL_TYPE!r}]", "annotate the cells, or edit all of them"))
    return np.stack([_carry(adata, each, seed) for each in edits])


def _carry(adata: AnnData, each: Edit, seed: int) -> Bool[np.ndarray, " cells"]:
    who = np.ones(adata.n_obs, dtype=bool)
    if each.cell_type is not None:
        who &= (adata.obs[schema.CELL_TYPE].astype(str) == each.cell_type).to_numpy()
    if schema.TIME in adata.obs:
        who &= np.array([each.active(float(t)) for t in adata.obs[schema.TIME]], dtype=bool)
    if each.fraction < 1:
        draws = [np.random.default_rng((seed, zlib.crc32(str(name).encode()))).random() for name in adata.obs_names]
        who &= np.array(draws) < each.fraction
    return who


def _operate(
    each: Edit, counts: Float[np.ndarray, " cells"], scale: Float[np.ndarray, " cells"]
) -> Float[np.ndarray, " cells"]:
    match each.operation:
        case Operation.KNOCKOUT:
            return np.zeros_like(counts)
        case Operation.KNOCKDOWN:
            return counts * each.dose
        case Operation.OVEREXPRESS:
            return np.asarray(np.expm1(np.log1p(counts * scale) + each.dose) / scale)
        case Operation.CLAMP:
            return np.asarray(np.expm1(each.dose) / scale)
        case _:
            problem = Problem(f"{each.label} on gene inputs", "an edit of a gene", "roll it out with embryo perturb")
            raise EditError(problem, subject="edit of gene inputs")


def _with_column(
    counts: sparse.csr_array, column: int, before: Float[np.ndarray, " cells"], after: Float[np.ndarray, " cells"]
) -> sparse.csr_array:
    """Return the matrix with one column replaced; the other entries keep their bits."""
    if np.array_equal(before, after):
        return counts
    others = counts.copy()
    others.data[others.indices == column] = 0.0
    rows = np.flatnonzero(after)
    replaced = sparse.csr_array((after[rows], (rows, np.full(len(rows), column))), shape=counts.shape)
    out = sparse.csr_array(others + replaced)
    out.eliminate_zeros()
    out.sort_indices()
    return out


def _whole(block: Any, adata: AnnData, rows: slice) -> sparse.csr_array:
    counts = sparse.csr_array(block, dtype=np.float64)
    values = counts.data
    bad = ~np.isfinite(values) | (values < 0) | (values != np.round(values))
    if bad.any():
        cells = np.unique(np.repeat(np.arange(counts.shape[0]), np.diff(counts.indptr))[bad])
        first = [str(name) for name in adata.obs_names[rows][cells[:5]]]
        example = phrases.number(float(values[bad][0]))
        raise SchemaError(
            Problem(
                f"{int(bad.sum()):,} values that are no counts, such as {example}, in cells {phrases.few(first)}",
                "whole numbers of 0 or more: this encoder normalises by itself",
                f"put the raw counts into layers[{schema.COUNTS!r}]",
            )
        )
    return counts


def _keys(counts: sparse.csr_array) -> UInt64[np.ndarray, " cells"]:
    columns, values = counts.indices.astype(np.int64), counts.data.astype(np.float64)
    ends = counts.indptr
    digests = (
        hashlib.blake2b(columns[a:b].tobytes() + values[a:b].tobytes(), digest_size=8).digest()
        for a, b in pairwise(ends)
    )
    return np.frombuffer(b"".join(digests), dtype=np.uint64).copy()
