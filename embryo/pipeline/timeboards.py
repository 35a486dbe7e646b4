"""The series that dynamics are judged on: read, one stage held out, everything fitted on the other stages only."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from anndata import AnnData
from pydantic import Field, model_validator

from embryo import config as configs
from embryo import embed, reconstruct
from embryo.config import Config, Embed, Read, Section
from embryo.core import schema
from embryo.core.errors import ConfigError, Problem
from embryo.pipeline import boards, cells, chosen, frames

_SAME = 1e-6  # hours: times nearer than this are one stage
Kind = Literal["times", "cells", "embryos", "law"]


class Scale(Section):
    """Units of measure of z: ``(z - centre) / spread``; none of it is learned where it is given."""

    centre: list[float]
    spread: list[float]

    @model_validator(mode="after")
    def _fit_together(self) -> "Scale":
        if len(self.centre) != len(self.spread) or not all(s > 0 for s in self.spread):
            msg = "as many spreads above 0 as centres"
            raise ValueError(msg)
        return self


class TimeBoard(Section):
    """One series and what to hold out of it."""

    name: str
    kind: Kind = Field(
        "times",
        description=(
            "times: each stage in turn; cells: half of the cells of every stage, the last stage is predicted; embryos: "
            "whole tracked embryos, cell by cell; law: the fitted velocity against a known one"
        ),
    )
    read: Read = Read(dataset=None)
    embed: Embed = Embed(encoder="pca", dims=10)
    scale: Scale | Literal["train", "none"] = Field(
        "none", description="units of z: given numbers, the spread of the training stages, or z as it is"
    )
    hold_out: list[float] | Literal["interior", "later"] = Field(
        "later", description="times in hours; interior: those with a stage on both sides; later: the last one too"
    )
    counts_grow: bool = Field(default=False, description="whether numbers of cells per embryo are comparable")
    space: bool = Field(default=True, description="whether positions, where there are any, are part of the state")
    neighbours: bool = Field(
        default=False, description="whether a law that reads neighbours is a candidate, where there are positions"
    )
    positions: str = Field(schema.SPATIAL, description="slot of obsm that holds positions")
    in_one_frame: bool = Field(default=False, description="positions stand in one frame already: nothing to align")
    max_cells: int = Field(2000, ge=20, description="cells per stage; more are drawn with the seed")
    held_out_embryos: int | list[str] = Field(
        8, description="kind embryos: into how many folds all are dealt, each held out in turn; or which to hold out"
    )
    start_h: float | None = Field(None, description="kind embryos: start; none: when about 90 cells live")
    horizons_h: list[float] = Field(default_factory=lambda: [0.25, 0.5, 1.0], description="kind embryos")
    notes: list[str] = Field(default_factory=list, description="what a reader must know of these cells")


@dataclass(frozen=True)
class Split:
    """One stage held out.

    Parameters
    ----------
    name
        Such as ``t = 12 h, interpolation``.
    train, truth
        Cells with ``X_embed``, ``X_panel`` and, with space, ``spatial_aligned``; all fitted on `train`.
    t_h
        Time of the truth, hours.
    numbers
        Cells per embryo at every time, before any were drawn.
    """

    name: str
    train: AnnData
    truth: AnnData
    t_h: float
    numbers: Mapping[float, float]


_UNUSED = (
    "Of the run's config, fit and couple are not used (but couple.counts_grow): what is judged is a mixture of laws, "
    "interpolants and floors whose settings are chosen inside, by stages held out of the training stages."
)


def of_run(config: Config) -> TimeBoard:
    """Return the board of a run's config: the same cells, the same embedding, each stage held out."""
    counts_grow = config.couple.counts_grow
    return TimeBoard(name=config.name, read=config.read, embed=config.embed, counts_grow=counts_grow, notes=[_UNUSED])


