"""How a tissue grows and moves, from numbers, means and covariances of unpaired stages.

Growth is a rate linear in gene levels, read off the numbers of each embryo by Poisson regression (`embryo.fit.birth`):
mean levels of all its cells are known far better than those around a place. Motion is taken as affine over each
interval, the optimal map between two Gaussians (Dowson and Landau 1982, J. Multivar. Anal. 12:450), the earlier one
weighted by its growth. Cells of two stages are not matched: two samples of one tissue never hold the same places, and
the mean of matched displacements shrinks a body.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from embryo.fields.motion import Motion
from embryo.fields.regulated import Growth
from embryo.fit.birth import Rates, births

_FOLDS = 5
_LEAST_UM = 2.0  # spread that every body has: a few cells have none along some axis, and would be torn apart


@dataclass(frozen=True, eq=False)
class Crowd:
    """Cells of one stage.

    Parameters
    ----------
    t_h
        Time.
    y
        Levels.
    x
        Positions, µm.
    mass
        Cells of its embryo for which each stands.
    embryo
        Which that is.
    """

    t_h: float
    y: Float[Tensor, "cells genes"]
    x: Float[Tensor, "cells space"]
    mass: Float[Tensor, " cells"]
    embryo: Int[Tensor, " cells"]

    def of(self, embryo: int) -> "Crowd":
        """Return the cells of one embryo."""
        rows = self.embryo == embryo
        return Crowd(self.t_h, self.y[rows], self.x[rows], self.mass[rows], self.embryo[rows])


def growth(
    crowds: Sequence[Crowd],
    *others: Sequence[Crowd],
    cycling: Sequence[int] | None = None,
    origins: Mapping[int, int] | None = None,
) -> Growth:
    """Fit a growth rate linear in levels to the numbers of cells of whole embryos, from stage to stage.

    Each embryo that is seen at two stages in a row tells for itself, since embryos differ; where none is, the mean
    embryo of each stage does.

    Parameters
    ----------
    crowds
        In the order of time.
    others
        The same of knock-outs: where wild type never goes, they tell what a gene does to growth.
    cycling
        Genes that may change growth; all by default.
    origins
        Of embryos that are copies: of which one; they are left out together.
    """
    each = [(one, e) for one in (crowds, *others) for e in torch.cat([c.embryo for c in one]).unique().tolist()]
    folds = [(origins or {}).get(e, e) if one is crowds else -k for k, (one, e) in enumerate(each, 1)]
    rows = [row for (one, e), k in zip(each, folds, strict=True) for row in _grown([c.of(e) for c in one], k)]
    if not rows:
        pooled = _grown([replace(c, mass=c.mass / len(c.embryo.unique())) for c in crowds], 0)
        rows = [(*row[:4], k % _FOLDS) for k, row in enumerate(pooled)]
    genes = crowds[0].y.shape[1]
    own = list(range(genes)) if cycling is None else list(cycling)
    level, *rest = (np.array(column) for column in zip(*rows, strict=True))
    law, some = Growth(genes), Growth(len(own))
    births(some, Rates(level[:, own], *rest))
    law.base.copy_(some.base)
    law.birth[own] = some.birth
    return law


def _grown(crowds: Sequence[Crowd], embryo: int) -> list[tuple[np.ndarray, float, float, float, int]]:
    """Return mean levels, 0, hours, and how many one cell becomes, of every two stages in a row that hold cells."""
    rows = []
    for early, late in pairwise(crowds):
        n, m = float(early.mass.sum()), float(late.mass.sum())
        if n > 0 and m > 0:
            level = (early.mass @ early.y + late.mass @ late.y) / (n + m)
            rows.append((level.numpy(), 0.0, late.t_h - early.t_h, m / n, embryo))
    return rows


def motion(crowds: Sequence[Crowd], law: Growth) -> Motion:
    """Return the affine motion between all stages."""
    made = Motion([c.t_h for c in crowds], crowds[0].x.shape[1])
    for k, (early, late) in enumerate(pairwise(crowds)):
        grown = early.mass * torch.exp(law(early.y) * (late.t_h - early.t_h))
        (begin, before), (end, after) = _gaussian(early.x, grown), _gaussian(late.x, late.mass)
        root = _root(before)
        inverse = torch.linalg.inv(root)
        made.begin[k], made.end[k], made.turn[k] = begin, end, inverse @ _root(root @ after @ root) @ inverse
    return made


def _gaussian(
    x: Float[Tensor, "cells space"], mass: Float[Tensor, " cells"]
) -> tuple[Float[Tensor, " space"], Float[Tensor, "space space"]]:
    share = mass / mass.sum()
    centre = share @ x
    off = x - centre
    return centre, (share[:, None] * off).T @ off + _LEAST_UM**2 * torch.eye(x.shape[1]).to(x)


def _root(matrix: Float[Tensor, "space space"]) -> Float[Tensor, "space space"]:
    values, vectors = torch.linalg.eigh(matrix)
    root: Tensor = (vectors * values.clamp(min=0).sqrt()) @ vectors.T
    return root
