"""What a head reads of a cell: levels of genes, or the states that a pretrained encoder gives them; edited or not."""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from anndata import AnnData
from jaxtyping import Bool, Float
from torch import Tensor

from embryo.core.checks import phrases
from embryo.core.edit import Edit, Operation
from embryo.core.errors import EditError, Problem, SchemaError
from embryo.encoders.decoding.heldout import dense
from embryo.encoders.inputs import normalise

if TYPE_CHECKING:
    from embryo.encoders.pretrained import Pretrained


def levels(adata: AnnData, library: Sequence[str], genes: Sequence[str]) -> Float[np.ndarray, "cells genes"]:
    """Return log1p-normalised (or relative) levels of `genes`, the library size being that of `library`."""
    where = {gene: j for j, gene in enumerate(library)}
    return dense(normalise.log1p_normalised(adata, library)[:, [where[gene] for gene in genes]])


def edited(
    values: Float[np.ndarray, "cells genes"], genes: Sequence[str], edits: Sequence[Edit], *, relative: bool = False
) -> Float[np.ndarray, "cells genes"]:
    """Return levels after edits, with the meaning of `embryo.encoders.inputs.counting.edit`.

    Knock-out 0; knock-down the counts (a relative level) times the dose; over-expression the level plus the dose;
    clamp the dose. No other gene changes; an edit of a gene outside `genes` changes nothing.

    Parameters
    ----------
    values
        Levels of `genes`.
    edits
        In any order; they act in the order of `Edit.turn`.
    relative
        Whether levels are relative, not log1p.
    """
    out = values.copy()
    where = {gene: j for j, gene in enumerate(genes)}
    for each in sorted(edits, key=lambda edit: edit.turn):
        if each.gene in where:
            out[:, where[each.gene]] = _operate(each, out[:, where[each.gene]], relative=relative)
    return out


def _operate(each: Edit, level: Float[np.ndarray, " cells"], *, relative: bool) -> Float[np.ndarray, " cells"]:
    match each.operation:
        case Operation.KNOCKOUT:
            return np.zeros_like(level)
        case Operation.KNOCKDOWN:
            return each.dose * level if relative else np.asarray(np.log1p(each.dose * np.expm1(level)))
        case Operation.OVEREXPRESS:
            return level + each.dose
        case Operation.CLAMP:
            return np.full_like(level, each.dose)


def require_plain(edits: Sequence[Edit], known: Sequence[str]) -> None:
    """Raise `EditError` unless every edit is one of whole cells, without a window, of a gene that is known."""
    held = set(known)
    problems = [
        Problem(f"gene {e.gene!r}{phrases.nearest(e.gene, held)}", "a gene of the data", "check the spelling")
        for e in edits
        if e.gene not in held
    ]
    problems += [
        Problem(f"{e.label} with a window, a mosaic or a type", "an edit of whole cells", "choose the cells first")
        for e in edits
        if e.fraction < 1 or e.cell_type is not None or np.isfinite([e.t_on_h, e.t_off_h]).any()
    ]
    if problems:
        raise EditError(*problems, subject="edit of gene inputs")


def states(
    source: "Pretrained", adata: AnnData, genes: Sequence[str], edits: Sequence[Edit] = ()
) -> Iterator[tuple[np.ndarray, Float[Tensor, "rows genes width"], Bool[Tensor, "rows genes"]]]:
    """Yield (rows, states of named genes, which of them the model saw in which cell), batch by batch.

    Parameters
    ----------
    source
        A pretrained encoder with gene embeddings.
    adata
        Raw counts.
    genes
        Names in the data (or in the model); those that the model does not read are never seen.
    edits
        Made on the gene inputs, before any tokenising.

    Raises
    ------
    SchemaError
        If the model has no gene embeddings, or the data are not what it reads.
    """
    gene_map = source.map_genes(adata)
    place = torch.full((len(gene_map.targets) + 1,), -1)  # the last entry is that of special tokens, column -1
    for k, gene in enumerate(genes):
        place[gene_map.column(gene)] = k
    place[-1] = -1
    for block, cells in source.profiles(adata, gene_map):
        tokens = source.tokenize(source.edit(cells, edits, gene_map))
        for rows, encoded in source.batches(tokens):
            if encoded.gene is None:
                problem = Problem(f"{source.name} without gene embeddings", "a model with them", "choose another")
                raise SchemaError(problem, subject="gene programs")
            columns, hidden = encoded.columns.cpu(), encoded.gene.float().cpu()
            where = torch.where(encoded.keep.cpu(), place[columns], -1)
            cell, at = (where >= 0).nonzero(as_tuple=True)
            values = torch.zeros(len(rows), len(genes), hidden.shape[-1])
            seen = torch.zeros(len(rows), len(genes), dtype=torch.bool)
            values[cell, where[cell, at]], seen[cell, where[cell, at]] = hidden[cell, at], True
            yield block.start + np.asarray(rows), values, seen
