"""Edits on gene inputs -> the edited start and the edited field.

An edit acts on *production* and is held through the whole roll-out, not only at the start: a gene that switches on
later would otherwise escape it. With decay rate lambda the velocity of a gene is read as production minus decay,

    dg/dt = p(t, state) - lambda g,        p = max(dg/dt + lambda g, 0),

and the operation replaces p: knock-out 0; knock-down dose p; over-expression p + lambda dose; clamp lambda dose.
What the edit changes in the panel is carried into the embedding through the encoder's own response dz/dg, so that z
stays the embedding of the edited cell.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from anndata import AnnData
from jaxtyping import Bool, Float, Int
from torch import Tensor

from embryo.core import field as laws
from embryo.core import schema
from embryo.core.edit import Edit, Operation
from embryo.core.errors import EditError, Problem
from embryo.core.field import Field
from embryo.core.state import State, Velocity


@dataclass(frozen=True)
class Context:
    """What turns an edit's words into columns and rows of a state.

    Parameters
    ----------
    panel
        Names of the columns of g.
    response
        Encoder response dz/dg per panel gene, shape (genes, dims); zeros where the encoder does not read the gene.
    decay_per_h
        Decay rate lambda of every panel product, 1/h.
    cell_types
        Type of every particle at the start, for edits restricted to a type; None where unknown.
    seed
        Draws the mosaic.
    """

    panel: tuple[str, ...]
    response: Float[Tensor, "genes dims"]
    decay_per_h: float
    cell_types: tuple[str, ...] | None = None
    seed: int = 0


@dataclass(frozen=True)
class EditedField:
    """A field with edits held on it.

    Parameters
    ----------
    base
        The law of motion of the wild type.
    edits
        What is edited.
    masks
        Which particles carry each edit, shape (edits, cells).
    context
        Panel, encoder response and decay.
    """

    base: Field
    edits: tuple[Edit, ...]
    masks: Bool[Tensor, "edits cells"]
    context: Context

    @property
    def breaks_h(self) -> tuple[float, ...]:
        """Times at which an edit switches on or off, hours."""
        return tuple(t for e in self.edits for t in (e.t_on_h, e.t_off_h) if np.isfinite(t))

    @property
    def alone(self) -> bool:
        """Whether the wild type's law reads each particle by itself."""
        return laws.alone(self.base)

    def rows(self, index: Int[Tensor, " chosen"] | slice) -> "EditedField":
        """Return the law for chosen particles: each carries its own edits with it, daughters those of their mother."""
        return replace(self, base=laws.rows(self.base, index), masks=self.masks[:, index])

    def to(self, device: torch.device | str) -> "EditedField":
        """Return the law on a device."""
        context = replace(self.context, response=self.context.response.to(device))
        return replace(self, base=laws.to(self.base, device), masks=self.masks.to(device), context=context)

    def fast(self) -> "EditedField":
        """Return the law made ready for many evaluations."""
        return replace(self, base=laws.fast(self.base))

    def __call__(self, t: Float[Tensor, ""], state: State) -> Velocity:
        v = self.base(t, state)
        acting = [(edit, mask) for edit, mask in zip(self.edits, self.masks, strict=True) if edit.active(float(t))]
        if not acting:
            return v
        lam = self.context.decay_per_h
        production = v.dg + lam * state.g
        edited = production.clamp(min=0.0)
        touched = torch.zeros_like(production, dtype=torch.bool)
        for edit, mask in acting:
            a = self.context.panel.index(edit.gene)
            edited[:, a] = torch.where(mask, _operate(edit, edited[:, a], lam), edited[:, a])
            touched[:, a] |= mask
        dg = torch.where(touched, edited - lam * state.g, v.dg)
        return replace(v, dg=dg, dz=v.dz + (dg - v.dg) @ self.context.response)


