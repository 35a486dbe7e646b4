"""Velocities -> Mechanics: strengths of forces by least squares, few of them and none of the wrong sign.

The law is linear in its strengths beta: each scene (one body at one time, and how its cells move) adds rows
``dx = X beta`` with one column per force, and only ``X'X``, ``X'dx`` and ``dx'dx`` are kept of it. The fit is

    min  |dx - X beta|^2 / 2 + penalty sum_gene-columns |X_j| beta_j     beta >= 0 (all but background, chemotaxis)

(non-negative lasso; Slawski and Hein 2013, Electron. J. Stat. 7:3004), solved exactly as bounded least squares on the
Cholesky factor of X'X, then refitted on the columns that stayed (relaxed lasso; Meinshausen 2007). Penalty, and
the lengths of the tissue in which the law is not linear, are those that foretell the scenes of embryos left out.

What is watched is velocities (`embryo.fit.scenes`), or whole bodies at unpaired stages (`embryo.fit.flux`).
"""

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from embryo.blocks.neighbours import nearest
from embryo.core.errors import Problem, SchemaError
from embryo.core.state import State
from embryo.fields.mechanics import Ligands, Mechanics, Touch, gathered, products
from embryo.fit.bounded import Moments, bounded, signed, sum_of
from embryo.fit.scenes import Watched

_PLAIN = 2  # columns before the genes: repulsion, cohesion
_OUTSIDE = 5  # columns after the genes: background and wall
_SCALE = 0.99  # quantile of a gene's counts that is its level 1


@dataclass(frozen=True)
class Search:
    """What the fit tries; held-out scenes decide.

    Parameters
    ----------
    spacings
        Distances between cells at rest, in units of the median distance to the nearest cell.
    reaches
        In spacings.
    walls
        Radii of the wall, as quantiles of the cells' distances from the long axis; 1 and more for none.
    penalties
        Of the lasso, as shares of the smallest one that leaves no gene.
    background
        Whether the tissue may flow as a whole.
    sticky
        Rows and columns (of the panel) of the adhesion matrix that may be above 0; by default every gene with itself.
    motile
        Genes that may move cells (intercalation, chemotaxis); all by default.
    width
        Of the patches of tissue that unpaired stages are held against each other in, in spacings.
    watched
        How many scenes the lengths of the tissue are sought on, drawn evenly; all are fitted in the end.
    """

    spacings: tuple[float, ...] = (1.0, 1.1, 1.2, 1.3, 1.4, 1.5, 1.6)
    reaches: tuple[float, ...] = (1.3, 1.4, 1.5, 1.6, 1.8)
    walls: tuple[float, ...] = (0.8, 0.9, 0.95, 0.98, 2.0)
    penalties: tuple[float, ...] = (0.3, 0.1, 0.03, 0.01, 3e-3, 1e-3, 3e-4, 1e-4)
    background: bool = True
    sticky: tuple[tuple[int, int], ...] | None = None
    motile: tuple[int, ...] | None = None
    width: float = 2.5
    watched: int = 16


@dataclass(frozen=True, eq=False)
class Fitted:
    """A law, and what it was worth on embryos left out.

    Parameters
    ----------
    law
        Mechanics without growth.
    unexplained
        Share of the power of velocities that it leaves unexplained in scenes left out.
    without
        The same without pair forces and chemotaxis: background and wall alone.
    penalty
        That was chosen.
    sure
        Whether it explains scenes left out better than rest, and better than without, by more than a standard error.
    """

    law: Mechanics
    unexplained: float
    without: float
    penalty: float
    sure: bool


def forces(found: Sequence[Watched], search: Search | None = None, ligands: Ligands | None = None) -> Fitted:
    """Fit forces to scenes.

    Parameters
    ----------
    found
        Scenes, of two or more embryos where the held-out error is to mean anything; those of a single embryo are left
        out one by one.
    search
        What is tried.
    ligands
        What may attract; see `embryo.fields.mechanics.Ligands`.

    Raises
    ------
    SchemaError
        If there are fewer than two scenes, or no body has two cells.
    """
    search = search or Search()
    if len(found) < 2:
        problem = Problem(
            f"{len(found)} passage from stage to stage, or body with velocities",
            "2 or more to fit forces: one is left out",
            "give three stages or embryos that are seen twice, or set fit.forces to false",
        )
        raise SchemaError(problem, subject="forces")
    found = [scene.double() for scene in found]
    law, start = _start(found, ligands)
    best: tuple[float, Touch] = (np.inf, start)
    light, some = search.penalties[-1], [found[k] for k in _evenly(len(found), search.watched)]
    for vary in _tries(start, search, law, found):
        for touch in vary(best[1]):
            error = float(np.mean(_Trial(law.touch(touch), search, ligands).of(some).errors(light)))
            best = min(best, (error, touch), key=lambda pair: pair[0])
    return _settled(_Trial(law.touch(best[1]), search, ligands).of(found), search)


