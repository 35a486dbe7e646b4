"""Pairs -> batches: points on the paths between coupled cells, with the rates that the network must have there.

Pairs are drawn in proportion to the mean of their masses at both ends, and each weighs in the loss as its mass where it
is drawn over that mean: what is fitted at any time is the mass-weighted mean of the velocities and growth rates there,
as the continuity equation asks (Peng et al. 2026, WFR-FM).

Many batches are drawn at once and cut afterwards: that is most of the loop's speed.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from embryo.core.state import State, Velocity
from embryo.fields.flow import FlowNetwork, Scales
from embryo.fit.coupled import Pairs, angles, tangents
from embryo.fit.geodesic import bends
from embryo.fit.paths import Ends, Tube, path
from embryo.fit.training import Training

_STEPS, _NUMBERS = 64, 2**22  # drawn at once: so many steps, or so many numbers
_MEASURED = 20_000  # points that rates are measured at
_INSIDE = 1e-3  # least s (1 - s) of a bridge, whose rate has no bound at its ends
_STEADY = 1e-5  # change of log mass over the whole window that is rounding


class Drawn(NamedTuple):
    """Points on paths: when, where with what mass, how they change, and the weight of each in the loss."""

    t_h: Float[Tensor, " points"]
    state: State
    velocity: Velocity
    weight: Float[Tensor, " points"]


class Batch(NamedTuple):
    """What a step of the fit needs: inputs of the network, standardised rates, weights."""

    inputs: Float[Tensor, "batch features"]
    rates: Float[Tensor, "batch outputs"]
    weight: Float[Tensor, " batch"]


@dataclass(frozen=True)
class Sampler:
    """Draws points on the paths of pairs; see the module.

    Parameters
    ----------
    data
        Coupled pairs, on the device of the fit.
    training
        What shapes the paths, and the size of a batch.
    scales
        Measured on the pairs by mass.
    spread
        Standard deviations of z, g and x, one row; 1 where a coordinate does not vary.
    cumulative
        Of the pairs' odds.
    angle, tangent, bend
        Of each pair on the cone, of each cell, and of each pair; none for paths without.
    """

    data: Pairs
    training: Training
    scales: Scales
    spread: State
    cumulative: Float[Tensor, " pairs"]
    angle: Float[Tensor, " pairs"] | None = None
    tangent: Velocity | None = None
    bend: State | None = None

    @classmethod
    def of(cls, data: Pairs, training: Training) -> "Sampler":
        """Measure what has to be measured on the pairs."""
        a, b = data.ends(slice(None))
        masses = torch.cat([data.weight * (-b.log_mass).exp(), data.weight])
        cells = torch.cat([_flat(a), _flat(b)])
        centre, spread = _moments(cells, masses)
        widths = torch.where(spread > 0, spread, torch.ones_like(spread))
        z, g, x = widths[None].split([part.shape[1] for part in a.parts()[:3]], dim=1)
        row = State(z, g, x, spread.new_zeros(1))
        window = float(data.t0_h.min()), float((data.t0_h + data.dt_h).max())
        without = cls(
            data, training, Scales(centre, spread, spread.new_zeros(len(spread) + 1), *window), row,
            data.odds.double().cumsum(0).cpu(),
            None if training.delta is None else angles(data, row, training.delta),
            tangents(data) if training.smooth else None,
            None if training.geodesic is None else bends(a, b, data.states, row, training.geodesic),
        )  # fmt: skip
        drawn = without.draw(_MEASURED, torch.Generator().manual_seed(training.seed), wide=False)
        share = (drawn.weight / drawn.weight.sum())[:, None]
        rate = (share * _rates(drawn.velocity).square()).sum(0).sqrt()
        rate[-1] = rate[-1] if rate[-1] * (window[1] - window[0]) > _STEADY else 0.0
        return cls(**{**vars(without), "scales": Scales(centre, spread, rate, *window)})

    def draw(self, n: int, draws: torch.Generator, *, wide: bool = True) -> Drawn:
        """Draw `n` points; `wide` puts them beside their paths as ``training.width_of_paths`` says."""
        data, device = self.data, self.data.weight.device
        u = torch.rand(n, generator=draws, dtype=torch.float64) * self.cumulative[-1]
        k = torch.searchsorted(self.cumulative, u).clamp(max=len(data) - 1).to(device)
        s = torch.rand(n, generator=draws).to(device)
        a, b = data.ends(k)
        state, velocity = path(
            a, b, s, data.dt_h[k],
            angle=None if self.angle is None else self.angle[k],
            ends=self._ends(a, b, k),
            tube=self._tube(k, s, draws) if wide else None,
        )  # fmt: skip
        return Drawn(data.t0_h[k] + s * data.dt_h[k], state, velocity, state.mass / ((a.mass + b.mass) / 2))

    def _ends(self, a: State, b: State, k: Int[Tensor, " points"]) -> Ends | None:
        """Return what makes the curves of pairs smooth or bent; a parabola leaves its chord by 4 c and returns so."""
        if self.bend is not None:
            c, dt = self.bend[k], self.data.dt_h[k][:, None]

            def way(sign: float) -> Velocity:
                ends = zip(a.parts()[:3], b.parts()[:3], c.parts()[:3], strict=True)
                dz, dg, dx = ((q - p + sign * 4 * bow) / dt for p, q, bow in ends)
                return Velocity(dz, dg, dx, torch.zeros_like(c.log_mass))

            return Ends(way(1.0), way(-1.0))
        if self.tangent is None:
            return None
        return Ends(self.tangent[self.data.source[k]], self.tangent[self.data.target[k]])

    def _tube(self, k: Int[Tensor, " points"], s: Float[Tensor, " points"], draws: torch.Generator) -> Tube | None:
        """Return displacements from the paths: of a tube, and of a Brownian bridge; they add, and so do their rates."""
        tube, sigma = self.training.width_of_paths, self.training.diffusion
        if not tube > 0 and not sigma > 0:
            return None
        inside = (s * (1 - s)).clamp(min=_INSIDE)
        variance = tube**2 + sigma**2 * inside
        # d/ds of the displacement over itself: -pull for the tube, (1 - 2 s) / (2 s (1 - s)) for the bridge
        kappa = (self.training.pull * tube**2 - sigma**2 * (1 - 2 * s) / 2) / variance

        def displace(width: Tensor) -> Tensor:
            noise = torch.randn(len(k), *width.shape[1:], generator=draws).to(width.device)
            return variance.sqrt().view(-1, *[1] * (noise.ndim - 1)) * width * noise

        return Tube(self.spread.map(displace), kappa / self.data.dt_h[k])

    def chunks(self, network: FlowNetwork) -> Iterator[list[Batch]]:
        """Yield the batches of all steps, many at a time."""
        draws = torch.Generator().manual_seed(self.training.seed)
        left, batch = self.training.steps, self.training.batch
        most = max(1, min(_STEPS, _NUMBERS // (batch * len(self.scales.rate))))
        while left:
            steps = min(most, left)
            left -= steps
            drawn = self.draw(steps * batch, draws)
            rates = _rates(drawn.velocity) / network.rate
            parts = (network.inputs(drawn.t_h, drawn.state), rates, drawn.weight)
            yield [Batch(*cut) for cut in zip(*(part.split(batch) for part in parts), strict=True)]


def _flat(state: State) -> Float[Tensor, "cells columns"]:
    return torch.cat([state.z, state.g, state.x], dim=-1)


def _rates(v: Velocity) -> Float[Tensor, "cells outputs"]:
    return torch.cat([v.dz, v.dg, v.dx, v.growth.unsqueeze(-1)], dim=-1)


def _moments(
    rows: Float[Tensor, "rows columns"], weight: Float[Tensor, " rows"]
) -> tuple[Float[Tensor, " columns"], Float[Tensor, " columns"]]:
    share = (weight / weight.sum())[:, None]
    mean = (share * rows).sum(0)
    return mean, (share * (rows - mean).square()).sum(0).sqrt()
