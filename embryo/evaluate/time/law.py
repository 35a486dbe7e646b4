"""A law fitted from slides alone, held against the law that made them: the board of simulations with known velocities.

Slides come turned at random and are laid into one frame by what is in them; only the truth is turned into that frame by
the simulation's own unturned positions. The law is the last of a few rounds of coupling and flow matching
(`embryo.evaluate.time.recoupled`), with growth smoothed over neighbours and descendants.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial

import numpy as np
from anndata import AnnData
from jaxtyping import Float
from sklearn.neighbors import NearestNeighbors

from embryo import couple, fit
from embryo.core import frame, schema, table
from embryo.core.coupling import Coupling
from embryo.core.errors import FrameError, Problem
from embryo.core.field import Field
from embryo.datasets import stvcr
from embryo.evaluate.result import OURS, Result
from embryo.evaluate.time import truth as laws
from embryo.evaluate.time.recoupled import recoupled
from embryo.evaluate.time.truth import Answer, Truth

SPLIT = "all cells"
_ALIKE = 10  # nearest cells of the same time whose true law is averaged: what a smooth law can know
_FLOORS = "linear optimal transport", "unbalanced transport", "growth of the type"


@dataclass(frozen=True)
class Fitting:
    """How the law is fitted; the same for every simulation.

    Parameters
    ----------
    transport
        Couplings of each round.
    training
        Of the last round; the rounds before take ``steps // 5``.
    rounds
        Of coupling and fitting.
    """

    transport: couple.Transport = field(
        default_factory=lambda: couple.Transport(solver="unbalanced", epsilon=0.002, tau=0.1)
    )
    training: fit.Training = field(default_factory=lambda: fit.Training(steps=5000, width=256, width_of_paths=0.02))
    rounds: int = 4


def law(
    adata: AnnData,
    *,
    seeds: Sequence[int],
    fitting: Fitting = Fitting(),
    board: str = "known law",
    tick: Callable[[str, int, int], None] | None = None,
) -> Result:
    """Fit the law with every seed and score it at the observed cells.

    ================================= ========== ===================================================================
    model                             role       what it is
    ================================= ========== ===================================================================
    embryo                            ours       the fitted law
    linear optimal transport          floor      displacement along the exact balanced plan
    unbalanced transport              floor      displacement and growth of the plan of the first round
    growth of the type                floor      growth of each cell type's number; nothing about motion
    true law of the nearest cells     ceiling    the truth averaged over the 10 nearest other cells of the same time
    ================================= ========== ===================================================================

    Parameters
    ----------
    adata
        A simulation with ``X_embed``, ``X_panel``, ``spatial_aligned`` and its true velocities and positions.
    seeds
        Of the fits.
    fitting
        Settings.
    board
        What the rows are called.
    tick
        Called with (what, done, of).

    Returns
    -------
    Result
        Scores of `embryo.evaluate.time.truth.scores`; intervals over seeds.

    Raises
    ------
    SchemaError
        If the simulation does not tell its velocities.
    FrameError
        If a slide's own positions do not tell how it was turned.
    """
    known = Truth.of(_turned(adata))
    fits = []
    for k, seed in enumerate(seeds):
        fits.append(laws.asked(_fitted(adata, fitting, seed), known))
        if tick is not None:
            tick("fit", k + 1, len(seeds))
    answers: dict[str, tuple[table.Role, Sequence[Answer]]] = {OURS: ("ours", fits)}
    exact = couple.Transport(counts_grow=True)
    for name, options in zip(_FLOORS, (exact, fitting.transport), strict=False):
        answers[name] = "floor", [laws.displaced(couple.series(adata, method="transport", transport=options), known)]
    if schema.CELL_TYPE in adata.obs:
        answers[_FLOORS[2]] = "floor", [laws.by_type(known, adata.obs[schema.CELL_TYPE].astype(str).tolist())]
    answers["true law of the nearest cells"] = "ceiling", [_nearest(known)]
    rows, sentences = list(laws.rows(board, known, answers, split=SPLIT)), []
    for metric, unit, floor, ours, theirs in _compared(known, answers):
        better = laws.better(metric)
        gain, words = table.gained(ours, theirs, floor_name=floor, better=better)
        model = f"{OURS} minus {floor}"
        row = table.row(board=board, split=SPLIT, model=model, role="difference", metric=metric, unit=unit, values=gain)
        rows.append(row | {"better": better, "verdict": words})
        said = table.verdict(ours, theirs, floor_name=floor, better=better)
        sentences.append(f"{SPLIT}: {metric}: {OURS}: {said}.")
    return Result(table.table(rows).fillna({"better": "", "verdict": ""}), tuple(sentences))


def _fitted(adata: AnnData, fitting: Fitting, seed: int) -> Field:
    last = replace(fitting.training, seed=seed)
    early = replace(last, steps=max(last.steps // 5, 1))
    coupler = partial(couple.series, method="transport", transport=fitting.transport, seed=seed)
    done: list[int] = []

    def fitter(cells: AnnData, couplings: Sequence[Coupling]) -> Field:
        done.append(1)
        training = last if len(done) == fitting.rounds else early
        return fit.flow(cells, fit.rescaled(cells, couplings), training)

    return recoupled(adata, coupler, fitter, rounds=fitting.rounds)[-1].field


def _turned(adata: AnnData) -> AnnData:
    """Return the cells with true velocities turned, slide by slide, into the frame of the fit."""
    out = adata.copy()
    if stvcr.TRUE_VELOCITY not in adata.obsm:
        return out  # told by Truth.of
    t = adata.obs[schema.TIME].to_numpy(float)
    own, laid = (np.asarray(adata.obsm[slot], dtype=float) for slot in (stvcr.TRUE_FRAME, schema.ALIGNED))
    velocity = np.asarray(adata.obsm[stvcr.TRUE_VELOCITY], dtype=float).copy()
    for time in np.unique(t):
        rows = t == time
        a, b = own[rows], laid[rows]
        motion = frame.best(a.mean(axis=0), b.mean(axis=0), (a - a.mean(axis=0)).T @ (b - b.mean(axis=0)))
        if motion is None:
            found = f"a slide at {time:g} h whose turn its positions leave open"
            raise FrameError(Problem(found, "positions that are not symmetric", "give the slide's own frame"))
        velocity[rows] = velocity[rows] @ motion.rotation.T
    out.obsm[stvcr.TRUE_VELOCITY] = velocity
    return out


def _nearest(known: Truth) -> Answer:
    dx, growth = np.full(known.dx.shape, np.nan), np.full(len(known.dx), np.nan)
    places = np.concatenate([_scaled(known.states.z.numpy()), _scaled(known.states.x.numpy())], axis=1)
    for time in np.unique(known.times_h):
        rows = np.flatnonzero(known.times_h == time)
        k = min(_ALIKE, len(rows) - 1)
        near = rows[NearestNeighbors(n_neighbors=k).fit(places[rows]).kneighbors(return_distance=False)]
        dx[rows] = known.dx[near].mean(axis=1)
        if known.growth is not None:
            growth[rows] = known.growth[near].mean(axis=1)
    return Answer(dx, growth)


def _scaled(x: Float[np.ndarray, "cells columns"]) -> Float[np.ndarray, "cells columns"]:
    centred = x.astype(float) - x.mean(axis=0)
    return np.asarray(centred / max(float(np.sqrt((centred**2).sum(axis=1).mean())), np.finfo(float).tiny))


def _compared(
    known: Truth, answers: dict[str, tuple[table.Role, Sequence[Answer]]]
) -> Iterator[tuple[str, str, str, list[float], list[float]]]:
    """Yield (score, unit, best floor, the law's value and the floor's for every seed)."""
    scored = {name: [laws.scores(a, known) for a in seeds] for name, (_, seeds) in answers.items()}
    for metric, (_, unit) in scored[OURS][0].items():
        sign = 1.0 if laws.better(metric) == "higher" else -1.0
        floors = {
            name: scored[name][0][metric][0]
            for name, (role, _) in answers.items()
            if role == "floor" and np.isfinite(scored[name][0].get(metric, (np.nan,))[0])
        }
        if floors:
            best = max(floors, key=lambda name: sign * floors[name])
            ours = [one[metric][0] for one in scored[OURS]]
            yield metric, unit, best, ours, [floors[best]] * len(ours)
