"""A fitted circuit led on until the cells that it rolls look like the next stage's cells, gene beside gene.

Local means do not tell which of two fates a cell takes where both lie at one place of the body: inside a blastocyst
the mean of NANOG says nothing of NANOG and GATA6 excluding each other. The joint distribution does, and needs no
couplings either. The cells of every stage are rolled to the next one, and those of the first to the last, and compared
with what was measured there by the energy distance (Szekely and Rizzo 2013, J. Stat. Plan. Inference 143:1249) between
log levels and places. Decay stays near what rolling the means has found: spread that decays slowly looks like memory.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.utils import parametrize

from embryo.core.errors import DivergedError, Problem
from embryo.fit import moments, shooting
from embryo.fit.circuit import Numbers
from embryo.fit.moments import Kernels, Series
from embryo.fit.shooting import Window

_FINE = 1e-9  # squared distance below which two cells are one
_WIDE = 2.0  # standard deviations of a place that count as one of a level
_SOFT = 1e-3


@dataclass(frozen=True)
class Settings:
    """How a circuit is led on.

    Parameters
    ----------
    steps, rate
        Of Adam, whose rate falls to nothing by a cosine.
    cells
        At most so many of every stage.
    step_h
        Longest step of a roll.
    l1
        Penalty per unit of weight, a column in standard deviations of what it reads.
    held
        Penalty of the squared change of every log decay.
    """

    steps: int = 300
    rate: float = 0.06
    cells: int = 200
    step_h: float = 0.6
    l1: float = 1e-4
    held: float = 0.01


def refine(numbers: Numbers, whole: Series, unit: Float[Tensor, " genes"], settings: Settings, *, seed: int) -> float:
    """Lead a fitted circuit on in place; return the mean energy distance that is left.

    Parameters
    ----------
    numbers
        As `embryo.fit.circuit.fit` leaves them; inputs of their own, if any, are fitted along.
    whole
        Stages of wild type, all with the same mass: numbers of cells are not compared.
    unit
        expm1(g) at level 1 of every gene.
    settings
        How.
    seed
        Draws the cells.

    Raises
    ------
    DivergedError
        If the loss leaves the finite numbers.
    """
    seen = _Seen(whole.thinned(settings.cells, seed), unit.double())
    begun = numbers.log_decay.detach().clone()
    numbers.log_decay.requires_grad_()
    spread = seen.columns(numbers)
    parametrize.register_parametrization(numbers, "weights", _Scaled(spread))
    free = list(numbers.parameters())
    adam = torch.optim.Adam(free, lr=settings.rate)
    fall = torch.optim.lr_scheduler.CosineAnnealingLR(adam, settings.steps)
    for _ in range(settings.steps):
        adam.zero_grad()
        loss = seen.misfit(numbers, settings.step_h) + _penalty(numbers, spread, begun, settings)
        if not torch.isfinite(loss):
            problem = Problem("a loss that is not finite", "finite levels", "look for NaN in the panel")
            raise DivergedError(problem, subject="joint distributions of the stages")
        loss.backward()
        torch.nn.utils.clip_grad_norm_(free, 1.0)
        adam.step()
        fall.step()
    parametrize.remove_parametrizations(numbers, "weights")
    with torch.no_grad():
        return float(seen.misfit(numbers, settings.step_h))


def _penalty(numbers: Numbers, spread: Tensor, begun: Tensor, settings: Settings) -> Tensor:
    scaled = numbers.weights * spread
    drift = (numbers.log_decay - begun).square().sum()
    rate = 1e-3 * numbers.log_scale.square().sum()
    ridge = (numbers.ridge * numbers.weights**2).sum()
    return settings.held * drift + rate + ridge + settings.l1 * torch.sqrt(scaled**2 + _SOFT).sum()


class _Scaled(nn.Module):
    """Weights in standard deviations of what they act on: a step of Adam is then of one size for all."""

    def __init__(self, spread: Tensor) -> None:
        super().__init__()
        self.spread: Tensor
        self.register_buffer("spread", spread)

    def forward(self, scaled: Tensor) -> Tensor:
        return scaled / self.spread

    def right_inverse(self, weights: Tensor) -> Tensor:
        return weights * self.spread


class _Seen:
    """Stages, and the windows whose ends are held against them."""

    def __init__(self, series: Series, unit: Tensor) -> None:
        self.series, self.unit = series, unit
        local = moments.means(series, Kernels.over(series, 20, 0.5, 0))
        last = len(series.stages) - 1
        self.windows = [shooting.window(series, local, first, 1) for first in range(last)]
        if last > 1:
            self.windows.append(shooting.window(series, local, 0, last))
        self.level = torch.cat([self.log(stage.y) for stage in series.stages]).std(0).clamp(min=_SOFT)
        self.place = _WIDE * torch.cat([stage.material for stage in series.stages]).std(0).clamp(min=_SOFT)

    def log(self, y: Tensor) -> Tensor:
        return torch.log1p(self.unit * y.clamp(min=0))

    @torch.no_grad()
    def columns(self, numbers: Numbers) -> Float[Tensor, " columns"]:
        """Return the spread of what the weights act on."""
        read = [
            numbers.columns(s.y, torch.cat([s.inputs, s.signals], 1), s.t_h, s.material) for s in self.series.stages
        ]
        return torch.cat(read).std(0).clamp(min=_SOFT)

    def points(self, y: Tensor, material: Tensor) -> Float[Tensor, "cells features"]:
        return torch.cat([self.log(y) / self.level, material / self.place], 1)

    def misfit(self, numbers: Numbers, step_h: float) -> Tensor:
        """Return the mean energy distance over all stages that the windows reach."""
        found = []
        for window in self.windows:
            for j, y in enumerate(rolled(numbers, self.series, window, step_h)):
                stage = self.series.stages[window.first + 1 + j]
                found.append(_energy(self.points(y, window.material), self.points(stage.y, stage.material)))
        return torch.stack(found).mean()


def rolled(numbers: Numbers, series: Series, window: Window, step_h: float) -> Iterator[Float[Tensor, "cells genes"]]:
    """Yield the levels of the cells of a window at every stage that it reaches; genes that a knock-out lacks stay."""
    heard = moments.audible(series, numbers.decay)

    def law(y: Tensor, given: Tensor, t_h: float) -> Tensor:
        return numbers.production(y, given, t_h, window.material) * heard

    return shooting.rolled(series, window, law, numbers.decay, step_h)


def _energy(a: Tensor, b: Tensor) -> Tensor:
    return 2 * _apart(a, b).mean() - _apart(a, a).mean() - _apart(b, b).mean()


def _apart(a: Tensor, b: Tensor) -> Tensor:
    return ((a[:, None] - b[None]).square().sum(-1) + _FINE).sqrt()
