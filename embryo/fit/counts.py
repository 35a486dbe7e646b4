"""Sparse counts -> levels: each cell shrunk towards the cells around it by the variance that counting leaves over.

Counting noise inside a squashed sum biases every production. Locally, counts of one gene have the mean mu and the
variance noise + tau^2; the best linear guess of a cell's level from its own count (empirical Bayes, Robbins 1956; Efron
and Morris 1973, J. Am. Stat. Assoc. 68:117) is

    mu + tau^2 / (tau^2 + noise) (count - mu)

A first pass takes neighbours by place, a second by place and by the levels of the first, so that a boundary between
fates is not smeared.
"""

import numpy as np
import torch
from jaxtyping import Float
from scipy.spatial import cKDTree
from torch import Tensor

from embryo.core.errors import ConfigError, Problem


def shrunk(
    y: Float[Tensor, "cells genes"],
    per_unit: Float[Tensor, " genes"],
    material: Float[Tensor, "cells axes"],
    neighbours: int = 25,
    passes: int = 2,
) -> Float[Tensor, "cells genes"]:
    """Return levels freed of most of their counting noise.

    Parameters
    ----------
    y
        Counts over `per_unit`.
    per_unit
        Counts that level 1 gives.
    material
        Where each cell is: coordinates that ride with the tissue, or positions.
    neighbours
        How many cells around each one, itself among them.
    passes
        1: neighbours by place alone.

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
        mean, variance = _around(y, seen, neighbours)
        noise = mean / per_unit + 1e-9
        excess = (variance - noise).clamp(min=0.0)
        out = mean + excess / (excess + noise) * (y - mean)
        smooth, _ = _around(out, seen, neighbours)
        seen = torch.cat([place, 0.5 * (smooth + out) / y.std(0).clamp(min=0.1)], 1)
    return out


def neighbours_of(
    y: Float[Tensor, "cells genes"],
    per_unit: Float[Tensor, " genes"],
    material: Float[Tensor, "cells axes"],
    choices: tuple[int, ...] = (12, 25, 50, 100),
    *,
    seed: int,
) -> int:
    """Return the number of neighbours that best foretells held-out counts.

    Counts are split in two at random (binomial thinning: both halves are Poisson and independent); the levels of one
    half are held against the other.

    Parameters
    ----------
    y, per_unit, material
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
    errors = {k: float(((shrunk(one, half, material, k) - other) ** 2).mean()) for k in choices}
    return min(errors, key=errors.__getitem__)


def _around(y: Tensor, place: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Return mean and variance over the k nearest cells, itself among them."""
    _, near = cKDTree(place.numpy()).query(place.numpy(), k=min(k, len(y)))
    cells = y[torch.from_numpy(np.asarray(near))]
    return cells.mean(1), cells.var(1)