def _operate(edit: Edit, p: Float[Tensor, " cells"], lam: float) -> Float[Tensor, " cells"]:
    match edit.operation:
        case Operation.KNOCKOUT:
            return torch.zeros_like(p)
        case Operation.KNOCKDOWN:
            return edit.dose * p
        case Operation.OVEREXPRESS:
            return p + lam * edit.dose
        case Operation.CLAMP:
            return torch.full_like(p, lam * edit.dose)


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
        Applied together in an order of their own: fractions of production first, then additions, then clamps.
    context
        Panel, encoder response, decay, types, seed.
    t0_h
        Time of the start, hours: edits active then, and not keeping the pool, also change the start.

    Raises
    ------
    EditError
        If an edit names a gene outside the panel or a type without cells; all at once.
    """
    if not edits:
        return field, start
    _check(edits, context)
    edits = sorted(edits, key=lambda edit: edit.turn)
    masks = torch.stack([_mask(edit, len(start), context) for edit in edits]).to(start.g.device)
    g = start.g.clone()
    for edit, mask in zip(edits, masks, strict=True):
        if edit.active(t0_h) and not edit.keep_pool:
            a = context.panel.index(edit.gene)
            g[:, a] = torch.where(mask, _initial(edit, g[:, a]), g[:, a])
    z = start.z + (g - start.g) @ context.response.to(start.z.dtype)
    return EditedField(field, tuple(edits), masks, context), replace(start, g=g, z=z)


def _initial(edit: Edit, level: Float[Tensor, " cells"]) -> Float[Tensor, " cells"]:
    match edit.operation:
        case Operation.KNOCKOUT:
            return torch.zeros_like(level)
        case Operation.KNOCKDOWN:
            return edit.dose * level
        case Operation.OVEREXPRESS:
            return level
        case Operation.CLAMP:
            return torch.full_like(level, edit.dose)


def _mask(edit: Edit, cells: int, context: Context) -> Bool[Tensor, " cells"]:
    """Cells that carry an edit; all edits share one lot per cell, as in a chimera."""
    mask = np.random.default_rng(context.seed).random(cells) < edit.fraction
    if edit.cell_type is not None and context.cell_types is not None:
        mask &= np.asarray(context.cell_types) == edit.cell_type
    return torch.from_numpy(mask)


def _check(edits: Sequence[Edit], context: Context) -> None:
    problems = []
    types = sorted(set(context.cell_types or ()))
    some = ", ".join(context.panel[:12]) + (", ..." if len(context.panel) > 12 else "")
    for edit in edits:
        if edit.gene not in context.panel:
            problems.append(
                Problem(
                    f"an edit of {edit.gene!r}",
                    f"a gene of the panel ({len(context.panel)}: {some})",
                    "add the gene to embed.panel, or edit one that is in it",
                )
            )
        if edit.cell_type is not None and edit.cell_type not in types:
            problems.append(
                Problem(
                    f"an edit in cells of type {edit.cell_type!r}",
                    f"one of {types}",
                    "name a type present at the start",
                )
            )
    if problems:
        raise EditError(*problems, subject="perturb")


def genes(adata: AnnData, edits: Sequence[Edit]) -> AnnData:
    """Return a copy of `adata` with the edits made on its gene inputs, and every slot that they make stale dropped.

    Knock-out sets the gene to 0, knock-down multiplies it by the dose, over-expression adds and clamp sets the dose
    (on the scale of the matrix: counts for ``layers["counts"]``, log1p or relative levels for X). A mosaic or a window
    has no meaning on a snapshot and is refused.

    Raises
    ------
    EditError
        If a gene is absent, or an edit has a window or a mosaic fraction.
    """
    problems = [
        Problem(
            f"gene {e.gene!r}", f"one of the {adata.n_vars} genes of the data", "check the spelling and the gene ids"
        )
        for e in edits
        if e.gene not in adata.var_names
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
        new = level + edit.dose if edit.operation is Operation.OVEREXPRESS else _initial(edit, level)
        _set_column(matrix, a, np.where(rows, new.numpy(), level.numpy()))


def _set_column(matrix: object, a: int, values: Float[np.ndarray, " cells"]) -> None:
    if isinstance(matrix, np.ndarray):
        matrix[:, a] = values
        return
    sparse = matrix.tolil()  # type: ignore[attr-defined]
    sparse[:, a] = values[:, None]
    back = sparse.asformat(matrix.format)  # type: ignore[attr-defined]
    matrix.data, matrix.indices, matrix.indptr = back.data, back.indices, back.indptr  # type: ignore[attr-defined]
