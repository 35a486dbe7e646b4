"""Velocities -> gene circuit, with decay and rates unknown.

Where dy/dt is measured (RNA velocity, tracks) the circuit is fitted by least squares of

    dy/dt = R sigma(W y + E m + S c + h) - lambda y

over single cells. The soft-target quasi-likelihood log(1 + exp(u)) - p u of p = (dy/dt + lambda y) / R is convex in the
weights, but has no minimum where decay is wrong or where chance puts the mean of p below 0 in some direction; with each
row measured by its own curvature least squares need no such start, and find decay too.

Penalties are those of a posterior: they stand beside the squares over the noise of each gene, which is read off what is
left over, and so fade as cells become many.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from embryo.fit.circuit import Numbers
from embryo.fit.descent import lbfgs
from embryo.fit.moments import Series, Stage, audible

_SOFT = 1e-3
_LEAST = 1e-8  # variance of velocities without noise
_FLAT = 1e-8  # curvature where the data have none


@dataclass(frozen=True)
class Settings:
    """How a circuit is fitted to velocities.

    Parameters
    ----------
    width
        Expected size of a weight: the scale of a Laplace prior, cheaper or dearer where a prior of edges says so.
    spread
        Standard deviation of log(rate / decay): a gene that is never full says nothing of its rate.
    decay_per_h
        Where decay starts.
    rounds, iterations
        How often the curvature is measured anew, and iterations in between.
    """

    width: float = 5.0
    spread: float = 0.3
    decay_per_h: float = 0.6
    rounds: int = 8
    iterations: int = 60


def fit(
    series: Sequence[Series],
    settings: Settings | None = None,
    *,
    inputs: nn.Module | None = None,
    prior: Float[Tensor, "genes columns"] | None = None,
) -> Numbers:
    """Fit a circuit to velocities.

    Parameters
    ----------
    series
        Stages with ``dy``; of knock-outs the silenced genes are not listened to. No stage is matched to another.
    settings
        How.
    inputs
        Functions of material coordinates and time, fitted along; as in `embryo.fit.circuit.fit`.
    prior
        Penalty of every weight relative to others.
    """
    how = settings or Settings()
    numbers = Numbers.over(series[0].stages[0], how.decay_per_h, inputs)
    stages, count = _heard(series)
    weight = torch.ones_like(numbers.weights) if prior is None else prior.to(numbers.weights)
    bend = weight / how.width / count[:, None]
    noise = torch.ones_like(count)

    def squares() -> Tensor:
        rate, total = torch.exp(numbers.log_decay + numbers.log_scale), torch.zeros_like(count)
        for stage, dy, share in stages:
            made = rate * torch.sigmoid(_columns(numbers, stage) @ numbers.weights.T + numbers.bias)
            total = total + (share * (dy - made + numbers.decay * stage.y) ** 2).sum(0)
        return total

    def loss() -> Tensor:
        wide = (bend * torch.sqrt(numbers.weights**2 + _SOFT)).sum()
        scale = (numbers.log_scale**2 / count).sum() / (2 * how.spread**2)
        return (0.5 * squares() / noise).sum() + wide + scale

    own = [] if inputs is None else list(inputs.parameters())
    rows, others = [numbers.weights, numbers.bias], [numbers.log_decay, numbers.log_scale, *own]
    for _ in range(how.rounds):
        noise = squares().detach().clamp(min=_LEAST)
        lbfgs(rows, others, loss, _curvature(numbers, stages, noise, bend), how.iterations)
    return numbers


def _heard(series: Sequence[Series]) -> tuple[list[tuple[Stage, Tensor, Tensor]], Float[Tensor, " genes"]]:
    """Return stages with velocities (0 for none) and the share of each value in its gene's mean; and their number."""
    found, count = [], torch.zeros(series[0].stages[0].y.shape[1], dtype=torch.float64)
    for one in series:
        heard = audible(one, count)
        for stage in one.stages:
            dy = torch.full_like(stage.y, torch.nan) if stage.dy is None else stage.dy
            share = torch.isfinite(dy) * heard
            found.append((stage, dy.nan_to_num(), share))
            count = count + share.sum(0)
    count = count.clamp(min=1.0)
    return [(stage, dy, share / count) for stage, dy, share in found], count


def _columns(numbers: Numbers, stage: Stage) -> Float[Tensor, "cells columns"]:
    return numbers.columns(stage.y, torch.cat([stage.inputs, stage.signals], 1), stage.t_h, stage.material)


@torch.no_grad()
def _curvature(
    numbers: Numbers, stages: Sequence[tuple[Stage, Tensor, Tensor]], noise: Float[Tensor, " genes"], bend: Tensor
) -> Float[Tensor, "genes columns columns"]:
    """Gauss-Newton curvature of every gene, penalties included."""
    flat = torch.full_like(bend[:, :1], _FLAT)
    total = torch.diag_embed(torch.cat([bend / (numbers.weights.abs() + 0.1) + _FLAT, flat], 1))
    for stage, _, share in stages:
        z = _columns(numbers, stage)
        p = torch.sigmoid(z @ numbers.weights.T + numbers.bias)
        steep = share * (torch.exp(numbers.log_decay + numbers.log_scale) * p * (1 - p)) ** 2 / noise
        wide = torch.cat([z, torch.ones_like(z[:, :1])], 1)
        total += torch.stack([wide.T @ (wide * steep[:, [a]]) for a in range(len(total))])
    return total
