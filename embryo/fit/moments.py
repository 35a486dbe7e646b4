"""Local means of snapshots obey the circuit's own equation: a fit without matching cells between stages.

Let K_m be smooth test functions of coordinates that ride with the tissue and A_ma(t) = E[K_m y_a] / E[K_m] the local
mean of gene a. Noise of single cells averages out, and no cell is paired with another:

    dA_ma/dt = E_m[R_a sigma(u_a)] - lambda_a A_ma + Cov_m(b, y_a)

with b the growth rate of each cell. Over an interval h, production is taken linear in time between its local means at
both ends, evaluated on the real cells there (nothing is averaged inside sigma), and the exponential is integrated
exactly. This is weak-form regression (Messenger and Bortz 2021, Multiscale Model. Simul. 19:1474) on the moments of
unpaired snapshots.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from embryo.core.errors import ConfigError, Problem

Production = Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True, eq=False)
class Stage:
    """Cells of all embryos of one time.

    Parameters
    ----------
    t_h
        Time.
    y
        Levels, 1 = a gene's own scale.
    inputs
        Inputs given for every cell; no columns where they are unknown.
    signals
        What every cell receives of each ligand.
    material
        Coordinates that ride with the tissue.
    embryo
        Which embryo each cell is of.
    growth_per_h
        Birth minus death of each cell, 1/h; None for none.
    """

    t_h: float
    y: Float[Tensor, "cells genes"]
    inputs: Float[Tensor, "cells inputs"]
    signals: Float[Tensor, "cells ligands"]
    material: Float[Tensor, "cells axes"]
    embryo: Int[Tensor, " cells"]
    growth_per_h: Float[Tensor, " cells"] | None = None

    def chosen(self, rows: Tensor) -> "Stage":
        """Return the stage of chosen cells."""
        growth = None if self.growth_per_h is None else self.growth_per_h[rows]
        parts = (part[rows] for part in (self.y, self.inputs, self.signals, self.material, self.embryo))
        return Stage(self.t_h, *parts, growth)

    @property
    def growth(self) -> Float[Tensor, " cells"]:
        """Growth rate, zero where not given."""
        return self.y.new_zeros(len(self.y)) if self.growth_per_h is None else self.growth_per_h


@dataclass(frozen=True, eq=False)
class Series:
    """Stages of one condition in the order of time.

    Parameters
    ----------
    stages
        At least two.
    silenced
        Columns of genes that make nothing here: the genes of a knock-out.

    Raises
    ------
    ConfigError
        If there are fewer than two stages or their times do not grow.
    """

    stages: tuple[Stage, ...]
    silenced: tuple[int, ...] = field(default=())

    def __post_init__(self) -> None:
        times = [stage.t_h for stage in self.stages]
        if len(times) < 2 or min(np.diff(times)) <= 0:
            problem = Problem(f"stages at {times} h", "two or more, in the order of time", "sort them or give more")
            raise ConfigError(problem, subject="circuit from snapshots")

    @property
    def times_h(self) -> tuple[float, ...]:
        """Times of the stages."""
        return tuple(stage.t_h for stage in self.stages)

    def of(self, embryos: Sequence[int]) -> "Series":
        """Return the series of some embryos; an embryo named twice counts twice. Stages left empty fall away."""
        stages = []
        for stage in self.stages:
            rows = torch.cat([torch.nonzero(stage.embryo == e)[:, 0] for e in embryos])
            if len(rows):
                stages.append(stage.chosen(rows))
        return Series(tuple(stages), self.silenced)

    def thinned(self, cells: int, seed: int) -> "Series":
        """Return at most so many cells of every stage, drawn at random."""
        draw = np.random.default_rng(seed)
        stages = []
        for stage in self.stages:
            rows = torch.from_numpy(np.sort(draw.permutation(len(stage.y))[:cells]))
            stages.append(stage.chosen(rows))
        return replace(self, stages=tuple(stages))

    @property
    def embryos(self) -> tuple[int, ...]:
        """Every embryo that occurs."""
        return tuple(sorted({int(e) for stage in self.stages for e in stage.embryo.unique()}))


@dataclass(frozen=True, eq=False)
class Kernels:
    """Gaussian test functions of the material coordinates.

    Parameters
    ----------
    centres
        Places.
    width
        Standard deviation along every coordinate.
    """

    centres: Float[Tensor, "places axes"]
    width: Float[Tensor, " axes"]

    @classmethod
    def over(cls, series: Series, places: int, width: float, seed: int) -> "Kernels":
        """Lay kernels over cells drawn from all stages; `width` in standard deviations of each coordinate."""
        material = torch.cat([stage.material for stage in series.stages])
        rows = np.random.default_rng(seed).choice(len(material), min(places, len(material)), replace=False)
        return cls(material[torch.from_numpy(rows)], width * material.std(0))

    def __call__(self, stage: Stage) -> Float[Tensor, "cells places"]:
        """Return each cell's weight in every kernel, unnormalised."""
        away = (stage.material[:, None] - self.centres) / self.width
        return torch.exp(-0.5 * (away**2).sum(-1))


