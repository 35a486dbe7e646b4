"""Where each cell of a held-out embryo is, some time after the start: the error in µm, cell by cell."""

from collections.abc import Mapping, Sequence

import numpy as np
from anndata import AnnData
from jaxtyping import Float

from embryo.core import schema, table
from embryo.evaluate.lineage import Lineage
from embryo.evaluate.result import OURS, Result, Rollout, Scores

BOARD = "position of held-out cells"


def positions(
    adata: AnnData,
    rollouts: Sequence[Rollout],
    training: Sequence[str],
    horizons_h: Sequence[float],
    *,
    tolerance_h: float,
) -> Result:
    """Score predicted against true positions, beside floors and the spread between embryos.

    A cell that has divided by then is compared by the mean position of its living descendants.

    ================================================= ======= ====================================================
    model                                             role    prediction
    ================================================= ======= ====================================================
    embryo                                            ours    the roll-out
    no change: the cell stays                         floor   its position at the start
    mean displacement of all training cells           floor   start + one vector for the whole embryo
    mean displacement of the named cell               floor   start + mean over training embryos of the named cell
    the same cell in another embryo                   repeat  the named cell of one training embryo, aligned
    ================================================= ======= ====================================================

    Parameters
    ----------
    adata
        All embryos, with names, parents and aligned positions.
    rollouts
        Held-out embryos, one per embryo and seed, all keeping the horizons.
    training
        Names of the embryos that were fitted on.
    horizons_h
        Hours after the start.
    tolerance_h
        How far the nearest observed time may lie from the asked one.

    Returns
    -------
    Result
        Errors in µm: mean over cells, then over seeds, then an interval over held-out embryos.
    """
    lineage = Lineage(adata)
    scores = Scores(BOARD, "position error", "µm", least=0.0)
    starts = {r.embryo: r for r in rollouts}
    for name, first in starts.items():
        t0 = float(first.trajectory.times_h[0])
        cells = adata.obs[schema.CELL].astype(str).to_numpy()[first.rows]
        x0 = first.trajectory.at(0).x.numpy().astype(float)
        own = [r for r in rollouts if r.embryo == name]
        for h in horizons_h:
            truth = lineage.positions(name, cells, t0 + h, tolerance_h, fallback=False)
            if truth is None or t0 + h > float(first.trajectory.times_h[-1]) + 1e-6:
                continue
            split = f"{60 * h:.0f} min"
            for r in own:
                predicted = r.trajectory.nearest(t0 + h).x.numpy().astype(float)
                scores.add(OURS, "ours", split, name, _error(predicted, truth))
            _floors(scores, split, name, x0, truth, _displacements(lineage, training, cells, (t0, t0 + h), tolerance_h))
    return Result(table.table(scores.rows()), tuple(scores.sentences()))


def _displacements(
    lineage: Lineage, training: Sequence[str], cells: np.ndarray, times_h: tuple[float, float], tolerance_h: float
) -> Mapping[str, tuple[Float[np.ndarray, "cells space"], Float[np.ndarray, "cells space"]]]:
    """Position at the end and displacement of each named cell, per training embryo that has both times."""
    out = {}
    for embryo in training:
        before, after = (lineage.positions(embryo, cells, t, tolerance_h, fallback=True) for t in times_h)
        if before is not None and after is not None:
            out[embryo] = (after, after - before)
    return out


def _floors(
    scores: Scores,
    split: str,
    name: str,
    x0: Float[np.ndarray, "cells space"],
    truth: Float[np.ndarray, "cells space"],
    others: Mapping[str, tuple[np.ndarray, np.ndarray]],
) -> None:
    scores.add("no change: the cell stays", "floor", split, name, _error(x0, truth))
    if not others:
        return
    moves = np.stack([d for _, d in others.values()])
    seen = np.isfinite(moves).all(axis=2).any(axis=0)
    named = np.zeros_like(x0)
    named[seen] = np.nanmean(moves[:, seen], axis=0)
    everyone = np.nanmean(moves.reshape(-1, moves.shape[2]), axis=0)
    scores.add("mean displacement of all training cells", "floor", split, name, _error(x0 + everyone, truth))
    named[~seen] = everyone
    scores.add(
        "mean displacement of the named cell in training embryos", "floor", split, name, _error(x0 + named, truth)
    )
    for after, _ in others.values():
        scores.add("the same cell in another embryo", "repeat", split, name, _error(after, truth))


def _error(predicted: Float[np.ndarray, "cells space"], truth: Float[np.ndarray, "cells space"]) -> float:
    """Mean distance over the cells that both have, µm."""
    return float(np.nanmean(np.linalg.norm(predicted - truth, axis=1)))
