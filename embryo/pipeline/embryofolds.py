"""Tracked embryos held out whole, fold by fold: all that is made across embryos is made anew without them."""

from collections.abc import Iterator, Sequence

import numpy as np
from anndata import AnnData

from embryo import embed, reconstruct
from embryo.core import schema
from embryo.core.errors import ConfigError, Problem
from embryo.evaluate.tracked import dealt
from embryo.pipeline import chosen, timeboards
from embryo.pipeline.timeboards import TimeBoard

_CELLS = 90  # living at the start, by default
_ACROSS = "celegans-epic"  # its clock and its gene vectors are made across embryos


def start_h(adata: AnnData, board: TimeBoard) -> float:
    """Return when forecasts start: the board's time, or when the embryos have about 90 cells (median).

    Without a time of the board the numbers of cells of all embryos decide, at all times: later ones of those that are
    held out too. Give ``start_h`` where nothing of their future may be known.
    """
    if board.start_h is not None:
        return board.start_h
    counts = adata.obs.groupby([schema.TIME, schema.EMBRYO], observed=True).size().groupby(schema.TIME).median()
    latest = float(counts.index.max()) - min(board.horizons_h)
    counts = counts[counts.index <= latest]
    return float(counts.index[np.abs(counts.to_numpy() - _CELLS).argmin()])


def held_out(adata: AnnData, board: TimeBoard, seed: int) -> list[tuple[str, ...]]:
    """Return which embryos each fold holds out.

    Raises
    ------
    ConfigError
        If a name is unknown, or too few embryos are left to learn from.
    """
    names = sorted(adata.obs[schema.EMBRYO].astype(str).unique())
    if isinstance(board.held_out_embryos, int):
        n = board.held_out_embryos
        if not 2 <= n <= len(names):
            found = f"{n} folds of {len(names)} embryos"
            problem = Problem(found, f"2 to {len(names)}", "change held_out_embryos")
            raise ConfigError(problem, subject=f"board {board.name}")
        return dealt(names, n, seed)
    problems = [
        Problem(f"held_out_embryos names {name!r}", f"one of the {len(names)} embryos", "check the name")
        for name in board.held_out_embryos
        if name not in names
    ]
    if not problems and len(board.held_out_embryos) > len(names) - 2:
        found = f"{len(board.held_out_embryos)} of {len(names)} embryos held out"
        problems.append(Problem(found, "at least two to learn from", "hold out fewer"))
    if problems:
        raise ConfigError(*problems, subject=f"board {board.name}")
    return [tuple(board.held_out_embryos)]


def folds(
    adata: AnnData, board: TimeBoard, seed: int, parts: Sequence[Sequence[str]]
) -> Iterator[tuple[AnnData, AnnData]]:
    """Yield (training, held-out) embryos, aligned and embedded; of those held out nothing after the start is used.

    Parameters
    ----------
    adata
        All embryos, as read.
    board
        Start and horizons.
    seed
        Of the reading and of the encoder.
    parts
        Names of the embryos that each fold holds out.
    """
    t0 = start_h(adata, board)
    for held in parts:
        cells = _read_without(adata, board, held, seed)
        t = cells.obs[schema.TIME].to_numpy(float)
        window = (t >= t0 - schema.SAME_TIME_H) & (t <= t0 + max(board.horizons_h) + schema.SAME_TIME_H)
        cells = cells[window].copy()
        out = cells.obs[schema.EMBRYO].astype(str).isin(held).to_numpy()
        reference = str(cells.obs[schema.EMBRYO].astype(str)[~out].min())
        reconstruct.body_frame(cells, reference=reference, until_h=dict.fromkeys(held, t0))
        e = board.embed
        if e.encoder == "precomputed":
            chosen.precomputed(cells, e)
        elif min(cells[~out].shape) > 1:
            embed.cells(cells, chosen.fitted(e, cells[~out], seed=seed, spare=1))
        kept = AnnData(obs=cells.obs, obsm=dict(cells.obsm), uns=cells.uns)
        yield kept[~out].copy(), kept[out].copy()


def _read_without(adata: AnnData, board: TimeBoard, held: Sequence[str], seed: int) -> AnnData:
    """Return the cells, read anew where the converter computes across embryos and must not know those held out.

    All that the board asks of its cells is asked again, so that no embryo comes back that it leaves out.
    """
    if board.read.dataset != _ACROSS or board.read.path is not None:
        return adata
    known = {"held_out": list(held), "synchronise_until_h": start_h(adata, board)}
    read = board.read.model_copy(update={"params": {**board.read.params, **known}})
    return timeboards.load(board.model_copy(update={"read": read}), seed)