@dataclass(frozen=True, eq=False)
class Means:
    """Local means of one series.

    Parameters
    ----------
    weights
        Per stage: (cells, places), summing to 1 over the cells.
    level
        A: (stages, places, genes).
    drift
        Cov_m(b, y), what growth alone does to the local mean, per hour.
    seen
        Whether at least `few` cells (effective number) of both ends of the interval after each stage stand behind.
    """

    weights: tuple[Float[Tensor, "_ places"], ...]
    level: Float[Tensor, "stages places genes"]
    drift: Float[Tensor, "stages places genes"]
    seen: Float[Tensor, "stages places"]


def means(series: Series, kernels: Kernels, few: float = 8.0) -> Means:
    """Return the local means of a series; places with fewer than `few` cells (effective number) are not `seen`."""
    weights, level, drift, seen = [], [], [], []
    for stage in series.stages:
        raw = kernels(stage)
        k = raw / raw.sum(0).clamp(min=1e-12)
        a = k.T @ stage.y
        b = stage.growth
        weights.append(k)
        level.append(a)
        drift.append(k.T @ (b[:, None] * stage.y) - (k.T @ b)[:, None] * a)
        seen.append((raw.sum(0) ** 2 / (raw**2).sum(0).clamp(min=1e-12) >= few).to(a))
    return Means(tuple(weights), torch.stack(level), torch.stack(drift), torch.stack(seen))


def weights_of_interval(
    decay: Float[Tensor, " genes"], h: float
) -> tuple[Float[Tensor, " genes"], Float[Tensor, " genes"]]:
    """Return the integrals of exp(-decay (h - s)) against 1 - s/h and s/h over an interval of `h` hours."""
    x = decay * h
    whole = -torch.expm1(-x) / decay
    late = (x + torch.expm1(-x)) / (x * decay)
    return whole - late, late


def residuals(
    series: Series, local: Means, production: Production, decay: Float[Tensor, " genes"]
) -> Float[Tensor, "intervals places genes"]:
    """Return what the moment equations leave over in every interval, place and gene; 0 where not seen or silenced.

    Parameters
    ----------
    series, local
        The data and their local means.
    production
        ``production(stage number as tensor, y)``: levels per hour that the cells of a stage make.
    decay
        lambda, 1/h.
    """
    made = [
        k.T @ production(torch.tensor(number), stage.y)
        for number, (k, stage) in enumerate(zip(local.weights, series.stages, strict=True))
    ]
    source = torch.stack(made) + local.drift
    left = []
    for i, h in enumerate(np.diff(series.times_h)):
        early, late = weights_of_interval(decay, float(h))
        fall = torch.exp(-decay * float(h))
        left.append(local.level[i + 1] - fall * local.level[i] - early * source[i] - late * source[i + 1])
    both = local.seen[1:] * local.seen[:-1]
    return torch.stack(left) * both[..., None] * audible(series, decay)


def audible(series: Series, like: Float[Tensor, " genes"]) -> Float[Tensor, " genes"]:
    """Return 1 per gene, 0 for the silenced."""
    mask = torch.ones_like(like)
    mask[list(series.silenced)] = 0.0
    return mask.detach()
