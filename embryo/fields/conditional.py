"""A flow that is told what was done to the embryo: one network for all perturbations, with a vector for each."""

from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor

from embryo.core.state import State, Velocity
from embryo.fields.flow import FlowNetwork


@dataclass(frozen=True, eq=False)
class Conditional:
    """A flow network under one condition, which stands beside z as further coordinates that rest.

    Parameters
    ----------
    network
        Of z with the condition's columns behind it, g and x.
    condition
        What was done to the embryo.
    """

    network: FlowNetwork
    condition: Float[Tensor, " columns"]

    alone = True

    def given(self, condition: Float[Tensor, " columns"]) -> "Conditional":
        """Return the law under another condition."""
        return replace(self, condition=condition)

    def __call__(self, t: Float[Tensor, ""], state: State) -> Velocity:
        """Velocity of every cell; see `embryo.core.field.Field`."""
        found: Velocity = self.network(t, told(state, self.condition))
        return replace(found, dz=found.dz[:, : state.z.shape[1]])


def told(state: State, condition: Float[Tensor, " columns"]) -> State:
    """Return cells with a condition behind their z."""
    columns = condition.to(state.z).expand(len(state), -1)
    return replace(state, z=torch.cat([state.z, columns], 1))
