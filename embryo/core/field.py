"""Field: a law of motion. Anything with this call may be fitted, simulated and edited."""

from typing import Protocol, runtime_checkable

from jaxtyping import Float
from torch import Tensor

from embryo.core.state import State, Velocity


@runtime_checkable
class Field(Protocol):
    """A law of motion ``(t, state) -> velocity``."""

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
