"""Edits on the gene inputs of cells, as an encoder reads them."""

from collections.abc import Sequence

import numpy as np
import torch
from anndata import AnnData
from jaxtyping import Float

from embryo.core import schema
from embryo.core.edit import GENE_OPERATIONS, Edit, Operation
from embryo.core.errors import EditError, Problem
from embryo.perturb.held import initial


def genes(adata: AnnData, edits: Sequence[Edit]) -> AnnData:
    """Return a copy of `adata` with the edits made on its gene inputs, and every slot that they make stale dropped.

    Knock-out sets the gene to 0, knock-down multiplies it by the dose, over-expression adds and clamp sets the dose
    (on the scale of the matrix: counts for ``layers["counts"]``, log1p or relative levels for X). A mosaic or a window
    has no meaning on a snapshot and is refused, and so is an edit of edges, cells, a region or a clone.

    Raises
    ------
    EditError
        If a gene is absent, or an edit is not one of a gene in whole cells.
    """
    problems = [
        Problem(
            f"gene {e.gene!r}", f"one of the {adata.n_vars} genes of the data", "check the spelling and the gene ids"
        )
        for e in edits
        if e.operation in GENE_OPERATIONS and e.gene not in adata.var_names
    ]
    problems += [
        Problem(f"{e.label} on gene inputs", "an edit of a gene", "use perturb.apply on a roll-out instead")
        for e in edits
        if e.operation not in GENE_OPERATIONS or e.region is not None or e.clone is not None
    ]
    problems += [
        Problem(
            f"{e.label} with a window or a mosaic", "an edit of whole cells", "use perturb.apply on a roll-out instead"
        )
        for e in edits
        if e.fraction < 1 or np.isfinite([e.t_on_h, e.t_off_h]).any()
    ]
    if problems:
        raise EditError(*problems, subject="edit of gene inputs")
    edited = adata.copy()
    for edit in edits:
        _edit_column(edited, edit)
    for slot in (schema.EMBED, schema.PANEL):
        edited.obsm.pop(slot, None)
    return edited


def _edit_column(adata: AnnData, edit: Edit) -> None:
    a = adata.var_names.get_loc(edit.gene)
    rows = np.ones(adata.n_obs, bool)
    if edit.cell_type is not None:
        rows = (adata.obs[schema.CELL_TYPE] == edit.cell_type).to_numpy()
    for matrix in [adata.X, *(adata.layers[k] for k in (schema.COUNTS,) if k in adata.layers)]:
        column = matrix[:, [a]]
        level = torch.from_numpy(np.array(column.todense() if hasattr(column, "todense") else column, float).ravel())
        new = level + edit.dose if edit.operation is Operation.OVEREXPRESS else initial(edit, level)
        _set_column(matrix, a, np.where(rows, new.numpy(), level.numpy()))


def _set_column(matrix: object, a: int, values: Float[np.ndarray, " cells"]) -> None:
    if isinstance(matrix, np.ndarray):
        matrix[:, a] = values
        return
    sparse = matrix.tolil()  # type: ignore[attr-defined]
    sparse[:, a] = values[:, None]
    back = sparse.asformat(matrix.format)  # type: ignore[attr-defined]
    matrix.data, matrix.indices, matrix.indptr = back.data, back.indices, back.indptr  # type: ignore[attr-defined]