def load(board: TimeBoard, seed: int) -> AnnData:
    """Read the cells of a board; stages of more than ``max_cells`` are drawn from with the seed.

    Raises
    ------
    EmbryoError
        If the source is absent or broken, or holds fewer than two times.
    """
    adata = _source(board, seed)
    schema.require(adata, schema.Needs(times=2), subject=f"board {board.name}")
    if schema.EMBRYO not in adata.obs:
        adata.obs[schema.EMBRYO] = "embryo"
    if schema.PERTURBATION in adata.obs:
        wild = (adata.obs[schema.PERTURBATION].astype(str) == "").to_numpy()
        adata = adata if wild.all() else adata[wild].copy()
    if board.positions != schema.SPATIAL:
        if board.positions not in adata.obsm:
            held = ", ".join(sorted(adata.obsm))
            found = f"no obsm[{board.positions!r}]"
            raise ConfigError(Problem(found, f"one of {held}", "correct positions"), subject=f"board {board.name}")
        adata.obsm[schema.SPATIAL] = np.asarray(adata.obsm[board.positions])
    return cells.window(adata, board.read)


def _source(board: TimeBoard, seed: int) -> AnnData:
    if board.read.dataset != "synthetic" or board.read.path is not None:
        return boards.source(board.read, needs=schema.SNAPSHOT, subject=f"board {board.name}")
    config = Config(read=board.read, seed=seed, split=configs.Split(hold_out=1), perturb=configs.Perturb(edits=[]))
    return cells.load(config)


def stages(adata: AnnData) -> np.ndarray:
    """Return the times of a series, hours, rising."""
    return np.unique(adata.obs[schema.TIME].to_numpy(float))


def held_out(board: TimeBoard, times: np.ndarray) -> list[float]:
    """Return the times to hold out in turn.

    Raises
    ------
    ConfigError
        If a time is not one of the series, or is its first, or too few stages are left.
    """
    inner = [float(t) for t in times[1:-1]]
    if board.hold_out == "interior":
        chosen_h = inner
    elif board.hold_out == "later":
        chosen_h = [float(t) for t in times[1:]] if len(times) > 2 else []
    else:
        chosen_h = []
        problems = []
        for wanted in board.hold_out:
            near = float(times[np.abs(times - wanted).argmin()])
            if abs(near - wanted) > _SAME + 1e-6 * abs(wanted) or near == times[0]:
                known = ", ".join(f"{t:g}" for t in times[1:])
                problems.append(Problem(f"hold_out names {wanted:g} h", f"one of {known}", "correct the time"))
            chosen_h.append(near)
        if problems:
            raise ConfigError(*problems, subject=f"board {board.name}")
    if not chosen_h:
        found = f"{len(times)} stages"
        cure = "hold out cells instead (kind: cells), or give a longer series"
        raise ConfigError(Problem(found, "three or more to hold one out", cure), subject=f"board {board.name}")
    return chosen_h


def split(adata: AnnData, board: TimeBoard, t_h: float, seed: int) -> Split:
    """Hold the stage at `t_h` out; encoder, panel, units and frame come from the other stages."""
    t = adata.obs[schema.TIME].to_numpy(float)
    rng = np.random.default_rng(seed)
    embryo = adata.obs[schema.EMBRYO].astype(str).to_numpy()
    rows = np.sort(np.concatenate([_some(np.flatnonzero(t == u), embryo, board.max_cells, rng) for u in np.unique(t)]))
    out = t[rows] == t_h
    kind = "interpolation" if (t > t_h).any() else "extrapolation"
    name = f"t = {t_h:g} h, {kind}"
    parts = _prepared(adata[rows[~out]].copy(), adata[rows[out]].copy(), board, seed)
    return Split(name, *parts, t_h, numbers(adata))


