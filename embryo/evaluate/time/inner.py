r"""Inner hold-out: what every candidate would have missed on stages of the training series, the truth never looked at.

The squared energy distance is a squared norm of the difference of two clouds (Székely & Rizzo 2013; Sejdinovic et al.
2013), so the misses of several candidates have a Gram matrix. With Y the stage that was held out and P_i, P_j two
predictions of it,

.. math:: K_{ij} = E|P_i - Y| + E|P_j - Y| - E|P_i - P_j| - E|Y - Y'|

has the energy distances of the candidates on its diagonal, and w'Kw is that of their mixture with shares w.
"""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import reduce

import numpy as np
import torch
from jaxtyping import Float
from scipy.spatial.distance import cdist

from embryo.core.state import State
from embryo.evaluate.time.predictor import Predictor
from embryo.evaluate.time.series import Series

_MOST = 1500  # particles of a cloud in a Gram matrix: its error is then a fraction of a per cent of the spread


@dataclass(frozen=True, eq=False)
class Fold:
    """A stage of the training series held out for once.

    Parameters
    ----------
    training
        The stages that candidates see.
    t_h
        The time they predict.
    truth
        What was observed then.
    gap_h
        Hours between the stages around it, or since the last one before it: how hard it is.
    """

    training: Series
    t_h: float
    truth: State
    gap_h: float


@dataclass(frozen=True, eq=False)
class Misses:
    """What candidates missed on a fold.

    Parameters
    ----------
    fold
        The fold.
    gram
        K, averaged over seeds, in units of the training spreads.
    noise
        Energy distance that two samples as large as the truth differ by: what cannot be told from nothing.
    """

    fold: Fold
    gram: Float[np.ndarray, "candidates candidates"]
    noise: float


def folds(series: Series, t_h: float) -> tuple[Fold, ...]:
    """Return the inner folds that ask of `series` what is asked at `t_h`.

    ================================= ===========================================================================
    question                          folds
    ================================= ===========================================================================
    between two stages                every stage that has one on both sides, held out
    after the last stage              every stage from the third on, predicted from those before it alone
    at a stage (other cells of it)    that stage, from half of the cells of every stage; both halves in turn
    ================================= ===========================================================================

    A question that none of the stages can imitate has no fold.
    """
    if series.index(t_h) is not None:
        return tuple(_halves(series, t_h))
    before, after = series.flanks(t_h)
    if before is None:
        return ()
    if after is None:
        return tuple(_later(series))
    return tuple(
        Fold(series.without(k), series.times_h[k], series.states[k], series.times_h[k + 1] - series.times_h[k - 1])
        for k in range(1, len(series) - 1)
    )


def _later(series: Series) -> Iterator[Fold]:
    for k in range(2, len(series)):
        known = reduce(lambda s, _: s.without(-1), range(len(series) - k), series)
        yield Fold(known, series.times_h[k], series.states[k], series.times_h[k] - series.times_h[k - 1])


def _halves(series: Series, t_h: float) -> Iterator[Fold]:
    here = series.index(t_h)
    before, _ = series.flanks(t_h)
    if here is None or before is None:
        return
    rng = np.random.default_rng(0)
    orders = [rng.permutation(len(s)) for s in series.states]
    gap = series.times_h[here] - series.times_h[before]
    for side in (0, 1):
        kept = [np.sort(order[side::2]) for order in orders]
        states = tuple(_share(s, rows) for s, rows in zip(series.states, kept, strict=True))
        labels = tuple(part[rows] for part, rows in zip(series.labels, kept, strict=True))
        groups = tuple(part[rows] for part, rows in zip(series.groups, kept, strict=True))
        half = Series(series.times_h, states, labels, groups, series.counts_grow)
        truth = _share(series.states[here], np.sort(orders[here][1 - side :: 2]))
        yield Fold(half, t_h, truth, gap)


def _share(state: State, rows: np.ndarray) -> State:
    """Return some rows of a state, with the mass of all."""
    part = state[torch.as_tensor(rows)]
    more = state.mass.sum().log() - part.mass.sum().log()
    return State(part.z, part.g, part.x, part.log_mass + more)


