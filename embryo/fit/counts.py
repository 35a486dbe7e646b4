"""Sparse counts -> levels: each cell shrunk towards the cells around it by the variance that counting leaves over.

Counting noise inside a squashed sum biases every production. Locally, counts have the mean mu and the covariance S + N
with N diagonal; the best linear guess of a cell's levels from its own counts (empirical Bayes, Robbins 1956; Efron and
Morris 1972, Biometrika 59:335) is

    mu + S (S + N)^-1 (counts - mu),    N = mu / counts per unit + phi mu^2

Genes that go together tell of each other. A first pass takes neighbours by place, a second by place and by the levels
of the first, so that a boundary between fates is not smeared. phi is what capture, dropout and batch add to counting,
alike for all genes; it is read off the genes that are steadiest at a place, as Brennecke et al. (2013, Nat. Methods
10:1093) read it off spiked-in ones.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from anndata import AnnData
from jaxtyping import Float
from scipy.spatial import cKDTree
from torch import Tensor

from embryo.core import schema
from embryo.core.errors import ConfigError, Problem
from embryo.fit.snapshots import unit_of

_CHOICES = (12, 25, 50, 100)
_STEADY = 0.1  # share of (cell, gene) whose neighbourhood is taken for steady
_WIDE = 100  # neighbours that the excess variance is read off
_SEEN = 1.0  # counts a gene must be expected to give there
_BLOCK = 2048  # cells looked at in one go
_LEAST = 1e-9  # variance of what is never counted
_STAGES = 4  # that the number of neighbours is chosen on, at most


def shrunk(
    y: Float[Tensor, "cells genes"],
    per_unit: Float[Tensor, "*cells genes"],
    material: Float[Tensor, "cells axes"],
    neighbours: int = 25,
    passes: int = 2,
    excess: float = 0.0,
) -> Float[Tensor, "cells genes"]:
    """Return levels freed of most of their counting noise.

    Parameters
    ----------
    y
        Counts over `per_unit`.
    per_unit
        Counts that level 1 gives, in all cells or in each.
    material
        Where each cell is: coordinates that ride with the tissue, or positions.
    neighbours
        How many cells around each one, itself among them.
    passes
        1: neighbours by place alone.
    excess
        phi: squared coefficient of variation that measuring adds to that of counting.

    Raises
    ------
    ConfigError
        If fewer than two neighbours or no counts per unit are given.
    """
    if neighbours < 2 or float(per_unit.min()) <= 0:
        problem = Problem(
            f"{neighbours} neighbours, {float(per_unit.min()):g} counts per unit",
            "two or more, and above 0",
            "give more neighbours and leave out genes without counts",
        )
        raise ConfigError(problem, subject="levels from counts")
    place = material / material.std(0).clamp(min=1e-9)
    seen = place
    out = y
    for _ in range(passes):
        near = _near(seen, neighbours)
        out = torch.cat([_guess(y, per_unit, near, rows, excess) for rows in torch.arange(len(y)).split(_BLOCK)])
        out = out + _around(y - out, near)  # cells counted less deeply are shrunk more: the mean around must not move
        seen = torch.cat([place, 0.5 * (_around(out, near) + out) / y.std(0).clamp(min=0.1)], 1)
    return out


def _guess(y: Tensor, per_unit: Tensor, near: Tensor, rows: Tensor, excess: float) -> Float[Tensor, "block genes"]:
    """Return the best linear guess of the levels of some cells."""
    around, apart = y[near[rows]], (1 / per_unit).expand_as(y)
    mean = around.mean(1)
    off, own = around - mean[:, None], excess * mean**2 + _LEAST
    real = off.mT @ off / (off.shape[1] - 1) - torch.diag_embed(mean * apart[near[rows]].mean(1) + own)
    size, axes = torch.linalg.eigh(real)
    real = (axes * size.clamp(min=0.0)[:, None]) @ axes.mT
    noise = torch.diag_embed(mean * apart[rows] + own)
    guess: Tensor = mean + (real @ torch.linalg.solve(real + noise, (y[rows] - mean)[..., None]))[..., 0]
    return guess


def excess_of(
    y: Float[Tensor, "cells genes"], per_unit: Float[Tensor, "*cells genes"], material: Float[Tensor, "cells axes"]
) -> Float[Tensor, " seen"]:
    """Return the squared coefficient of variation around each cell beyond counting, for genes that are seen there.

    Of these the low ones come from genes that are steady there: what is left to them is the measurement's own.
    """
    mean, left = _beyond_counting(y, per_unit, _near(material / material.std(0).clamp(min=1e-9), _WIDE))
    return (left / mean.clamp(min=1e-12) ** 2)[mean * per_unit > _SEEN]


def held_out(
    y: Float[Tensor, "cells genes"],
    per_unit: Float[Tensor, "*cells genes"],
    material: Float[Tensor, "cells axes"],
    choices: tuple[int, ...] = _CHOICES,
    *,
    excess: float = 0.0,
    seed: int,
) -> Float[np.ndarray, " choices"]:
    """Return the mean square error in held-out counts for every number of neighbours.

    Counts are split in two at random (binomial thinning: both halves are Poisson and independent); the levels of one
    half are held against the other.

    Parameters
    ----------
    y, per_unit, material, excess
        As `shrunk` takes them.
    choices
        To choose from.
    seed
        Splits the counts.
    """
    draw = np.random.default_rng(seed)
    count = (y * per_unit).round().clamp(min=0).to(torch.int64).numpy()
    kept = draw.binomial(count, 0.5)
    half = per_unit / 2
    one, other = torch.as_tensor(kept).to(y) / half, torch.as_tensor(count - kept).to(y) / half
    found = (shrunk(one, half, material, k, excess=excess) for k in choices)
    return np.array([float(((guess - other) ** 2).mean()) for guess in found])


@dataclass(frozen=True)
class Shrinkage:
    """How the panel of counted cells is shrunk; chosen on training cells.

    Parameters
    ----------
    unit
        A level of each gene that is large for it, expm1(g).
    neighbours, excess
        As `shrunk` takes them.
    """

    unit: tuple[float, ...]
    neighbours: int
    excess: float

    @classmethod
    def of(cls, adata: AnnData, groups: Sequence[str], *, seed: int) -> "Shrinkage":
        """Choose on training cells.

        Parameters
        ----------
        adata
            With ``X_panel`` from counts, ``obs["counts_per_level"]``, ``spatial_aligned`` and ``time``.
        groups
            Name per cell: those whose places can be compared share one, and are parted by time here.
        seed
            Splits the counts.

        Raises
        ------
        ConfigError
            If the panel was not made from counts, or there are no positions.
        """
        _require(adata)
        unit = unit_of(np.asarray(adata.obsm[schema.PANEL], dtype=float))
        parts = [_counted(adata, rows, unit) for rows in _parts(adata, groups)]
        beyond = torch.cat([excess_of(*part) for part in parts])
        excess = max(0.0, float(np.quantile(beyond.numpy(), _STEADY))) if len(beyond) else 0.0
        some = [parts[k] for k in np.unique(np.linspace(0, len(parts) - 1, _STAGES).round().astype(int))]
        errors = sum(held_out(*part, excess=excess, seed=seed) for part in some)
        return cls(tuple(unit.tolist()), _CHOICES[int(np.argmin(errors))], excess)

    def panel(self, adata: AnnData, groups: Sequence[str]) -> Float[np.ndarray, "cells genes"]:
        """Return log1p levels, each group and time for itself; one of fewer than 12 cells is left as it is."""
        _require(adata)
        g = np.array(adata.obsm[schema.PANEL], dtype=np.float32)
        unit = np.array(self.unit)
        for rows in _parts(adata, groups):
            if len(rows) >= _CHOICES[0]:
                y = shrunk(*_counted(adata, rows, unit), neighbours=self.neighbours, excess=self.excess)
                g[rows] = np.log1p(y.clamp(min=0).numpy() * unit)
        return g

    def to_dict(self) -> dict[str, Any]:
        """Return plain numbers and lists, of which `from_dict` makes the same again."""
        return {**asdict(self), "unit": list(self.unit)}

    @classmethod
    def from_dict(cls, kept: Mapping[str, Any]) -> "Shrinkage":
        """Return what `to_dict` returned, also as h5ad gives it back."""
        return cls(tuple(map(float, kept["unit"])), int(kept["neighbours"]), float(kept["excess"]))


def _require(adata: AnnData) -> None:
    lost = [
        Problem(f"no {slot}", "a panel made from raw counts, of placed cells", "set embed.shrink to false")
        for slot, there in (
            (f"obs[{schema.PER_LEVEL!r}]", schema.PER_LEVEL in adata.obs),
            (f"obsm[{schema.ALIGNED!r}]", schema.ALIGNED in adata.obsm),
        )
        if not there
    ]
    if lost:
        raise ConfigError(*lost, subject="levels from counts")


def _parts(adata: AnnData, groups: Sequence[str]) -> list[np.ndarray]:
    """Return the rows of every group and time that has neighbours at all."""
    names, t = np.asarray(groups, dtype=str), adata.obs[schema.TIME].to_numpy(float)
    each = [np.flatnonzero((names == name) & (t == u)) for name in np.unique(names) for u in np.unique(t)]
    return [rows for rows in each if len(rows) > 1]


def _counted(adata: AnnData, rows: np.ndarray, unit: np.ndarray) -> tuple[Tensor, Tensor, Tensor]:
    """Return levels, counts per unit of every cell, and places."""
    y = np.expm1(np.asarray(adata.obsm[schema.PANEL][rows], dtype=float)) / unit
    per_unit = np.maximum(adata.obs[schema.PER_LEVEL].to_numpy(float)[rows, None] * unit, 1e-9)
    place = np.asarray(adata.obsm[schema.ALIGNED][rows], dtype=float)
    return torch.from_numpy(y), torch.from_numpy(per_unit), torch.from_numpy(place)


def _beyond_counting(y: Tensor, per_unit: Tensor, near: Tensor) -> tuple[Tensor, Tensor]:
    """Return mean levels over neighbours, and their variance less that of counting."""
    mean = _around(y, near)
    variance = torch.cat([y[part].var(1) for part in near.split(_BLOCK)])
    return mean, variance - mean * _around((1 / per_unit).expand_as(y), near)


def _around(values: Tensor, near: Tensor) -> Tensor:
    """Return the mean over neighbours."""
    return torch.cat([values[part].mean(1) for part in near.split(_BLOCK)])


def _near(place: Tensor, k: int) -> Tensor:
    """Return the rows of the k nearest cells, itself among them."""
    _, near = cKDTree(place.numpy()).query(place.numpy(), k=min(k, len(place)))
    return torch.from_numpy(np.asarray(near))
