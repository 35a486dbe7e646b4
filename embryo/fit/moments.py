"""Local means of snapshots obey the circuit's own equation: a fit without matching cells between stages.

Let K_m be smooth test functions of coordinates that ride with the tissue and A_ma(t) = E[K_m y_a] / E[K_m] the local
mean of gene a. Noise of single cells averages out, and no cell is paired with another:

    dA_ma/dt = E_m[R_a sigma(u_a)] - lambda_a A_ma + Cov_m(b, y_a)

with b the growth rate of each cell. Production is evaluated on the real cells of every stage (nothing is averaged
inside sigma); between the stages its local means are taken for a cubic spline in time. This is weak-form regression
(Messenger and Bortz 2021, Multiscale Model. Simul. 19:1474) on the moments of unpaired snapshots.

Two samples of one tissue never hold the same places. Each kernel's weights are therefore calibrated (Deville and
Sarndal 1992, J. Am. Stat. Assoc. 87:376) so that material coordinates have the same local mean and covariance at every
stage: what is left to chance is only what the coordinates do not explain, and tissue that grows faster than its
neighbours does not shift the mean.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int
from scipy.interpolate import CubicSpline
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
    dy
        Measured velocity of levels, per hour; NaN where there is none, None where none was measured.
    counted
        Levels before they were shrunk, whose local means and noise are read; None where `y` is what was measured.
    """

    t_h: float
    y: Float[Tensor, "cells genes"]
    inputs: Float[Tensor, "cells inputs"]
    signals: Float[Tensor, "cells ligands"]
    material: Float[Tensor, "cells axes"]
    embryo: Int[Tensor, " cells"]
    growth_per_h: Float[Tensor, " cells"] | None = None
    dy: Float[Tensor, "cells genes"] | None = None
    counted: Float[Tensor, "cells genes"] | None = None

    def chosen(self, rows: Tensor) -> "Stage":
        """Return the stage of chosen cells."""
        some = (self.growth_per_h, self.dy, self.counted)
        growth, dy, counted = (None if part is None else part[rows] for part in some)
        parts = (part[rows] for part in (self.y, self.inputs, self.signals, self.material, self.embryo))
        y, inputs, signals, material, embryo = parts
        return Stage(self.t_h, y, inputs, signals, material, embryo, growth, dy, counted)

    @property
    def measured(self) -> Float[Tensor, "cells genes"]:
        """Levels as they were measured: noisy, but in the mean right."""
        return self.y if self.counted is None else self.counted

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
    target
        Local mean of `_features` that every stage is calibrated to.
    """

    centres: Float[Tensor, "places axes"]
    width: Float[Tensor, " axes"]
    target: Float[Tensor, "places features"]

    @classmethod
    def over(cls, series: Series, places: int, width: float, seed: int) -> "Kernels":
        """Lay kernels over cells drawn from all stages; `width` in standard deviations of each coordinate."""
        material = torch.cat([stage.material for stage in series.stages])
        rows = np.random.default_rng(seed).choice(len(material), min(places, len(material)), replace=False)
        centres, scale = material[torch.from_numpy(rows)], width * material.std(0).clamp(min=1e-9)
        sums = torch.zeros(len(centres), 1, dtype=material.dtype)
        total: Tensor = torch.zeros(1, dtype=material.dtype)
        for stage in series.stages:
            k, features = _raw(stage, centres, scale)
            sums = sums + k.sum(0)[:, None]
            total = total + torch.einsum("nm,nmf->mf", k, features)
        return cls(centres, scale, total / sums.clamp(min=1e-12))

    def local(self, stage: Stage, few: float) -> "Local":
        """Return the local means of one stage; places with fewer than `few` cells (effective) are not seen."""
        raw, features = _raw(stage, self.centres, self.width)
        mass = raw.sum(0).clamp(min=1e-12)
        k = raw / mass
        off = features - self.target
        spread = torch.einsum("nm,nmf,nmg->mfg", k, off, off)
        effective = mass**2 / (raw**2).sum(0).clamp(min=1e-12)
        ridge = torch.diagonal(spread, dim1=1, dim2=2) * (0.01 + 0.1 / effective.clamp(min=1.0))[:, None]
        middle = torch.cat([torch.einsum("nm,nmf->mf", k, off)[..., None], _joint(k, off, stage.measured)], -1)
        slope = torch.linalg.solve(spread + torch.diag_embed(ridge + 1e-9), middle)
        k = k * (1 - torch.einsum("nmf,mf->nm", off, slope[..., 0]))
        k = k / k.sum(0)
        a, b = k.T @ stage.measured, stage.growth
        drift = k.T @ (b[:, None] * stage.measured) - (k.T @ b)[:, None] * a
        return Local(k, a, drift, _noise(k, off, slope[..., 1:], stage.measured), (effective >= few).to(k))


def _raw(stage: Stage, centres: Tensor, width: Tensor) -> tuple[Tensor, Tensor]:
    """Return uncalibrated weights and what is calibrated: coordinates about each place and their products."""
    away = (stage.material[:, None] - centres) / width
    first, second = np.triu_indices(away.shape[2])
    return torch.exp(-0.5 * (away**2).sum(-1)), torch.cat([away, away[..., first] * away[..., second]], -1)


def _joint(k: Tensor, off: Tensor, y: Tensor) -> Tensor:
    """Return the local covariance of features and levels."""
    centred = k[:, :, None] * off
    return torch.einsum("nmf,na->mfa", centred, y) - centred.sum(0)[..., None] * (k.T @ y)[:, None]


def _noise(k: Tensor, off: Tensor, slope: Tensor, y: Tensor) -> Tensor:
    """Return the variance of each local mean by chance: what the features leave unexplained, cell by cell."""
    variance = []
    for m in range(k.shape[1]):
        rest = y - off[:, m] @ slope[m]
        rest = rest - k[:, m] @ rest
        variance.append((k[:, m] ** 2) @ rest**2)
    return torch.stack(variance)


class Local(NamedTuple):
    """Local means of one stage; see `Means`."""

    weights: Float[Tensor, "cells places"]
    level: Float[Tensor, "places genes"]
    drift: Float[Tensor, "places genes"]
    noise: Float[Tensor, "places genes"]
    seen: Float[Tensor, " places"]


@dataclass(frozen=True, eq=False)
class Means:
    """Local means of one series.

    Parameters
    ----------
    weights
        Per stage: (cells, places), summing to 1 over the cells; some may be negative.
    level
        A: (stages, places, genes).
    drift
        Cov_m(b, y), what growth alone does to the local mean, per hour.
    noise
        Variance of `level` by chance.
    seen
        1 where enough cells stand behind, else 0.
    """

    weights: tuple[Float[Tensor, "_ places"], ...]
    level: Float[Tensor, "stages places genes"]
    drift: Float[Tensor, "stages places genes"]
    noise: Float[Tensor, "stages places genes"]
    seen: Float[Tensor, "stages places"]


def means(series: Series, kernels: Kernels, few: float = 8.0) -> Means:
    """Return the local means of a series; places with fewer than `few` cells (effective number) are not `seen`."""
    stages = [kernels.local(stage, few) for stage in series.stages]
    level, drift, noise, seen = (torch.stack(part) for part in list(zip(*stages, strict=True))[1:])
    return Means(tuple(stage.weights for stage in stages), level, drift, noise, seen)


def quadrature(
    times_h: Sequence[float], nodes: int = 6
) -> tuple[Float[Tensor, "intervals nodes stages"], Float[Tensor, "intervals nodes"], Float[Tensor, "intervals nodes"]]:
    """Return how to integrate what is known at the stages alone, over every interval between them.

    Parameters
    ----------
    times_h
        Of the stages.
    nodes
        Gauss-Legendre nodes per interval.

    Returns
    -------
    values, before, weights
        ``values @ f`` is the cubic spline through f (its second differences end flat) at the nodes; `before` the time
        from each node to the end of its interval, hours; `weights` those of the quadrature, hours.
    """
    t = np.asarray(times_h, float)
    spline = CubicSpline(t, np.eye(len(t)), bc_type="natural" if len(t) < 4 else "not-a-knot")
    root, weight = np.polynomial.legendre.leggauss(nodes)
    h = np.diff(t)[:, None]
    after = 0.5 * h * (root + 1)
    values = spline(t[:-1, None] + after)
    return torch.from_numpy(values), torch.from_numpy(h - after), torch.from_numpy(0.5 * h * weight)


def residuals(
    series: Series, local: Means, production: Production, decay: Float[Tensor, " genes"], floor: float
) -> Float[Tensor, "intervals places genes"]:
    """Return what the moment equations leave over in every interval, place and gene, in standard deviations.

    0 where not seen or silenced.

    Parameters
    ----------
    series, local
        The data and their local means.
    production
        ``production(stage number as tensor, y)``: levels per hour that the cells of a stage make.
    decay
        lambda, 1/h.
    floor
        Levels that are added in quadrature to the noise by chance: how well a law can be expected to hold.
    """
    made = [
        k.T @ production(torch.tensor(number), stage.y)
        for number, (k, stage) in enumerate(zip(local.weights, series.stages, strict=True))
    ]
    source = torch.stack(made) + local.drift
    values, before, weights = quadrature(series.times_h)
    kept = weights[..., None] * torch.exp(-decay * before[..., None])
    gained = torch.einsum("iqa,iqs,sma->ima", kept, values, source)
    fall = torch.exp(-decay * torch.from_numpy(np.diff(series.times_h))[:, None, None])
    left = local.level[1:] - fall * local.level[:-1] - gained
    both = local.seen[1:] * local.seen[:-1]
    chance = local.noise[1:] + fall.detach() ** 2 * local.noise[:-1]
    return left * both[..., None] * audible(series, decay) / torch.sqrt(chance + floor**2)


def audible(series: Series, like: Float[Tensor, " genes"]) -> Float[Tensor, " genes"]:
    """Return 1 per gene, 0 for the silenced."""
    mask = torch.ones_like(like)
    mask[list(series.silenced)] = 0.0
    return mask.detach()
