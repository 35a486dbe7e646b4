"""A law of motion in which some cells follow a rewired copy of it: cut edges, blocked ligands and receptors."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from embryo.core import field as laws
from embryo.core.edit import Edit, Operation
from embryo.core.errors import EditError, Problem
from embryo.core.field import Field
from embryo.core.state import State, Velocity
from embryo.perturb.held import windows_h


@dataclass(frozen=True)
class Rewired:
    """The law `base`, but `other` for the cells of a mask while an edit acts.

    Both laws read the same state, so that uncut cells feel what cut ones have become.

    Parameters
    ----------
    base, other
        The law with and without its edges.
    edit
        When it acts.
    mask
        Which particles follow `other`; all where it is the whole law that changed (a ligand that is not sent).
    """

    base: Field
    other: Field
    edit: Edit
    mask: Bool[Tensor, " cells"]

    @property
    def breaks_h(self) -> tuple[float, ...]:
        """Times at which it switches, hours."""
        return (*laws.breaks_h(self.base), *windows_h((self.edit,)))

    @property
    def longest_step_h(self) -> float:
        """The shorter one of both laws."""
        return min(laws.longest_step_h(self.base), laws.longest_step_h(self.other))

    @property
    def alone(self) -> bool:
        """Whether both laws read each particle by itself."""
        return laws.alone(self.base) and laws.alone(self.other)

    def rows(self, index: Int[Tensor, " chosen"] | slice) -> "Rewired":
        """Return the law for chosen particles."""
        return replace(
            self, base=laws.rows(self.base, index), other=laws.rows(self.other, index), mask=self.mask[index]
        )

    def to(self, device: torch.device | str) -> "Rewired":
        """Return the law on a device."""
        return replace(
            self, base=laws.to(self.base, device), other=laws.to(self.other, device), mask=self.mask.to(device)
        )

    def fast(self) -> "Rewired":
        """Return the law made ready for many evaluations."""
        return replace(self, base=laws.fast(self.base), other=laws.fast(self.other))

    def __call__(self, t: Float[Tensor, ""], state: State) -> Velocity:
        if not self.edit.active(float(t)) or not bool(self.mask.any()):
            return self.base(t, state)
        if bool(self.mask.all()):
            return self.other(t, state)
        parts = zip(self.base(t, state).parts(), self.other(t, state).parts(), strict=True)
        return Velocity(*(torch.where(self.mask if a.ndim == 1 else self.mask[:, None], b, a) for a, b in parts))


def wired(
    field: Field, edits: Sequence[Edit], masks: Bool[Tensor, "edits cells"], hold: Callable[[Field], Field]
) -> Field:
    """Return the law with edges cut and ligands blocked.

    Parameters
    ----------
    field
        The law of the wild type; it must be able to, see `lacking`.
    edits
        Of edges and ligands.
    masks
        Which cells carry each.
    hold
        Called on every copy of the law, to hold the edits of genes on it.
    """
    if not edits:
        return hold(field)
    edit, mask = edits[0], masks[0]
    if edit.operation is Operation.BLOCK_LIGAND:
        found, mask = laws.silenced(field, edit.gene, mask), torch.ones_like(mask)
    else:
        found = laws.without(field, [_edge(edit)])
    if found is None:
        raise EditError(lacking(field, edit), subject=edit.label)
    base, other = (wired(law, edits[1:], masks[1:], hold) for law in (field, found))
    return Rewired(base, other, edit, mask)


def lacking(field: Field, edit: Edit) -> Problem:
    """Return the problem of a law that cannot be rewired as an edit asks."""
    what = "cannot silence single cells" if callable(getattr(field, "without", None)) else "has no edges or ligands"
    cure = "fit a law with a circuit, edit the gene instead, or block the ligand in all cells"
    return Problem(f"{edit.label} with a law that {what}", "a law with a gene circuit", cure)


def can(field: Field, edit: Edit) -> bool:
    """Return whether a law can be rewired as an edit asks."""
    edges = callable(getattr(field, "without", None))
    if edit.operation is Operation.BLOCK_LIGAND:
        return callable(getattr(field, "silenced", None)) or (edges and edit.everywhere)
    return edges


def _edge(edit: Edit) -> tuple[str, str]:
    if edit.operation is Operation.CUT:
        return edit.gene, edit.target or laws.ANY
    return laws.SIGNAL + edit.gene, laws.ANY
