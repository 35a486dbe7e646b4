"""Field: a law of motion. Anything with this call may be fitted, simulated and edited."""

from typing import Protocol, TypeVar, runtime_checkable

import torch
from jaxtyping import Float, Int
from torch import Tensor

from embryo.core.state import State, Velocity

_F = TypeVar("_F", bound="Field")


@runtime_checkable
class Field(Protocol):
    """A law of motion ``(t, state) -> velocity``.

    A field may say more about itself; what it does not say is taken for the careful answer:

    ``breaks_h``
        Times at which it switches, hours. None by default.
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


def breaks_h(field: Field) -> tuple[float, ...]:
    """Return the times at which a field switches, hours."""
    return tuple(getattr(field, "breaks_h", ()))


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
