"""Whether snapshots can come from the fitted circuit: what it misses in two halves of the embryos alike.

Residuals of local means hold chance and what the law gets wrong. Chance differs between two halves of the embryos; the
law's own error does not, so that the mean product of both halves' residuals is an unbiased estimate of its square. A
regulator outside the panel, or a prior that forbids a true edge, shows here, on wild type alone.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from embryo.core.errors import ConfigError, Problem
from embryo.fit import moments
from embryo.fit.circuit import Numbers, Settings, prepare
from embryo.fit.moments import Kernels, Series


@dataclass(frozen=True, eq=False)
class Discrepancy:
    """By how much a circuit misses the local means one stage ahead.

    Parameters
    ----------
    levels
        Root mean square error of each gene beyond chance, in levels; 0 where chance explains all.
    share
        Its square over the mean square change of the gene between stages.
    beyond
        How many standard errors (over places) the mean product lies above zero.
    """

    levels: Float[Tensor, " genes"]
    share: Float[Tensor, " genes"]
    beyond: Float[Tensor, " genes"]

    def unfit(self, share: float = 0.05, beyond: float = 3.0) -> tuple[int, ...]:
        """Return genes whose law is refuted: too large a share of their change is missed, and not by chance."""
        return tuple(torch.nonzero((self.share > share) & (self.beyond > beyond))[:, 0].tolist())


def discrepancy(numbers: Numbers, series: Series, settings: Settings, *, seed: int) -> Discrepancy:
    """Return by how much a circuit misses, from two halves of the embryos of `series`.

    Parameters
    ----------
    numbers
        The fitted circuit.
    series
        Wild type; best of embryos that the fit has not seen.
    settings
        Kernels and steps, as in the fit.
    seed
        Draws halves, cells and places.

    Raises
    ------
    ConfigError
        If a half lacks a stage.
    """
    kernels = Kernels.over(series, settings.places, settings.width, seed)
    left, change, seen = [], [], []
    for half in _halves(series, seed):
        ready = prepare(half, kernels, (1,), settings.cells, seed)
        local = ready.local
        plain = replace(ready, local=replace(local, noise=torch.zeros_like(local.noise)))
        with torch.no_grad():
            left.append(plain.rolled(numbers, 1, (settings.step_h, 1.0)))
        change.append(local.level.diff(dim=0))
        seen.append((local.seen[1:] * local.seen[:-1])[..., None])
    both = seen[0] * seen[1]
    count = both.sum().clamp(min=1.0)
    product = (left[0] * left[1] * both).sum(0) / both.sum(0).clamp(min=1.0)
    places = (both.sum(0)[:, 0] > 0).sum().clamp(min=2)
    missed = (left[0] * left[1] * both).sum((0, 1)) / count
    moved = (change[0] * change[1] * both).sum((0, 1)) / count
    error = product.std(0) / places.sqrt()
    return Discrepancy(missed.clamp(min=0).sqrt(), missed / moved.clamp(min=1e-6), missed / error.clamp(min=1e-12))


def _halves(series: Series, seed: int) -> Sequence[Series]:
    """Two halves of the embryos of every stage."""
    draw = np.random.default_rng(seed)
    order = {embryo: k for k, embryo in enumerate(draw.permutation(series.embryos).tolist())}
    halves: tuple[list[moments.Stage], list[moments.Stage]] = ([], [])
    for stage in series.stages:
        present = sorted(stage.embryo.unique().tolist(), key=order.__getitem__)
        if len(present) < 2:
            problem = Problem(
                f"{len(present)} embryo at {stage.t_h:g} h",
                "two or more at every stage",
                "give more embryos, or name batches of cells as embryos",
            )
            raise ConfigError(problem, subject="discrepancy")
        for half, parity in zip(halves, (0, 1), strict=True):
            half.append(stage.chosen(torch.isin(stage.embryo, torch.tensor(present[parity::2]))))
    return [Series(tuple(half), series.silenced) for half in halves]
