"""What a circuit's panel and inputs leave unexplained: smooth functions of place and time, which read no gene.

Inside the squash of every gene a row of numbers adds f_a(X, t) = sum_k C_ak phi_k(X, t) to what its regulators say. The
phi_k are products of cosines, cos(pi k_0 t) prod_i cos(pi k_i X_i), on the box of places and times that was seen, so
that outside of it they stay what they are at its edge. They are columns of a circuit's weights like its inputs are:
fitted with them (`embryo.fit.circuit`), held down by a ridge that grows with their roughness, and cut like any edge.
"""

import itertools
from collections.abc import Sequence
from math import pi
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from embryo.fields.circuit import Held

_DEGREE = 2  # waves of a product, over all axes together
FAINT = 1e-6  # an input below this counts as this: logarithms are taken


class Residual(nn.Module):
    """The functions phi_k of place and time.

    Parameters
    ----------
    low, high
        Ends of the box, of each material coordinate and then of time, in their units.
    degree
        Half waves of one product at most, over all axes together.
    """

    def __init__(self, low: Sequence[float], high: Sequence[float], degree: int = _DEGREE) -> None:
        super().__init__()
        self.degree = degree
        self.low: Tensor
        self.high: Tensor
        self.register_buffer("low", torch.tensor(list(low), dtype=torch.float64))
        self.register_buffer("high", torch.tensor(list(high), dtype=torch.float64))
        waves = [k for k in itertools.product(range(degree + 1), repeat=len(self.low)) if 0 < sum(k) <= degree]
        self._waves = torch.tensor(waves, dtype=torch.float64)

    @property
    def names(self) -> tuple[str, ...]:
        """One name per function."""
        return tuple(f"residual {k + 1}" for k in range(len(self._waves)))

    @property
    def roughness(self) -> Float[Tensor, " functions"]:
        """Sum of the squared half waves of each function: what a ridge grows with."""
        return self._waves.square().sum(1)

    def shape(self) -> dict[str, Any]:
        """Return what `from_shape` needs to build one of this shape."""
        return {"axes": len(self.low), "degree": self.degree}

    @classmethod
    def from_shape(cls, shape: dict[str, Any]) -> "Residual":
        """Return one of a shape, on the unit box."""
        return cls([0.0] * shape["axes"], [1.0] * shape["axes"], shape["degree"])

    def forward(self, t_h: float | Tensor, material: Float[Tensor, "cells axes"]) -> Float[Tensor, "cells functions"]:
        """Return the functions at places that ride with the cells, at time `t_h`."""
        time = torch.as_tensor(t_h, dtype=material.dtype, device=material.device).expand(len(material), 1)
        at = torch.cat([material, time], 1)
        low, high = self.low.to(at), self.high.to(at)
        share = ((at - low) / (high - low)).clamp(0, 1)
        return torch.cos(pi * share[:, None] * self._waves.to(at)).prod(2)


class Beside(nn.Module):
    """A residual and the inputs of a circuit as one: first the functions, then the inputs.

    Parameters
    ----------
    residual
        The functions. Where inputs are held by each cell they read the logarithm of these as its place.
    inputs
        ``(t_h, material) -> inputs``, with `names`.
    """

    def __init__(self, residual: Residual, inputs: nn.Module) -> None:
        super().__init__()
        self.residual, self.inputs = residual, inputs

    def forward(self, t_h: float | Tensor, material: Float[Tensor, "cells axes"]) -> Float[Tensor, "cells columns"]:
        """Return what the columns of the circuit read."""
        place = material.clamp(min=FAINT).log() if isinstance(self.inputs, Held) else material
        return torch.cat([self.residual(t_h, place), self.inputs(t_h, material)], 1)
