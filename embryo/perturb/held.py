"""A law of motion with edits of genes held on it."""

from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from embryo.core import field as laws
from embryo.core.edit import Edit, Operation
from embryo.core.field import Field, Structured
from embryo.core.state import State, Velocity
from embryo.perturb.context import Context

_Acting = list[tuple[Edit, Tensor]]


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
        """Times at which an edit switches on or off, hours, and those of the wild type's law."""
        return (*laws.breaks_h(self.base), *windows_h(self.edits))

    @property
    def longest_step_h(self) -> float:
        """As of the wild type's law."""
        return laws.longest_step_h(self.base)

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
        acting = [(edit, mask) for edit, mask in zip(self.edits, self.masks, strict=True) if edit.active(float(t))]
        if not acting:
            return self.base(t, state)
        known = laws.structured(self.base)
        return self._outside(t, state, acting) if known is None else self._inside(known, t, state, acting)

    def _outside(self, t: Float[Tensor, ""], state: State, acting: _Acting) -> Velocity:
        """Read production off the velocity of a law that does not know it."""
        v = self.base(t, state)
        lam = self.context.decay_per_h
        production = v.dg + lam * state.g
        edited = production.clamp(min=0.0)
        touched = torch.zeros_like(production, dtype=torch.bool)
        for edit, mask in acting:
            a = self.context.panel.index(edit.gene)
            edited[:, a] = torch.where(mask, operate(edit, edited[:, a], lam, edit.dose), edited[:, a])
            touched[:, a] |= mask
        dg = torch.where(touched, edited - lam * state.g, v.dg)
        return replace(v, dg=dg, dz=v.dz + (dg - v.dg) @ self.context.response)

    def _inside(self, law: Structured, t: Float[Tensor, ""], state: State, acting: _Acting) -> Velocity:
        """Edit production where it arises."""

        def change(p: Tensor, decay: Tensor) -> Tensor:
            edited = p.clone()
            for edit, mask in acting:
                a = self.context.panel.index(edit.gene)
                dose = float(np.expm1(edit.dose)) / law.unit[a] if edit.operation in _LEVELS else edit.dose
                edited[:, a] = torch.where(mask, operate(edit, edited[:, a], decay[a], dose), edited[:, a])
            return edited

        return law.produce(t, state, change)


_LEVELS = (Operation.OVEREXPRESS, Operation.CLAMP)


def windows_h(edits: tuple[Edit, ...]) -> tuple[float, ...]:
    """Return the finite times at which edits switch on or off, hours."""
    return tuple(t for e in edits for t in (e.t_on_h, e.t_off_h) if np.isfinite(t))


def operate(
    edit: Edit, p: Float[Tensor, " cells"], lam: float | Float[Tensor, ""], dose: float | Float[Tensor, ""]
) -> Float[Tensor, " cells"]:
    """Return the production under an edit of a gene."""
    match edit.operation:
        case Operation.KNOCKOUT:
            return torch.zeros_like(p)
        case Operation.KNOCKDOWN:
            return edit.dose * p
        case Operation.OVEREXPRESS:
            return p + lam * dose
        case _:
            return torch.zeros_like(p) + lam * dose


def initial(edit: Edit, level: Float[Tensor, " cells"]) -> Float[Tensor, " cells"]:
    """Return the log1p level at a start at which an edit is already there."""
    match edit.operation:
        case Operation.KNOCKOUT:
            return torch.zeros_like(level)
        case Operation.KNOCKDOWN:
            return edit.dose * level
        case Operation.CLAMP:
            return torch.full_like(level, edit.dose)
        case _:
            return level