def _settled(tried: "_Folds", search: Search) -> Fitted:
    """Choose the largest penalty within one standard error of the best, and fit all scenes with it."""
    errors = np.array([tried.errors(p) for p in search.penalties])
    mean = errors.mean(1)
    best = int(mean.argmin())
    spread = (errors - errors[best]).std(1) / np.sqrt(errors.shape[1])
    chosen = int(np.flatnonzero(mean <= mean[best] + spread)[0])
    beta = tried.solve(sum_of(tried.moments.values()), search.penalties[chosen])
    trial = tried.trial
    without = np.array([own.error(trial.outside_only(tried.rest(k))) for k, own in tried.moments.items()])
    gain = np.minimum(without, 1.0) - errors[chosen]
    sure = bool(gain.mean() > gain.std() / np.sqrt(len(gain)))
    return Fitted(trial.write(beta), float(mean[chosen]), float(without.mean()), search.penalties[chosen], sure)


@dataclass(frozen=True, eq=False)
class _Trial:
    """Columns of the linear problem for one set of lengths."""

    law: Mechanics
    search: Search
    ligands: Ligands | None

    @property
    def pairs(self) -> list[tuple[int, int]]:
        own = [(k, k) for k in range(self.law.unit.shape[0])]
        return own if self.search.sticky is None else list(self.search.sticky)

    @property
    def motile(self) -> list[int]:
        return list(range(self.law.unit.shape[0])) if self.search.motile is None else list(self.search.motile)

    @property
    def kinds(self) -> dict[str, slice]:
        """Columns of each kind of force."""
        sizes = {"plain": _PLAIN, "adhesion": len(self.pairs), "motility": len(self.motile)}
        sizes |= {"chemotaxis": len(self.motile) * self.law.chemotaxis.shape[1], "outside": _OUTSIDE}
        ends = np.cumsum([0, *sizes.values()])
        return {kind: slice(int(a), int(b)) for kind, (a, b) in zip(sizes, itertools.pairwise(ends), strict=True)}

    def columns(self, t_h: float, state: State) -> Float[Tensor, "cells space columns"]:
        """Velocity of every cell for each strength at 1."""
        t, law = torch.tensor(t_h, dtype=torch.float64), self.law
        y, near = law.levels(state.g), law.contacts(state)
        push, hump, bell = law.humps(near).split(1, dim=1)
        motile = y[:, self.motile]
        both = (motile[near.rows[0]] + motile[near.rows[1]]) / 2
        pull = torch.cat([push, hump, hump * products(y, near, self.pairs), bell * both], dim=1)
        parts = [gathered(near, pull, state.x)]
        if law.chemotaxis.shape[1]:
            up = law.climbing(state, self.ligands)
            parts.append((motile[:, None, :, None] * up[:, :, None, :]).flatten(2))
        return torch.cat([*parts, law.surroundings(t, state)], dim=-1)

    def of(self, found: Sequence[Watched]) -> "_Folds":
        """Add up the scenes of each embryo; each scene by itself where there is one embryo."""
        several = len({s.embryo for s in found}) > 1
        moments: dict[str, Moments] = {}
        for k, scene in enumerate(found):
            key = scene.embryo if several else str(k)
            own = scene.moments(self.columns, float(self.law.lengths[0]) * self.search.width)
            moments[key] = moments[key] + own if key in moments else own
        return _Folds(self, moments)

    def bounds(self) -> tuple[Float[np.ndarray, " columns"], Float[np.ndarray, " columns"]]:
        """Return the smallest and the largest strengths; columns out of use have both at 0."""
        kinds, n = self.kinds, self.kinds["outside"].stop
        low, high = np.zeros(n), np.full(n, np.inf)
        low[kinds["chemotaxis"]] = -np.inf
        background = slice(kinds["outside"].start, n - 1)
        low[background] = -np.inf if self.search.background else 0.0
        high[background] = np.inf if self.search.background else 0.0
        return low, high

    def outside_only(self, moments: Moments) -> Float[np.ndarray, " columns"]:
        """Strengths without genes or neighbours."""
        low, high = self.bounds()
        inside = slice(0, self.kinds["outside"].start)
        low[inside] = high[inside] = 0.0
        return bounded(moments, np.zeros(len(low)), (low, high))

    def write(self, beta: Float[np.ndarray, " columns"]) -> Mechanics:
        """Set the strengths of the law."""
        law, kinds, b = self.law, self.kinds, torch.as_tensor(beta)
        law.repulsion.copy_(b[0])
        law.cohesion.copy_(b[1])
        for (k, m), strength in zip(self.pairs, b[kinds["adhesion"]], strict=True):
            law.adhesion[k, m] = law.adhesion[m, k] = strength
        law.motility[self.motile] = b[kinds["motility"]]
        law.chemotaxis[self.motile] = b[kinds["chemotaxis"]].reshape(len(self.motile), -1)
        law.background.copy_(b[kinds["outside"]][:-1])
        law.wall.copy_(b[-1])
        return law