def halves(adata: AnnData, board: TimeBoard, seed: int) -> Split:
    """Fit on half of the cells of every stage; the other half of the last stage is the truth."""
    t = adata.obs[schema.TIME].to_numpy(float)
    rng = np.random.default_rng(seed)
    train, truth = [], []
    last = t.max()
    for u in np.unique(t):
        rows = rng.permutation(np.flatnonzero(t == u))[: 2 * board.max_cells]
        train.append(rows[: len(rows) // 2])
        if u == last:
            truth.append(rows[len(rows) // 2 :])
    parts = [adata[np.sort(np.concatenate(part))].copy() for part in (train, truth)]
    name = f"t = {last:g} h, other half of the cells"
    return Split(name, *_prepared(parts[0], parts[1], board, seed), float(last), numbers(adata))


def whole(adata: AnnData, board: TimeBoard, seed: int) -> AnnData:
    """Return all stages, embedded and in one frame: nothing is held out where a known law is the truth."""
    every, _ = _prepared(adata.copy(), adata[:1].copy(), board, seed)
    return every


def numbers(adata: AnnData) -> dict[float, float]:
    """Return cells per embryo at every time."""
    groups = adata.obs.groupby(schema.TIME, observed=True)[schema.EMBRYO]
    return {float(t): float(n) for t, n in (groups.size() / groups.nunique()).items()}


def _some(rows: np.ndarray, embryo: np.ndarray, most: int, rng: np.random.Generator) -> np.ndarray:
    """Draw at most so many cells: whole embryos where there are several, else cells of the only one."""
    if len(rows) <= most:
        return rows
    names = rng.permutation(np.unique(embryo[rows]))
    sizes = np.array([np.sum(embryo[rows] == n) for n in names])
    fitting = names[: np.searchsorted(np.cumsum(sizes), most, side="right")]
    if not len(fitting):
        return rng.choice(rows[embryo[rows] == names[0]], most, replace=False)
    return rows[np.isin(embryo[rows], fitting)]


def _prepared(train: AnnData, truth: AnnData, board: TimeBoard, seed: int) -> tuple[AnnData, AnnData]:
    _embed(train, truth, board, seed)
    _units(train, truth, board)
    if board.space and schema.SPATIAL in train.obsm:
        _align(train, truth, board)
    else:
        for part in (train, truth):
            for slot in (schema.SPATIAL, schema.ALIGNED):
                if slot in part.obsm:
                    del part.obsm[slot]
    return train, truth


def _embed(train: AnnData, truth: AnnData, board: TimeBoard, seed: int) -> None:
    e = board.embed
    genes = [] if e.encoder == "precomputed" and e.panel == "auto" else _panel(train, e, seed)
    if e.encoder == "precomputed":
        for part in (train, truth):
            chosen.precomputed(part, e)
            part.obsm[schema.EMBED] = np.asarray(part.obsm[schema.EMBED])[:, : e.dims]
    else:
        encoder = chosen.fitted(e, train, seed=seed)
        for part in (train, truth):
            embed.cells(part, encoder)
    for part in (train, truth):
        if genes:
            embed.panel(part, genes)
        else:  # an embedding without genes: nothing to edit, and nothing needed
            part.obsm[schema.PANEL] = np.zeros((part.n_obs, 0), dtype=np.float32)
            part.uns[schema.META] = {**schema.meta(part), "panel": []}


def _panel(train: AnnData, e: Embed, seed: int) -> Sequence[str]:
    return cells.panel(train, Config(embed=e, seed=seed, perturb=configs.Perturb(edits=[])))


def _units(train: AnnData, truth: AnnData, board: TimeBoard) -> None:
    if board.scale == "none":
        return
    z = np.asarray(train.obsm[schema.EMBED], dtype=float)
    if board.scale == "train":
        centre, spread = z.mean(axis=0), z.std(axis=0)
    else:
        centre, spread = np.asarray(board.scale.centre), np.asarray(board.scale.spread)
    if len(centre) != z.shape[1]:
        found = f"{len(centre)} units for {z.shape[1]} dimensions"
        raise ConfigError(Problem(found, "one per dimension", "correct scale, or embed.dims"), subject=board.name)
    spread = np.where(spread > 0, spread, 1.0)
    for part in (train, truth):
        part.obsm[schema.EMBED] = (np.asarray(part.obsm[schema.EMBED], dtype=float) - centre) / spread


def _align(train: AnnData, truth: AnnData, board: TimeBoard) -> None:
    if board.in_one_frame:
        for part in (train, truth):
            part.obsm[schema.ALIGNED] = np.asarray(part.obsm[schema.SPATIAL])
        return
    reconstruct.body_frame(train)
    frames.lay_on(train, truth)