def digest(series: Series) -> str:
    """Return a checksum of all numbers of a series: what was fitted on it need not be fitted again."""
    found = hashlib.sha256(np.asarray(series.times_h).tobytes())
    for state in series.states:
        for part in state.parts():
            found.update(str(tuple(part.shape)).encode() + part.contiguous().numpy().tobytes())
    return found.hexdigest()


def misses(
    fold: Fold, candidates: Sequence[Predictor], seeds: Sequence[int]
) -> tuple[Float[np.ndarray, " candidates"], Misses]:
    """Let every candidate predict a fold.

    Parameters
    ----------
    fold
        The fold.
    candidates
        Those that are random predict once per seed.
    seeds
        Seeds.

    Returns
    -------
    tuple
        Which candidates apply (1) or not (0), and what those that do missed.
    """
    predicted = [
        [c.predict(fold.training, fold.t_h, s) for s in (seeds if c.random else seeds[:1])] for c in candidates
    ]
    applies = np.array([float(all(p is not None for p in runs)) for runs in predicted])
    clouds = [[p for p in runs if p is not None] for runs, yes in zip(predicted, applies, strict=True) if yes]
    ruler = Ruler.of(fold.training)
    grams = [ruler.gram([runs[k % len(runs)] for runs in clouds], fold.truth, seed) for k, seed in enumerate(seeds)]
    noise = ruler.within(fold.truth) / len(fold.truth)
    return applies, Misses(fold, np.mean(grams, axis=0), noise)


@dataclass(frozen=True)
class Ruler:
    """Distance between cells of z and x together, each in units of its spread over the training stages."""

    z: float
    x: float

    @classmethod
    def of(cls, training: Series) -> "Ruler":
        """Measure the spreads, every stage weighing the same."""
        return cls(*(_spread([getattr(s, part).double() for s in training.states]) for part in ("z", "x")))

    def points(self, state: State) -> Float[np.ndarray, "cells columns"]:
        """Return the cells in these units."""
        return torch.cat([state.z.double() / self.z, state.x.double() / self.x], dim=1).numpy()

    def gram(self, predicted: Sequence[State], truth: State, seed: int) -> Float[np.ndarray, "candidates candidates"]:
        """Return K of the module's docstring, unbiased."""
        rng = np.random.default_rng(seed)
        clouds = [self._cloud(p, rng) for p in (*predicted, truth)]
        n = len(clouds)
        apart = np.zeros((n, n))
        for i in range(n):
            for j in range(i, n):
                apart[i, j] = apart[j, i] = _mean_distance(clouds[i], clouds[j], same=i == j)
        across = apart[:-1, -1]
        return np.asarray(across[:, None] + across[None] - apart[:-1, :-1] - apart[-1, -1])

    def within(self, state: State) -> float:
        """Return the mean distance between two cells of a state."""
        cloud = self._cloud(state, np.random.default_rng(0))
        return _mean_distance(cloud, cloud, same=True)

    def _cloud(self, state: State, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        points, mass = self.points(state), state.mass.double().numpy()
        if len(points) > _MOST:
            rows = rng.choice(len(points), _MOST, replace=False)
            points, mass = points[rows], mass[rows]
        return points, mass / mass.sum()


def _spread(parts: Sequence[torch.Tensor]) -> float:
    if not parts[0].shape[1]:
        return 1.0
    centre = torch.stack([p.mean(0) for p in parts]).mean(0)
    return float(torch.stack([(p - centre).square().sum(1).mean() for p in parts]).mean().sqrt().clamp_min(1e-12))


def _mean_distance(a: tuple[np.ndarray, np.ndarray], b: tuple[np.ndarray, np.ndarray], *, same: bool) -> float:
    """Weighted mean distance; within one cloud over pairs of different particles."""
    total = float(a[1] @ cdist(a[0], b[0]) @ b[1])
    return total / max(1 - float(a[1] @ b[1]), 1e-9) if same else total
