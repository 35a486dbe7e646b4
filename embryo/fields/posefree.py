"""Where a cell lies in a body without a common pose, and how such a body swells.

A fixed embryo lies as it fell: its axes mean nothing, the distance of a cell from the middle and how crowded it is
there do. Neither changes when the body is turned, moved or mirrored, and nothing here does.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from embryo.core.state import State, Velocity

_REACH = 0.5  # standard deviation of what counts as crowded, in radii
NAMES = ("distance from the middle", "crowding")


def radius_um(state: State) -> Float[Tensor, ""]:
    """Return the root mean square distance of the cells from their centroid, µm."""
    share = torch.softmax(state.log_mass, dim=0)
    radius: Tensor = (_distance(state, share).square() * share).sum().sqrt().clamp(min=1e-9)
    return radius


def depth(state: State) -> Float[Tensor, "cells 2"]:
    """Return the distance from the centroid, in radii of the body, and the crowding, 1 on the mean over the cells.

    Crowding is the share of the other cells about a cell, weighted by a Gaussian of half a radius: what lies inside is
    crowded, and so is the thick side of a hollow body, which its centroid does not tell from the thin one.
    """
    share = torch.softmax(state.log_mass, dim=0)
    radius = radius_um(state)
    near = torch.exp(-0.5 * (torch.cdist(state.x, state.x) / (_REACH * radius)).square())
    crowd = near @ share - share
    return torch.stack([_distance(state, share) / radius, crowd / (crowd @ share).clamp(min=1e-9)], 1)


def _distance(state: State, share: Tensor) -> Tensor:
    return (state.x - (share.unsqueeze(-1) * state.x).sum(0)).square().sum(1).clamp(min=1e-18).sqrt()


class Swelling(nn.Module):
    """Motion of a body without a pose: every cell moves away from the centroid as the whole body grows.

    Parameters
    ----------
    times_h
        Of the stages; before the first and after the last the body rests.
    dims, genes
        Columns of z and g, which do not change here.
    """

    def __init__(self, times_h: Sequence[float], dims: int, genes: int) -> None:
        super().__init__()
        self.columns = {"z": dims, "g": genes}
        self.times_h = tuple(float(t) for t in times_h)
        self.rate_per_h: Tensor
        self.register_buffer("rate_per_h", torch.zeros(len(self.times_h) - 1))

    @classmethod
    def through(cls, times_h: Sequence[float], radii_um: Sequence[float], dims: int, genes: int) -> "Swelling":
        """Return the motion that takes a body through these radii."""
        made = cls(times_h, dims, genes)
        made.rate_per_h.copy_(torch.as_tensor(np.diff(np.log(radii_um)) / np.diff(times_h), dtype=torch.float32))
        return made

    def shape(self) -> dict[str, Any]:
        """Return what `from_shape` needs."""
        return {"times_h": list(self.times_h), "dims": self.columns["z"], "genes": self.columns["g"]}

    @classmethod
    def from_shape(cls, shape: dict[str, Any]) -> "Swelling":
        """Return an unfitted motion of a shape."""
        return cls(**shape)

    def forward(self, t: Float[Tensor, ""], state: State) -> Velocity:
        """Velocity of every particle; see `embryo.core.field.Field`."""
        share = torch.softmax(state.log_mass, dim=0).unsqueeze(-1)
        interval = int(np.searchsorted(self.times_h, float(t), side="right")) - 1
        within = 0 <= interval < len(self.rate_per_h)
        rate = self.rate_per_h[interval] if within else torch.zeros(())
        dx = rate.to(state.x) * (state.x - (share * state.x).sum(0))
        return Velocity(torch.zeros_like(state.z), torch.zeros_like(state.g), dx, torch.zeros_like(state.log_mass))
