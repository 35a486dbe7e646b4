"""Where each cell's descendants are in held-out embryos, a while after the start."""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from zlib import crc32

import numpy as np
import torch
from anndata import AnnData
from jaxtyping import Float, Int
from scipy.stats import special_ortho_group

from embryo.core import schema, table
from embryo.core.errors import Problem, SchemaError
from embryo.core.frame import Rigid
from embryo.core.state import State
from embryo.evaluate.lineage import Lineage
from embryo.evaluate.result import Result, Scores
from embryo.fields.atlas import Atlas
from embryo.fields.departure import Rule
from embryo.fields.naming import Naming
from embryo.fit.atlas import atlas as atlas_of

KNOWN = "atlas, names known"
HIDDEN = "atlas, names hidden: positions"
EXPRESSED = "atlas, names hidden: positions and expression"
ASSEMBLED = "atlas, names hidden: positions and expression assembled by name"
STAYS = "no change: the cell stays"
EVERYONE = "mean displacement of all cells"
DISPLACED = "mean displacement of the named cell"
PLACED = "mean position of the named cell"
REPEAT = "the same cell in another embryo"
START = "start"
ERROR = "median position error"
_SAME_POSE = 30.0  # degrees from the pose that names give
_DRAWS = 4000  # of embryos, for the interval of a ratio
_SCATTER = 100.0  # µm, by which hidden embryos are carried away


def tracked(
    folds: Iterable[tuple[AnnData, AnnData]],
    *,
    start_h: float,
    horizons_h: Sequence[float] = (0.25, 0.5, 1.0),
    seeds: int = 5,
    seed: int = 0,
    board: str = "tracked embryos",
) -> Result:
    """Forecast whole held-out embryos from one moment, and compare every cell.

    A start cell is compared by the mean position of its living descendants (itself where it has not divided), so that
    all models answer the same question whether or not they know who the daughters are. The error is the distance to
    the truth, in µm; the score of an embryo is the median over its cells; value and interval are over embryos.

    Models see one moment of a held-out embryo and nothing after it. With names known every model gets the pose from
    the named cells at the start. With names hidden the embryo comes in a random pose and order (one per seed), and
    pose and names are found from where cells lie, or from that and the embedding. A gene vector assembled by cell name
    identifies the cell: it stands apart, and says no more than that names can be read off it. The time at the start is
    told all the same; where clocks were synchronised it comes from named divisions of the embryo before the start.

    ================================================= ======= =========================================================
    atlas, names known                                ours    see `embryo.fit.atlas`; the rule chosen on training only
    atlas, names hidden: positions                    ours    the same, cells recognised by `embryo.fields.naming`
    atlas, names hidden: positions and expression     ours    the same, the embedding read too
    no change: the cell stays                         floor   its position at the start
    mean displacement of all cells                    floor   start + one vector for the whole embryo
    mean displacement of the named cell               floor   start + mean over training embryos
    mean position of the named cell                   floor   mean over training embryos, all laid on their mean
    the same cell in another embryo                   repeat  one training embryo, laid on the mean by the start
    ================================================= ======= =========================================================

    Parameters
    ----------
    folds
        Training and held-out embryos, pair by pair: obs time, embryo, cell, parent, and aligned positions; the
        embedding is optional. Whatever was computed across embryos must not know the future of those held out.
    start_h
        Start, hours; the observed time nearest to it.
    horizons_h
        Hours after the start.
    seeds
        Random poses of the hidden embryos.
    seed
        Of the poses, of the inner cross-validation and of the intervals of ratios.
    board
        Name of the board.

    Returns
    -------
    Result
        Metrics "median position error" (µm), "cells named right" and "pose found" (shares); and what may be said:
        verdicts paired by embryo, ratios to the best floor, and what was chosen.

    Raises
    ------
    SchemaError
        If the data cannot be used, or no held-out embryo is seen at the start and a horizon.
    """
    scores = _Tables.named(board)
    chosen: Counter[str] = Counter()
    for training, held_out in folds:
        atlas = atlas_of(training, start_h=start_h, horizons_h=horizons_h, seed=seed)
        chosen.update(f"{60 * (r.t1_h - r.t0_h):.0f} min {_words(r)}" for r in atlas.rules)
        for held in _held(held_out, start_h):
            _judge(scores, atlas, held, horizons_h, range(seed, seed + seeds))
    rows = [row for part in (scores.error, scores.right, scores.pose) for row in part.rows()]
    if not rows:
        problem = Problem(f"no held-out embryo at {start_h:g} h and later", "cells at both", "choose another start")
        raise SchemaError(problem, subject=board)
    said = "Chosen on training embryos: " + ", ".join(f"{what} ({n} folds)" for what, n in chosen.items()) + "."
    frame = table.table([*rows, *scores.error.differences()]).fillna({"better": "", "verdict": ""})
    return Result(frame, (*scores.error.sentences(), *_ratios(scores.error, seed), said))


