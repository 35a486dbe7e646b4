"""Field: a law of motion. Anything with this call may be fitted, simulated and edited."""

from collections.abc import Callable, Sequence
from math import inf
from typing import Protocol, TypeVar, cast, runtime_checkable

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from embryo.core.state import State, Velocity
from embryo.core.trajectory import Trajectory

_F = TypeVar("_F", bound="Field")

Change = Callable[[Tensor, Tensor], Tensor]  # (production p (cells, genes), decay (genes,)) -> p, levels per hour
ANY = "*"  # any target of an edge
SIGNAL = "signal:"  # an edge from "signal:L" is what a cell receives of ligand L


@runtime_checkable
class Field(Protocol):
    """A law of motion ``(t, state) -> velocity``.

    A field may say more about itself; what it does not say is taken for the careful answer:

    ``breaks_h``
        Times at which it switches, hours. None by default.
    ``longest_step_h``
        The longest step that follows it, hours; solvers of fixed steps take no longer ones. Any by default.
    ``alone``
        True where a particle's velocity depends on nothing but the particle: it may then be asked block by block.
        False by default.
    ``rows(index)``
        The same law for chosen particles, where it holds something for each (which ones carry an edit). Itself by
        default.
    ``to(device)``
        The same law on another device. Itself by default.
    ``fast()``
        The same law, up to rounding, made ready for many evaluations without gradients. Itself by default.
    ``begun(state, t_h)``
        The law bound to the start of a roll-out, asked once before it: what each particle carries with it, such as its
        place in the tissue at the start. Itself by default.
    ``frozen(trajectory)``
        The law with all that comes from other cells (signals, contacts, forces) taken from a roll-out of the same
        particles instead of the state. Absent by default.
    ``refuted``
        Genes of whose law the wild type itself says that it is wrong, or None where it was not asked.
    ``training_edits``
        Labels of measured edits that it was fitted to. None by default.

    A law with structure also knows what its genes are made of; see `Structured`, and

    ``without(edges)``
        The same law without regulatory edges (regulator, gene); `ANY` for all genes. A regulator ``signal:L`` is what a
        cell receives of ligand L. Absent by default.
    ``silenced(ligand, cells)``
        The same law where these cells do not send a ligand, though they make it. Absent by default.
    """

    def __call__(self, t: Float[Tensor, ""], state: State) -> Velocity:
        """Velocity of every particle at developmental time `t`.

        Parameters
        ----------
        t
            Time in hours.
        state
            Where the particles are; z, g, x (µm), log_mass.

        Returns
        -------
        Velocity
            Rates per hour, one row per particle, in the same order.
        """
        ...


@runtime_checkable
class Structured(Field, Protocol):
    """A law that knows production from decay: an edit acts on production itself, not on what is left of a velocity.

    Levels are ``y = expm1(g) / unit``, each gene on a scale of its own, and ``dy/dt = p - decay y``.
    How z follows g is the law's own affair: what an edit changes comes back through decay and regulation, which only
    the law knows. One with ``dz = dg @ response + rest`` keeps z the embedding of the edited cell.
    """

    @property
    def decay_per_h(self) -> Float[Tensor, " genes"]:
        """Decay rate of every gene, 1/h."""
        ...

    @property
    def unit(self) -> Float[Tensor, " genes"]:
        """Level of expm1(g) that counts as 1."""
        ...

    def produce(self, t: Float[Tensor, ""], state: State, change: Change) -> Velocity:
        """Velocity with an edited production; ``change`` that returns its production gives that of the call."""
        ...


def structured(field: Field) -> Structured | None:
    """Return the field as one that knows its production, None where it does not."""
    return cast("Structured", field) if callable(getattr(field, "produce", None)) else None


def begun(field: _F, state: State, t_h: float) -> _F:
    """Return the law bound to the start of a roll-out."""
    own = getattr(field, "begun", None)
    return field if own is None else own(state, t_h)


def frozen(field: Field, trajectory: Trajectory) -> Field | None:
    """Return the law with other cells taken from a roll-out; None where it cannot."""
    own = getattr(field, "frozen", None)
    return None if own is None else own(trajectory)


def without(field: Field, edges: Sequence[tuple[str, str]]) -> Field | None:
    """Return the law without regulatory edges; None where it has none."""
    own = getattr(field, "without", None)
    return None if own is None else own(edges)


def silenced(field: Field, ligand: str, cells: Bool[Tensor, " cells"]) -> Field | None:
    """Return the law where these cells do not send a ligand; None where it cannot."""
    own = getattr(field, "silenced", None)
    if own is None and bool(cells.all()):
        return without(field, [(SIGNAL + ligand, ANY)])
    return None if own is None else own(ligand, cells)


def training_edits(field: Field) -> tuple[str, ...]:
    """Return the labels of the measured edits that a law was fitted to."""
    return tuple(getattr(field, "training_edits", ()))


def refuted(field: Field) -> tuple[str, ...] | None:
    """Return the genes of whose law wild type itself says that it is wrong; None where it was not asked."""
    found = getattr(field, "refuted", None)
    return None if found is None else tuple(found)


def eased(field: Field) -> bool:
    """Return whether the production of a field has a part that no edit reaches: a residual of place and time."""
    return getattr(field, "residual", None) is not None


def breaks_h(field: Field) -> tuple[float, ...]:
    """Return the times at which a field switches, hours."""
    return tuple(getattr(field, "breaks_h", ()))


def longest_step_h(field: Field) -> float:
    """Return the longest step that follows a field, hours."""
    return float(getattr(field, "longest_step_h", inf))


def alone(field: Field) -> bool:
    """Return whether a field reads each particle by itself."""
    return bool(getattr(field, "alone", False))


def rows(field: _F, index: Int[Tensor, " chosen"] | slice) -> _F:
    """Return the law for chosen particles; one may be chosen several times, as a mother is for her daughters."""
    own = getattr(field, "rows", None)
    return field if own is None else own(index)


def to(field: _F, device: torch.device | str) -> _F:
    """Return the law on a device."""
    own = getattr(field, "to", None)
    return field if own is None else own(device)


def fast(field: Field) -> Field:
    """Return the law made ready for many evaluations."""
    own = getattr(field, "fast", None)
    return field if own is None else own()
