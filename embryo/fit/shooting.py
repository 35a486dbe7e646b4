"""Roll cells from stage to stage by the circuit and hold their local means against those that were measured.

Right at every spacing, where interpolation in time is not: the cells of one stage are carried through several stages
by an exponential Runge-Kutta scheme of second order (Cox and Matthews 2002, J. Comput. Phys. 176:430), while inputs
and signals follow what was measured at the same place of the tissue. From the first stage on, where little is
expressed, counting noise hardly enters: the targets are means.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from jaxtyping import Float
from scipy.spatial import cKDTree
from torch import Tensor

from embryo.fit.moments import Means, Series, audible

Law = Callable[[Tensor, Tensor, float], Tensor]  # (y, given inputs and signals, t_h) -> levels per hour
End = tuple[Tensor, float]  # given inputs and signals, and the time in hours


@dataclass(frozen=True, eq=False)
class Window:
    """Cells that start at one stage and are rolled through the next ones.

    Parameters
    ----------
    first
        Number of the stage at which they start.
    y
        Their levels there.
    weights
        Of each start cell in each kernel, growing with the cell, for every stage reached.
    columns
        Given inputs and signals along the way: (stages reached + 1, cells, columns).
    material
        Coordinates of the cells.
    """

    first: int
    y: Float[Tensor, "cells genes"]
    weights: tuple[Float[Tensor, "cells places"], ...]
    columns: Float[Tensor, "knots cells columns"]
    material: Float[Tensor, "cells axes"]


def window(series: Series, local: Means, first: int, stages: int, neighbours: int = 12) -> Window:
    """Return the cells of stage `first` made ready to be rolled through the `stages` that follow.

    Inputs and signals of a cell at a later stage are its own now plus the change of the mean of the `neighbours` cells
    nearest in material coordinates.
    """
    start = series.stages[first]
    scale = start.material.std(0).clamp(min=1e-9)
    place = (start.material / scale).numpy()
    knots, weights = [], []
    own = torch.cat([start.inputs, start.signals], 1)
    grown = start.y.new_zeros(len(start.y))
    for number in range(first, min(first + stages, len(series.stages) - 1) + 1):
        stage = series.stages[number]
        k = min(neighbours, len(stage.y))
        _, near = cKDTree((stage.material / scale).numpy()).query(place, k=k)
        near = torch.from_numpy(np.asarray(near).reshape(len(place), k))
        knots.append(torch.cat([stage.inputs, stage.signals], 1)[near].mean(1))
        if number > first:
            grown = grown + stage.growth[near].mean(1) * (stage.t_h - series.stages[number - 1].t_h)
            heavier = local.weights[first] * grown.exp()[:, None]
            weights.append(heavier / heavier.sum(0).clamp(min=1e-12))
    columns = torch.stack([own + knot - knots[0] for knot in knots])
    return Window(first, start.y, tuple(weights), columns, start.material)


def step(
    y: Float[Tensor, "cells genes"], law: Law, decay: Float[Tensor, " genes"], ends: tuple[End, End]
) -> Float[Tensor, "cells genes"]:
    """Return levels at the second end; `law(y, columns, t_h)` is production, an end is (columns, time)."""
    h = ends[1][1] - ends[0][1]
    x = decay * h
    fall = torch.exp(-x)
    now = law(y, *ends[0])
    guess = fall * y - torch.expm1(-x) / decay * now
    return guess + (x + torch.expm1(-x)) / (x * decay) * (law(guess, *ends[1]) - now)


def rolled(
    series: Series, window: Window, law: Law, decay: Float[Tensor, " genes"], step_h: float
) -> Iterator[Float[Tensor, "cells genes"]]:
    """Yield the levels of the cells of a window at every stage that it reaches, rolled in steps of at most `step_h`."""
    y = window.y
    for j, (t0, t1) in enumerate(pairwise(series.times_h[window.first : window.first + len(window.weights) + 1])):
        count = max(1, int(np.ceil((t1 - t0) / step_h - 1e-9)))
        at = [
            (torch.lerp(window.columns[j], window.columns[j + 1], q / count), t0 + q * (t1 - t0) / count)
            for q in range(count + 1)
        ]
        for early, late in pairwise(at):
            y = step(y, law, decay, (early, late))
        yield y


def residuals(
    series: Series,
    local: Means,
    cells: Window,
    law: Law,
    decay: Float[Tensor, " genes"],
    numerics: tuple[float, float],
) -> Float[Tensor, "reached places genes"]:
    """Return measured minus rolled local means at every stage that a window reaches, in standard deviations.

    0 where not seen or silenced.

    Parameters
    ----------
    series, local
        The data and their local means.
    cells
        To be rolled.
    law
        ``law(y, columns, t_h)``: production in levels per hour; `columns` as given, interpolated in time.
    decay
        lambda, 1/h.
    numerics
        Longest step in hours, and the levels that are added in quadrature to the noise by chance.
    """
    step_h, floor = numerics
    left, heard = [], audible(series, decay)
    for j, y in enumerate(rolled(series, cells, law, decay, step_h)):
        number = cells.first + j + 1
        seen = local.seen[number] * local.seen[cells.first]
        scale = seen[:, None] * heard / torch.sqrt(local.noise[number] + floor**2)
        left.append((local.level[number] - cells.weights[j].T @ y) * scale)
    return torch.stack(left)