@dataclass(frozen=True)
class _Tables:
    error: Scores
    right: Scores
    pose: Scores

    @classmethod
    def named(cls, board: str) -> "_Tables":
        return cls(
            Scores(board, ERROR, "µm", least=0.0),
            Scores(board, "cells named right", "1", "higher", least=0.0),
            Scores(board, "pose found", "1", "higher", least=0.0),
        )


@dataclass(frozen=True, eq=False)
class _Held:
    """One held-out embryo at the start; `expression` names the model that reads z, "" where there is none."""

    name: str
    t0_h: float
    cells: np.ndarray
    state: State
    lineage: Lineage
    expression: str

    def truth(self, t_h: float) -> Float[np.ndarray, "cells space"] | None:
        return self.lineage.positions(self.name, self.cells, t_h, schema.SAME_TIME_H, fallback=False)


def _held(adata: AnnData, start_h: float) -> Iterator[_Held]:
    schema.require(adata, schema.Needs(times=1, tracks=True, aligned=True), subject="held-out embryos")
    lineage, t = Lineage(adata), adata.obs[schema.TIME].to_numpy(float)
    kind = (ASSEMBLED if schema.meta(adata).get("assembled") else EXPRESSED) if schema.EMBED in adata.obsm else ""
    for name, rows in adata.obs.groupby(adata.obs[schema.EMBRYO].astype(str), observed=True).indices.items():
        t0_h = float(t[rows][np.abs(t[rows] - start_h).argmin()])
        if abs(t0_h - start_h) > schema.SAME_TIME_H:
            continue
        now = np.asarray(rows)[t[rows] == t0_h]
        x = torch.as_tensor(np.asarray(adata.obsm[schema.ALIGNED])[now], dtype=torch.float32)
        z = np.asarray(adata.obsm[schema.EMBED])[now] if kind else np.zeros((len(now), 0))
        state = State(torch.as_tensor(z, dtype=torch.float32), x.new_zeros(len(x), 0), x, x.new_zeros(len(x)))
        yield _Held(str(name), t0_h, adata.obs[schema.CELL].astype(str).to_numpy()[now], state, lineage, kind)


def _judge(scores: _Tables, atlas: Atlas, held: _Held, horizons_h: Sequence[float], seeds: range) -> None:
    t0_h = float(atlas.times_h[0])
    names = atlas.place(held.state, held.cells.tolist(), t0_h=t0_h)
    known = np.isin(held.cells, atlas.cells)
    views = [_View(KNOWN, held.state, names, Rigid.identity(held.state.x.shape[1]), np.arange(len(known)))]
    views += [view for seed in seeds for view in _hidden(atlas, held, t0_h, seed)]
    for view in views[1:]:
        right = known & (view.slot() == names.slot)
        scores.right.add(view.model, "ours", START, held.name, float(right.sum() / known.sum()))
        scores.pose.add(view.model, "ours", START, held.name, float(view.turned(names.motion) < _SAME_POSE))
    for t1_h, h in zip(atlas.times_h[1:].tolist(), sorted(horizons_h), strict=True):
        truth = held.truth(t1_h)
        judged = known if truth is None else known & np.isfinite(truth).all(axis=1)
        if truth is None or not judged.any():
            continue
        models: list[tuple[str, table.Role, np.ndarray]] = [
            (v.model, "ours", v.back(atlas.carry(v.state, v.placed, t0_h=t0_h, t1_h=t1_h))) for v in views
        ]
        for model, role, x in [*models, *_floors(atlas, held, names, (t0_h, t1_h))]:
            error = float(np.nanmedian(np.linalg.norm(x - truth, axis=1)[judged]))
            scores.error.add(model, role, f"{60 * h:.0f} min", held.name, error)


