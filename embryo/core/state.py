"""One moment of an embryo, and how it changes.

Notation, used everywhere:

======== ===================================================== ============ =========================
symbol   meaning                                               unit         shape
======== ===================================================== ============ =========================
z        embedding: the cell's identity                        1            (cells, dims)
g        gene panel: the cell's causal genes                   log1p        (cells, genes)
x        position                                              µm           (cells, space)
log_mass log of how many cells a particle stands for           1            (cells,)
t        developmental time                                    h            scalar
s        flow-matching time between two observations, 0 to 1   1            (cells,)
v        velocity of any of these                              per hour     as the quantity
======== ===================================================== ============ =========================
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

_P = TypeVar("_P", bound="_Parts")


@dataclass(frozen=True, eq=False)
class _Parts:
    """Four tensors over the same cells, in the order z, g, x, mass."""

    def parts(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Return the four tensors in the order of the fields."""
        a, b, c, d = (getattr(self, name) for name in self.__dataclass_fields__)
        return a, b, c, d

    def map(self: _P, f: Callable[[Tensor], Tensor]) -> _P:
        """Return a copy with `f` applied to each tensor."""
        return type(self)(*(f(part) for part in self.parts()))

    def to(self: _P, device: torch.device | str) -> _P:
        """Return a copy on `device`."""
        return self.map(lambda part: part.to(device))

    def __len__(self) -> int:
        return len(self.parts()[0])

    def __getitem__(self: _P, index: Int[Tensor, " chosen"] | Bool[Tensor, " cells"] | slice) -> _P:
        return self.map(lambda part: part[index])


@dataclass(frozen=True, eq=False)
class State(_Parts):
    """One moment of an embryo, one row per particle.

    Parameters
    ----------
    z
        Embedding.
    g
        Gene panel, log1p of normalised counts.
    x
        Position in µm; zero columns for data without space.
    log_mass
        Log of the number of cells that the particle stands for; -inf for none.
    """

    z: Float[Tensor, "cells dims"]
    g: Float[Tensor, "cells genes"]
    x: Float[Tensor, "cells space"]
    log_mass: Float[Tensor, " cells"]

    @property
    def mass(self) -> Float[Tensor, " cells"]:
        """Number of cells per particle."""
        return self.log_mass.exp()

    @property
    def alive(self) -> Bool[Tensor, " cells"]:
        """Whether a particle stands for any cell: log_mass is -inf before birth and after death."""
        return self.log_mass > -torch.inf


@dataclass(frozen=True, eq=False)
class Velocity(_Parts):
    """How a `State` changes, per hour.

    Parameters
    ----------
    dz, dg, dx
        Rates of z, g and x; dx in µm/h.
    growth
        Rate of log_mass: birth minus death, 1/h.
    """

    dz: Float[Tensor, "cells dims"]
    dg: Float[Tensor, "cells genes"]
    dx: Float[Tensor, "cells space"]
    growth: Float[Tensor, " cells"]
