"""A learned law beside the law that made the data: velocity in space and growth, cell by cell.

Simulations know how every observed cell moves. What is judged is the law itself, at the observed cells, beside what a
plan says without learning. Slides that were turned at random cannot tell a turn of the tissue from a turn of the slide:
``... but for rigid motion`` leaves the best common translation and rotation of each slide out of truth and answer.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from anndata import AnnData
from jaxtyping import Float, Int

from embryo import fit
from embryo.core import schema, table
from embryo.core.coupling import Coupling
from embryo.core.errors import Problem, SchemaError
from embryo.core.field import Field
from embryo.core.state import State
from embryo.core.table import Better
from embryo.datasets import stvcr

COSINE = "velocity cosine"
_STANDING = 1e-9  # speed, relative to the fastest, of a cell that does not move


@dataclass(frozen=True, eq=False)
class Truth:
    """A known law at the observed cells.

    Parameters
    ----------
    times_h
        Of each cell.
    states
        The cells, in the frame of the truth's velocity.
    dx
        True velocity, µm/h.
    growth
        True growth rate, 1/h; None where unknown.
    """

    times_h: Float[np.ndarray, " cells"]
    states: State
    dx: Float[np.ndarray, "cells space"]
    growth: Float[np.ndarray, " cells"] | None = None

    @classmethod
    def of(cls, adata: AnnData) -> "Truth":
        """Read it from a simulation with ``X_embed``, ``X_panel``, ``spatial_aligned`` and its true velocities.

        Raises
        ------
        SchemaError
            If the simulation does not tell the velocity.
        """
        if stvcr.TRUE_VELOCITY not in adata.obsm:
            found = f"no obsm[{stvcr.TRUE_VELOCITY!r}]"
            raise SchemaError(Problem(found, "the true velocity of every cell", "judge held-out stages instead"))
        growth = adata.obs[stvcr.TRUE_GROWTH].to_numpy(float) if stvcr.TRUE_GROWTH in adata.obs else None
        times = adata.obs[schema.TIME].to_numpy(float)
        return cls(times, fit.states(adata), np.asarray(adata.obsm[stvcr.TRUE_VELOCITY], dtype=float), growth)


@dataclass(frozen=True, eq=False)
class Answer:
    """What someone says about the same cells; NaN where nothing."""

    dx: Float[np.ndarray, "cells space"]
    growth: Float[np.ndarray, " cells"]


def asked(field: Field, truth: Truth) -> Answer:
    """Ask a law about the cells of each time, all cells of a time at once."""
    dx, growth = np.full(truth.dx.shape, np.nan), np.full(len(truth.dx), np.nan)
    for time, rows in _slides(truth.times_h):
        with torch.no_grad():
            v = field(torch.tensor(time, dtype=torch.float32), truth.states[torch.as_tensor(rows)])
        dx[rows], growth[rows] = v.dx.double().numpy(), v.growth.double().numpy()
    return Answer(dx, growth)


def displaced(couplings: Sequence[Coupling], truth: Truth) -> Answer:
    """Say what plans say without learning: the mean displacement to descendants, at the last time from ancestors.

    Growth is the log of the number of descendants over the interval; cells that leave none are given a tenth of one.
    """
    x = truth.states.x.double().numpy()
    dx, growth = np.full(x.shape, np.nan), np.full(len(x), np.nan)
    for c in sorted(couplings, key=lambda c: c.t0_h, reverse=True):
        hours = c.t1_h - c.t0_h
        last = np.isnan(dx[c.targets]).all(axis=1)
        dx[c.targets[last]] = ((x[c.targets] - c.push(x[c.sources])) / hours)[last]
        dx[c.sources] = (c.pull(x[c.targets]) - x[c.sources]) / hours
        growth[c.sources] = np.log(np.maximum(c.descendants, 0.1)) / hours
    return Answer(dx, growth)


def by_type(truth: Truth, labels: Sequence[str]) -> Answer:
    """Say of every cell how the number of its type changes from each time to the next, and nothing about motion."""
    names = np.asarray(labels, dtype=object).astype(str)
    slides = _slides(truth.times_h)
    growth = np.full(len(names), np.nan)
    for name in np.unique(names):
        times = np.array([t for t, _ in slides])
        counts = np.array([(names[rows] == name).sum() for _, rows in slides], dtype=float)
        rates = np.log(np.maximum(counts[1:], 0.5) / np.maximum(counts[:-1], 0.5)) / np.diff(times)
        for (_, rows), rate in zip(slides, [*rates, rates[-1]], strict=True):
            growth[rows[names[rows] == name]] = rate
    return Answer(np.full(truth.dx.shape, np.nan), growth)


def scores(answer: Answer, truth: Truth) -> dict[str, tuple[float, str]]:
    """Return every score of an answer with its unit; scores of what it says nothing about are left out.

    ==================================== =========================================================================
    velocity cosine                      mean over cells of the cosine of the angle between the two velocities
    velocity cosine, pooled              cosine of the two lists of all velocities: fast cells weigh more
    velocity error                       root of the summed squared difference over that of the truth
    ... but for rigid motion             each slide's best rotation and translation taken out of both
    growth correlation                   Pearson, over cells
    growth error                         root-mean-square difference, 1/h
    ==================================== =========================================================================
    """
    found: dict[str, tuple[float, str]] = {}
    said = np.isfinite(answer.dx).all(axis=1)
    if said.any():
        p, q, slides = answer.dx[said], truth.dx[said], _slides(truth.times_h[said])
        x = truth.states.x.double().numpy()[said]
        for name, (a, b) in {
            "": (p, q),
            " but for rigid motion": (_deformation(x, p, slides), _deformation(x, q, slides)),
        }.items():
            found[COSINE + name] = float(np.nanmean(_cosines(a, b))), "1"
            found["velocity cosine, pooled" + name] = float((a * b).sum() / np.sqrt((a**2).sum() * (b**2).sum())), "1"
            found["velocity error" + name] = float(np.sqrt(((a - b) ** 2).sum() / (b**2).sum())), "1"
    known = np.isfinite(answer.growth)
    if truth.growth is not None and known.any():
        u, w = answer.growth[known], truth.growth[known]
        if w.std() > 0:  # where all cells grow alike there is nothing to correlate
            found["growth correlation"] = float(np.corrcoef(u, w)[0, 1]) if u.std() > 0 else float("nan"), "1"
        found["growth error"] = float(np.sqrt(((u - w) ** 2).mean())), "1/h"
    return found


def rows(
    board: str, truth: Truth, answers: Mapping[str, tuple[table.Role, Sequence[Answer]]], *, split: str = "all cells"
) -> Iterator[dict[str, object]]:
    """Yield one row of the table per model and score.

    Parameters
    ----------
    board
        What the rows are called.
    truth
        The known law.
    answers
        By model: its role, and one answer per seed.
    split
        Which cells.
    """
    for model, (role, seeds) in answers.items():
        each = [scores(answer, truth) for answer in seeds]
        for metric, (_, unit) in each[0].items():
            mean = table.interval([one[metric][0] for one in each])
            mean = mean.within(0.0) if better(metric) == "lower" else mean.within(-1.0, 1.0)
            yield table.row(board=board, split=split, model=model, role=role, metric=metric, unit=unit, values=mean)


def better(metric: str) -> Better:
    """Return which way a score is better: errors fall, to 0 at least; cosines and correlations rise, to 1 at most."""
    return "lower" if "error" in metric else "higher"


def _slides(times_h: Float[np.ndarray, " cells"]) -> list[tuple[float, Int[np.ndarray, " chosen"]]]:
    return [(float(t), np.flatnonzero(times_h == t)) for t in np.unique(times_h)]


def _cosines(p: Float[np.ndarray, "cells space"], q: Float[np.ndarray, "cells space"]) -> Float[np.ndarray, " cells"]:
    """Cosine per cell; NaN where the truth stands still, 0 where only the answer does."""
    a, b = np.linalg.norm(p, axis=1), np.linalg.norm(q, axis=1)
    still = b <= _STANDING * b.max()
    return np.where(still, np.nan, (p * q).sum(axis=1) / np.where(still | (a == 0), 1.0, a * b))


def _deformation(
    x: Float[np.ndarray, "cells space"],
    v: Float[np.ndarray, "cells space"],
    slides: Sequence[tuple[float, Int[np.ndarray, " chosen"]]],
) -> Float[np.ndarray, "cells space"]:
    """Take the least-squares rigid motion of each slide out of a velocity: translation and infinitesimal rotation."""
    left = np.empty_like(v)
    space = x.shape[1]
    i, j = np.triu_indices(space, 1)
    for _, chosen in slides:
        centred = x[chosen] - x[chosen].mean(axis=0)
        basis = np.zeros((len(i), len(chosen), space))
        basis[np.arange(len(i)), :, i] = -centred[:, j].T
        basis[np.arange(len(i)), :, j] = centred[:, i].T
        rest = v[chosen] - v[chosen].mean(axis=0)
        turn = np.linalg.lstsq(basis.reshape(len(i), -1).T, rest.ravel(), rcond=None)[0]
        left[chosen] = rest - np.tensordot(turn, basis, axes=1)
    return left
