"""Tracked, named embryos -> Atlas: gathered, and the rule chosen by how well it forecasts embryos left out."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

import numpy as np
import torch
from anndata import AnnData
from jaxtyping import Bool, Float, Float32

from embryo.core import schema
from embryo.core.errors import Problem, SchemaError
from embryo.core.schema import Needs
from embryo.core.state import State
from embryo.fields.atlas import Atlas
from embryo.fields.departure import Rule, lineage

_PENALTIES = (0.3, 1.0, 3.0, 10.0, float("inf"))
_FEWEST = 3  # embryos to choose among rules


def atlas(
    adata: AnnData,
    *,
    start_h: float | None = None,
    horizons_h: Sequence[float] = (),
    folds: int = 8,
    seed: int = 0,
) -> Atlas:
    """Gather the named cells of many embryos, and choose how their deviations carry on from one time to later ones.

    Chosen are, for every horizon, the mean place of the named cell, its mean displacement, or the regression with one
    of five penalties (see `embryo.fields.atlas`): whichever leaves the least error (median over cells, mean over
    embryos) where each part of these embryos is forecast from the others.

    Parameters
    ----------
    adata
        Training embryos: obs time, embryo, cell and parent, and aligned positions. The same name must mean the same
        cell in every embryo. An embedding is kept where there is one.
    start_h, horizons_h
        Start, and hours after it. Without a start all times are kept, and forecasts use the regression unchosen.
    folds
        Parts of the inner cross-validation.
    seed
        Deals the embryos to the parts.

    Raises
    ------
    SchemaError
        If slots are missing, names do not mean the same cells, or fewer than two embryos are seen at a wanted time.
    """
    _require(adata)
    seen = np.unique(adata.obs[schema.TIME].to_numpy(float))
    wanted = seen if start_h is None else _observed(seen, [start_h, *(start_h + h for h in horizons_h)])
    gathered = _gathered(adata, wanted)
    pairs = [] if start_h is None else [(float(wanted[0]), float(t)) for t in wanted[1:]]
    rules = tuple(_chosen(gathered, pairs, folds, seed))
    return replace(gathered, rules=rules)


def _require(adata: AnnData) -> None:
    schema.require(adata, Needs(times=1, tracks=True, aligned=True), subject="atlas")
    problems = []
    if schema.EMBRYO not in adata.obs or adata.obs[schema.EMBRYO].nunique() < 2:
        problems.append(Problem("one embryo", "two or more embryos", "give more embryos, and say which is which"))
    if schema.meta(adata).get("named") is False:
        found = 'uns["embryo"]["named"] = False: names are tracks, not identities'
        problems.append(Problem(found, "names that mean the same cell in every embryo", "name the cells first"))
    if problems:
        raise SchemaError(*problems, subject="atlas")


def _observed(seen: Float[np.ndarray, " times"], wanted: Iterable[float]) -> Float[np.ndarray, " wanted"]:
    """Return the observed times nearest to those wanted."""
    nearest = {float(t): float(seen[np.abs(seen - t).argmin()]) for t in wanted}
    problems = [
        Problem(f"no cells at {t:g} h (nearest: {s:g} h)", "an observed time", "choose another start or horizon")
        for t, s in nearest.items()
        if abs(t - s) > schema.SAME_TIME_H
    ]
    if problems:
        raise SchemaError(*problems, subject="atlas")
    return np.unique(list(nearest.values()))


def _gathered(adata: AnnData, times: Float[np.ndarray, " times"]) -> Atlas:
    obs = adata.obs
    t, cell = obs[schema.TIME].to_numpy(float), obs[schema.CELL].astype(str).to_numpy()
    parent = obs[schema.PARENT].astype(str).to_numpy() if schema.PARENT in obs else np.full(len(cell), "")
    mother = {c: p for c, p in zip(cell, parent, strict=True) if p}
    rows = np.flatnonzero(np.abs(times[:, None] - t).min(axis=0) < 1e-6)
    names = sorted(set(cell[rows].tolist()), key=lambda name: (len(_line(name, mother)), name))
    parents = [next((a for a in _line(name, mother) if a in set(names)), "") for name in names]
    embryos, e = np.unique(obs[schema.EMBRYO].astype(str).to_numpy(), return_inverse=True)
    number = {name: j for j, name in enumerate(names)}
    at = (e[rows], np.abs(times[:, None] - t[rows]).argmin(axis=0), np.array([number[c] for c in cell[rows]]))
    x = np.asarray(adata.obsm[schema.ALIGNED], dtype=np.float32)
    alive = np.zeros((len(embryos), len(times), len(names)), dtype=bool)
    alive[at] = True
    own = np.zeros((*alive.shape, x.shape[1]), dtype=np.float32)
    own[at] = x[rows]
    z, noise = _embedding(adata, rows, at[1:], alive.shape[1:])
    return Atlas(
        tuple(names),
        tuple(parents),
        tuple(embryos.tolist()),
        times,
        _filled(own, alive, names, parents),
        alive,
        z,
        noise,
    )


def _line(name: str, mother: Mapping[str, str]) -> list[str]:
    """Mother, grandmother and so on."""
    line: list[str] = []
    while (name := mother.get(name, "")) and name not in line:
        line.append(name)
    return line


def _filled(
    own: Float32[np.ndarray, "embryos times cells space"],
    alive: Bool[np.ndarray, "embryos times cells"],
    names: Sequence[str],
    parents: Sequence[str],
) -> Float32[np.ndarray, "embryos times cells space"]:
    """Put the mean of the living descendants for cells that have divided, the living ancestor for those unborn."""
    descent = lineage(names, parents).astype(np.float32)
    count = alive.astype(np.float32) @ descent.T
    total = np.einsum("cd,etds->etcs", descent, own, optimize=True)
    x = np.divide(total, count[..., None], out=np.full_like(own, np.nan), where=count[..., None] > 0)
    number = {name: j for j, name in enumerate(names)}
    living = np.where(alive[..., None], own, np.nan).astype(np.float32)  # the cell itself, else its nearest ancestor
    for j, parent in enumerate(parents):  # mothers stand before their daughters
        if parent:
            gap = ~alive[..., j]
            living[gap, j] = living[gap, number[parent]]
    return np.where(np.isnan(x), living, x)


def _embedding(
    adata: AnnData, rows: np.ndarray, at: tuple[np.ndarray, ...], shape: tuple[int, ...]
) -> tuple[Float32[np.ndarray, "times cells dims"], Float32[np.ndarray, " dims"]]:
    """Mean embedding by time and cell, and its spread between embryos."""
    z = (
        np.asarray(adata.obsm[schema.EMBED], dtype=float)[rows]
        if schema.EMBED in adata.obsm
        else np.zeros((len(rows), 0))
    )
    count = np.zeros(shape)
    total = np.zeros((*shape, z.shape[1]))
    np.add.at(count, at, 1)
    np.add.at(total, at, z)
    mean = np.divide(total, count[..., None], out=np.full_like(total, np.nan), where=count[..., None] > 0)
    noise = np.sqrt(((z - mean[at]) ** 2).mean(axis=0))
    return mean.astype(np.float32), noise.astype(np.float32)


def _candidates(t0_h: float, t1_h: float) -> list[Rule]:
    return [
        Rule(t0_h, t1_h, "position"),
        Rule(t0_h, t1_h, "displacement"),
        *(Rule(t0_h, t1_h, "regression", penalty) for penalty in _PENALTIES),
    ]


def _chosen(whole: Atlas, pairs: Sequence[tuple[float, float]], folds: int, seed: int) -> Iterable[Rule]:
    """Yield the rule with the least error over embryos left out, for each pair of times."""
    n = len(whole.embryos)
    if n < _FEWEST:
        yield from (Rule(t0_h, t1_h, "displacement") for t0_h, t1_h in pairs)
        return
    part = np.random.default_rng(seed).permutation(n) % min(folds, n)
    rests = [(np.flatnonzero(part == k), whole.only(part != k)) for k in range(part.max() + 1)]
    for t0_h, t1_h in pairs:
        rules = _candidates(t0_h, t1_h)
        errors = [_errors(whole, e, rest, rules) for left_out, rest in rests for e in left_out.tolist()]
        yield rules[int(np.nanmean(errors, axis=0).argmin())]


def _errors(whole: Atlas, e: int, rest: Atlas, rules: Sequence[Rule]) -> Float[np.ndarray, " rules"]:
    """Median error over the cells of one embryo under each rule, µm; NaN where it is not seen at both times."""
    t0_h, t1_h = rules[0].t0_h, rules[0].t1_h
    start, end = whole.at(t0_h)[e], whole.at(t1_h)[e]
    here = whole.alive[e, int(np.abs(whole.times_h - t0_h).argmin())] & np.isfinite(end).all(axis=1)
    if here.sum() <= start.shape[1]:
        return np.full(len(rules), np.nan)
    x = torch.as_tensor(start[here], dtype=torch.float32)
    state = State(torch.zeros(len(x), 0), torch.zeros(len(x), 0), x, torch.zeros(len(x)))
    names = [whole.cells[j] for j in np.flatnonzero(here)]
    placed = rest.place(state, names, t0_h=t0_h)
    found = [rest.carry(state, placed, t0_h=t0_h, t1_h=t1_h, rule=rule).x.numpy() for rule in rules]
    return np.array([float(np.median(np.linalg.norm(x - end[here], axis=1))) for x in found])
