"""What a head without a pretrained encoder reads of a cell: levels of genes, edited or not."""

from collections.abc import Sequence

import numpy as np
from anndata import AnnData
from jaxtyping import Float

from embryo.core.checks import phrases
from embryo.core.edit import Edit, Operation
from embryo.core.errors import EditError, Problem
from embryo.encoders.decoding.heldout import dense
from embryo.encoders.inputs import normalise


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
        case _:
            problem = Problem(f"{each.label} on gene inputs", "an edit of a gene", "roll it out with embryo perturb")
            raise EditError(problem, subject="edit of gene inputs")


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