@dataclass(frozen=True, eq=False)
class _Folds:
    """Moments of scenes by the embryo that they are left out with."""

    trial: _Trial
    moments: dict[str, Moments]

    def rest(self, fold: str) -> Moments:
        return sum_of(m for key, m in self.moments.items() if key != fold)

    def errors(self, penalty: float) -> list[float]:
        return [own.error(self.solve(self.rest(fold), penalty)) for fold, own in self.moments.items()]

    def solve(self, moments: Moments, penalty: float) -> Float[np.ndarray, " columns"]:
        """Lasso, then least squares on what it left."""
        low, high = self.trial.bounds()
        kinds = self.trial.kinds
        genes = np.zeros(len(low))
        genes[kinds["plain"].stop : kinds["outside"].start] = 1.0
        scale = np.sqrt(np.maximum(moments.square.diagonal(), 1e-300))
        high = np.where(scale > 1e-9 * scale.max(), high, 0.0)
        low = np.where(high > 0, low, 0.0)
        bare = bounded(moments, np.zeros(len(low)), (np.where(genes > 0, 0.0, low), np.where(genes > 0, 0.0, high)))
        most = float((genes * np.abs(moments.cross - moments.square @ bare) / scale).max())
        beta = signed(moments, penalty * most * genes * scale, (low, high))
        stays = (np.abs(beta) * scale > 1e-6 * np.abs(beta * scale).max()) | (genes == 0)
        return bounded(moments, np.zeros(len(low)), (np.where(stays, low, 0.0), np.where(stays, high, 0.0)))


def _tries(
    now: Touch, search: Search, law: Mechanics, found: Sequence[Watched]
) -> Iterator[Callable[[Touch], list[Touch]]]:
    """Yield ways to vary the lengths, one kind after the other, twice."""
    alone, rho = now.spacing_um, _from_axis(law, found)
    walls = [float(np.quantile(rho, k)) if k < 1 else float("inf") for k in search.walls]
    for _ in range(2):
        yield lambda best: [replace(best, spacing_um=alone * k) for k in search.spacings]
        yield lambda best: [replace(best, reach=k) for k in search.reaches]
        yield lambda best: [replace(best, wall_um=k) for k in walls]


def _from_axis(law: Mechanics, found: Sequence[Watched]) -> Float[np.ndarray, " cells"]:
    return np.concatenate([law.from_axis(body).numpy() for body in _bodies(found)])


def _start(found: Sequence[Watched], ligands: Ligands | None) -> tuple[Mechanics, Touch]:
    """Return a law without strengths, and the lengths to start from."""
    bodies = _bodies(found)
    g, space = torch.cat([s.g for s in bodies]), bodies[0].x.shape[1]
    slopes = [] if ligands is None else [ligands(s)[1] for s in bodies]
    count = 0 if not slopes else (slopes[0].shape[1] if slopes[0].ndim == 3 else 1)
    law = Mechanics(genes=g.shape[1], space=space, ligands=count).double()
    scale = torch.as_tensor(np.quantile(g.expm1().numpy(), _SCALE, axis=0))
    law.unit.copy_(torch.where(scale > 0, scale, torch.ones_like(scale)))
    several = [s.x for s in bodies if len(s) > 1]
    if not several:
        raise SchemaError(
            Problem("bodies of one cell", "two cells or more in some", "give later stages"), subject="forces"
        )
    near = float(torch.cat([nearest(x, 1).distance[:, 0] for x in several]).median())
    length = float(torch.cat([(s.x - s.x.mean(0)).square().sum(1) for s in bodies]).mean().sqrt())
    steep = float(torch.cat([k.norm(dim=-1).flatten() for k in slopes]).quantile(0.9)) / 20 if slopes else 1e-3
    times = [s.t_h for s in found] + [s.t_h + s.dt_h for s in found]
    touch = Touch(near, 1.5, length, float("inf"), (min(times), max(*times, min(times) + 1)), max(steep, 1e-12))
    return law.touch(touch), touch


def _bodies(found: Sequence[Watched]) -> list[State]:
    return [body for scene in found for body in scene.bodies]


def _evenly(count: int, most: int) -> list[int]:
    return sorted({round(k) for k in np.linspace(0, count - 1, min(count, most)).tolist()})
