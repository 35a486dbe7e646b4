"""Bodies that move, as the fit of forces sees them: of each it asks for the moments of a linear problem."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

from embryo.core.state import State
from embryo.fit.bounded import Moments

Columns = Callable[[float, State], Tensor]
"""Velocity of every cell at a time (h) for each strength at 1, (cells, space, columns)."""


@runtime_checkable
class Watched(Protocol):
    """What forces are fitted to."""

    @property
    def t_h(self) -> float:
        """When it starts."""
        ...

    @property
    def dt_h(self) -> float:
        """How long it is watched; 0 for velocities of the moment."""
        ...

    @property
    def embryo(self) -> str:
        """What is watched of one embryo is left out together."""
        ...

    @property
    def bodies(self) -> tuple[State, ...]:
        """Bodies at the start."""
        ...

    def double(self) -> "Watched":
        """Return the same in double precision."""
        ...

    def moments(self, columns: Columns, width_um: float) -> Moments:
        """Return what is kept of it; `width_um` is that of patches of tissue."""
        ...


@dataclass(frozen=True, eq=False)
class Scene:
    """One body at one time, and how its cells move.

    Parameters
    ----------
    t_h
        Time.
    state
        The body.
    dx
        Velocity of each cell, µm/h.
    weight
        0 for cells whose velocity is not known, else 1.
    embryo
        Scenes of one embryo are left out together.
    """

    t_h: float
    state: State
    dx: Float[Tensor, "cells space"]
    weight: Float[Tensor, " cells"]
    embryo: str
    dt_h: float = 0.0

    @property
    def bodies(self) -> tuple[State, ...]:
        """The body."""
        return (self.state,)

    def double(self) -> "Scene":
        """Return the scene in double precision."""
        return replace(self, state=doubled(self.state))

    def moments(self, columns: Columns, width_um: float) -> Moments:
        """Return one equation for each coordinate of each cell; of no width."""
        weight = self.weight.double()[:, None]
        rows = (columns(self.t_h, self.state) * weight[:, :, None]).flatten(0, 1)
        return Moments.of(rows.numpy(), (self.dx.double() * weight).flatten().numpy())


def spread(x: Float[Tensor, "cells space"], most: int) -> Float[Tensor, "places space"]:
    """Return places of cells far from each other, the first nearest to the middle."""
    chosen = [int((x - x.mean(0)).norm(dim=1).argmin())]
    far = (x - x[chosen[0]]).norm(dim=1)
    while len(chosen) < min(most, len(x)):
        chosen.append(int(far.argmax()))
        far = torch.minimum(far, (x - x[chosen[-1]]).norm(dim=1))
    return x[chosen]


def doubled(state: State) -> State:
    """Return a state in double precision."""
    return state.map(lambda part: part.double())
