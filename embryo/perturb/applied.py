"""Edits held on a law and made on a start."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from difflib import get_close_matches

import torch
from jaxtyping import Bool
from torch import Tensor

from embryo.core.edit import CELL_OPERATIONS, GENE_OPERATIONS, Edit, Operation
from embryo.core.errors import EditError, Problem
from embryo.core.field import Field
from embryo.core.state import State
from embryo.perturb.context import Context, carriers, of_clone
from embryo.perturb.held import EditedField, initial
from embryo.perturb.wiring import can, lacking, wired


def knockout(gene: str, *, t_on_h: float = float("-inf"), t_off_h: float = float("inf")) -> Edit:
    """Return the edit that stops all production of `gene` in every cell."""
    return Edit(gene, Operation.KNOCKOUT, t_on_h=t_on_h, t_off_h=t_off_h)


def apply(field: Field, start: State, edits: Sequence[Edit], context: Context, *, t0_h: float) -> tuple[Field, State]:
    """Return the edited field and the edited start.

    No edits return `field` and `start` themselves, so that an empty edit is the control bit for bit.

    Parameters
    ----------
    field, start
        The wild type's law of motion and its state at `t0_h`.
    edits
        Applied together in an order of their own: fractions of production first, then additions, then clamps. Of genes
        and edges only: cells are ablated and grafted by whoever rolls out.
    context
        Panel, encoder response, decay, types, names, seed.
    t0_h
        Time of the start, hours: edits active then, and not keeping the pool, also change the start.

    Raises
    ------
    EditError
        If an edit names a gene outside the panel or a type, clone or region without cells, or asks for what the law
        does not have; all at once.
    """
    if not edits:
        return field, start
    check(edits, context, field)
    if any(edit.operation in CELL_OPERATIONS for edit in edits):
        found = ", ".join(e.label for e in edits if e.operation in CELL_OPERATIONS)
        cure = "use embryo perturb, or embryo.pipeline.perturbing"
        raise EditError(Problem(found, "edits of genes and edges", cure), subject="perturb")
    edits = sorted(edits, key=lambda edit: (edit.turn, edit.label))
    masks = carriers(edits, start, context)
    of_genes = torch.tensor([edit.operation in GENE_OPERATIONS for edit in edits])
    held = tuple(edit for edit in edits if edit.operation in GENE_OPERATIONS)
    rest = [edit for edit in edits if edit.operation not in GENE_OPERATIONS]

    def hold(law: Field) -> Field:
        return EditedField(law, held, masks[of_genes], context) if held else law

    edited = wired(field, rest, masks[~of_genes], hold)
    return edited, _begin(start, held, masks[of_genes], context, t0_h)


def _begin(
    start: State, edits: Sequence[Edit], masks: Bool[Tensor, "edits cells"], context: Context, t0_h: float
) -> State:
    g = start.g.clone()
    for edit, mask in zip(edits, masks, strict=True):
        if edit.active(t0_h) and not edit.keep_pool:
            a = context.panel.index(edit.gene)
            g[:, a] = torch.where(mask, initial(edit, g[:, a]), g[:, a])
    z = start.z + (g - start.g) @ context.response.to(start.z.dtype)
    return replace(start, g=g, z=z)


def check(edits: Sequence[Edit], context: Context, field: Field | None = None) -> None:
    """Raise unless panel, cells and law hold what the edits name.

    Raises
    ------
    EditError
        With everything that is absent.
    """
    problems = [problem for edit in edits for problem in (*_of_genes(edit, context), *_of_cells(edit, context))]
    if field is not None:
        rewiring = [e for e in edits if e.operation not in GENE_OPERATIONS | CELL_OPERATIONS]
        problems += [lacking(field, edit) for edit in rewiring if not can(field, edit)]
    if problems:
        raise EditError(*dict.fromkeys(problems), subject="perturb")


def _of_genes(edit: Edit, context: Context) -> Iterator[Problem]:
    some = ", ".join(context.panel[:12]) + (", ..." if len(context.panel) > 12 else "")
    for gene in edit.genes:
        if gene not in context.panel:
            near = get_close_matches(gene, context.panel, n=1)
            cure = f"write {near[0]} if that is meant, or " if near else ""
            yield Problem(
                f"an edit of {gene!r}",
                f"a gene of the panel ({len(context.panel)}: {some})",
                f"{cure}add the gene to embed.panel, or edit one that is in it",
            )


def _of_cells(edit: Edit, context: Context) -> Iterator[Problem]:
    types = sorted(set(context.cell_types or ()))
    if edit.cell_type is not None and edit.cell_type not in types:
        found = f"an edit in cells of type {edit.cell_type!r}"
        yield Problem(found, f"one of {types}", "name a type present at the start")
    if edit.clone is not None and not (context.cells and of_clone(edit.clone, context.cells).any()):
        some = ", ".join((context.cells or ())[:6])
        expected = f"a cell of the start, or the beginning of names of some ({some}, ...)"
        yield Problem(f"an edit in the clone of {edit.clone!r}", expected, "name a cell of the start")
