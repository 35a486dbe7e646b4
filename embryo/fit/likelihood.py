"""Velocities -> gene circuit, with decay and rates unknown.

Where dy/dt is measured (RNA velocity, tracks) the circuit is fitted by least squares of

    dy/dt = R sigma(W y + E m + S c + h) - lambda y

over single cells. The soft-target quasi-likelihood log(1 + exp(u)) - p u of p = (dy/dt + lambda y) / R is convex in the
weights, but has no minimum where decay is wrong or where chance puts the mean of p below 0 in some direction; with each
row measured by its own curvature least squares need no such start, and find decay too.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from embryo.fit.circuit import Numbers
from embryo.fit.descent import lbfgs

_SOFT = 1e-3


@dataclass(frozen=True, eq=False)
class Measured:
    """Cells with their velocities; several conditions may stand below each other.

    Parameters
    ----------
    y
        Levels.
    given
        Inputs and signals.
    dy
        Velocity of the levels, per hour, with noise of mean zero.
    heard
        1 where a gene's production is its own, 0 where an edit holds it.
    """

    y: Float[Tensor, "cells genes"]
    given: Float[Tensor, "cells given"]
    dy: Float[Tensor, "cells genes"]
    heard: Float[Tensor, "cells genes"]


def fit(
    cells: Measured,
    *,
    l1: float = 1e-6,
    decay_per_h: float = 0.6,
    rounds: int = 8,
    iterations: int = 60,
    prior: Float[Tensor, "genes columns"] | None = None,
) -> Numbers:
    """Fit a circuit to velocities.

    Parameters
    ----------
    cells
        What was measured.
    l1
        Penalty per unit of weight, against half the mean square over cells of each gene.
    decay_per_h
        Where decay starts.
    rounds, iterations
        How often the curvature is measured anew, and iterations in between.
    prior
        Penalty of every weight relative to `l1`.
    """
    numbers = Numbers(cells.y.shape[1], cells.y.shape[1] + cells.given.shape[1], decay_per_h)
    z = torch.cat([cells.y, cells.given], 1)
    count = cells.heard.sum(0).clamp(min=1.0)
    weight = torch.ones_like(numbers.weights) if prior is None else prior.to(numbers.weights)

    def penalty() -> Tensor:
        w = numbers.weights
        return l1 * (weight * torch.sqrt(w**2 + _SOFT)).sum() + 1e-6 * (w**2).sum()

    def squares() -> Tensor:
        rate = torch.exp(numbers.log_decay + numbers.log_scale)
        made = rate * torch.sigmoid(z @ numbers.weights.T + numbers.bias)
        off = (cells.dy - made + numbers.decay * cells.y) * cells.heard
        wide = (numbers.log_scale**2).sum()  # a gene that is never full says nothing of its rate
        return (0.5 * (off**2).sum(0) / count).sum() + penalty() + 1e-3 * wide

    rows, rates = [numbers.weights, numbers.bias], [numbers.log_decay, numbers.log_scale]
    for _ in range(rounds):
        lbfgs(rows, rates, squares, _curvature(numbers, z, cells.heard / count, l1 * weight), iterations)
    return numbers


@torch.no_grad()
def _curvature(numbers: Numbers, z: Tensor, weight: Tensor, bend: Tensor) -> Float[Tensor, "genes columns columns"]:
    """Gauss-Newton curvature of every gene, penalties included."""
    p = torch.sigmoid(z @ numbers.weights.T + numbers.bias)
    steep = torch.exp(numbers.log_decay + numbers.log_scale) * p * (1 - p)
    wide = torch.cat([z, torch.ones_like(z[:, :1])], 1)
    total = torch.stack([wide.T @ (wide * (weight * steep**2)[:, [a]]) for a in range(p.shape[1])])
    bent = torch.cat([bend / (numbers.weights.abs() + 0.1) + 1e-6, torch.full_like(bend[:, :1], 1e-5)], 1)
    return total + torch.diag_embed(bent)
