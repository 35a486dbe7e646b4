"""Fields whose roll-outs are known in closed form: the yardsticks of every solver and of every measurement."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from embryo.core.state import State, Velocity


def _only_space(state: State, dx: Float[Tensor, "cells space"], growth: float = 0.0) -> Velocity:
    return Velocity(torch.zeros_like(state.z), torch.zeros_like(state.g), dx, torch.full_like(state.log_mass, growth))


@dataclass(frozen=True)
class Still:
    """Nothing changes: the floor "no change"."""

    alone: ClassVar[bool] = True

    def __call__(self, t: Float[Tensor, ""], state: State) -> Velocity:
        return _only_space(state, torch.zeros_like(state.x))


@dataclass(frozen=True)
class Rotation:
    """Rigid rotation ``dx/dt = omega x (x - centre)``; ``x(t) = exp(t [omega]) x(0)`` about the centre.

    Parameters
    ----------
    omega_per_h
        Angular velocity vector, rad/h.
    centre_um
        Fixed point, µm.
    """

    omega_per_h: tuple[float, float, float] = (0.0, 0.0, 1.0)
    centre_um: tuple[float, float, float] = (0.0, 0.0, 0.0)

    alone: ClassVar[bool] = True

    def __call__(self, t: Float[Tensor, ""], state: State) -> Velocity:
        r = state.x - state.x.new_tensor(self.centre_um)
        omega = state.x.new_tensor(self.omega_per_h).expand_as(r)
        return _only_space(state, torch.linalg.cross(omega, r))


@dataclass(frozen=True)
class Expansion:
    """Uniform expansion ``dx/dt = rate (x - centre)`` with growth ``dims * rate``: constant density.

    Parameters
    ----------
    rate_per_h
        Linear rate, 1/h; lengths grow as ``exp(rate t)``.
    centre_um
        Fixed point, µm.
    """

    rate_per_h: float = 0.1
    centre_um: tuple[float, float, float] = (0.0, 0.0, 0.0)

    alone: ClassVar[bool] = True

    def __call__(self, t: Float[Tensor, ""], state: State) -> Velocity:
        r = state.x - state.x.new_tensor(self.centre_um)
        return _only_space(state, self.rate_per_h * r, growth=self.rate_per_h * state.x.shape[1])


@dataclass(frozen=True)
class Linear:
    """Linear field ``dz/dt = A z``, ``dx/dt = B x``; solved by matrix exponentials.

    Parameters
    ----------
    A_per_h, B_per_h
        Matrices of shape (dims, dims) and (space, space), 1/h.
    """

    A_per_h: Float[Tensor, "dims dims"]
    B_per_h: Float[Tensor, "space space"]

    alone: ClassVar[bool] = True

    def __call__(self, t: Float[Tensor, ""], state: State) -> Velocity:
        still = _only_space(state, state.x @ self.B_per_h.T)
        return Velocity(state.z @ self.A_per_h.T, still.dg, still.dx, still.growth)