@dataclass(frozen=True, eq=False)
class _View:
    """A held-out embryo as one model sees it.

    Parameters
    ----------
    model
        Who sees it.
    state, placed
        What is seen, and who the cells are held to be.
    pose, order
        How the embryo was carried away, and in which order its cells come.
    """

    model: str
    state: State
    placed: Naming
    pose: Rigid
    order: Int[np.ndarray, " cells"]

    def back(self, end: State) -> Float[np.ndarray, "cells space"]:
        """Return predicted places in the frame and order of the embryo."""
        return self.pose.inverse()(end.x.numpy().astype(float))[np.argsort(self.order)]

    def slot(self) -> Int[np.ndarray, " cells"]:
        """Return who the cells are held to be, in the order of the embryo."""
        return self.placed.slot[np.argsort(self.order)]

    def turned(self, by_names: Rigid) -> float:
        """Return the angle between the pose found and that of the names, degrees."""
        apart = by_names.rotation.T @ self.placed.motion.after(self.pose).rotation
        return float(np.degrees(np.arccos(np.clip((np.trace(apart) - (len(apart) - 2)) / 2, -1, 1))))


def _hidden(atlas: Atlas, held: _Held, t0_h: float, seed: int) -> Iterator[_View]:
    """Carry the embryo away, shuffle its cells, and have them recognised."""
    rng = np.random.default_rng([seed, crc32(held.name.encode())])
    dims = held.state.x.shape[1]
    pose = Rigid(special_ortho_group.rvs(dims, random_state=rng), rng.normal(0, _SCATTER, dims))
    order = rng.permutation(len(held.cells))
    moved = torch.as_tensor(pose(held.state.x.numpy().astype(float)), dtype=torch.float32)
    here = State(held.state.z, held.state.g, moved, held.state.log_mass)[torch.as_tensor(order)]
    for model, read in [(HIDDEN, False), *([(held.expression, True)] if held.expression else [])]:
        yield _View(model, here, atlas.place(here, t0_h=t0_h, by_expression=read), pose, order)


def _floors(
    atlas: Atlas, held: _Held, names: Naming, times_h: tuple[float, float]
) -> Iterator[tuple[str, table.Role, Float[np.ndarray, "cells space"]]]:
    """Yield floors and repeats in the frame of the embryo."""
    begin, onward, back = atlas.departure(times_h[0]), atlas.onward(*times_h), names.motion.inverse()
    x0 = held.state.x.numpy().astype(float)
    x = names.motion(x0)
    weight = begin.slots.share / begin.slots.share.sum()
    yield STAYS, "floor", x0
    yield EVERYONE, "floor", back(x + weight @ (onward.mean - begin.mean))
    yield DISPLACED, "floor", back(onward.carried(x, names.slot, Rule(*times_h, "displacement")))
    yield PLACED, "floor", back(onward.carried(x, names.slot, Rule(*times_h, "position")))
    for other in onward.ends:
        if np.isfinite(other).any():
            yield REPEAT, "repeat", back(other[names.slot])


def _words(rule: Rule) -> str:
    if rule.kind != "regression":
        return f"mean {rule.kind}"
    return f"regression, penalty {rule.penalty:g}"


def _ratios(scores: Scores, seed: int) -> Iterator[str]:
    """Say how the error of each of our models compares with the best floor's, as a ratio of means over embryos."""
    splits = dict.fromkeys(str(row["split"]) for row in scores.rows())
    for model in (KNOWN, HIDDEN, EXPRESSED, ASSEMBLED):
        for split in splits:
            ours = scores.per_embryo(model, split)
            floor, best = scores.best_floor(split, ours)
            if floor is None:
                continue
            a, b = np.array([ours[e] for e in best]), np.array(list(best.values()))
            weights = np.random.default_rng(seed).dirichlet(np.ones(len(a)), _DRAWS)
            low, high = np.quantile((weights @ a) / (weights @ b), [0.5 - table.LEVEL / 2, 0.5 + table.LEVEL / 2])
            yield (
                f"{model}, {split}: {a.mean() / b.mean():.3g} times the error of “{floor}” "
                f"({table.LEVEL:.0%} interval {low:.3g} to {high:.3g}, {len(a)} embryos)."
            )
