"""New cells rolled forward, or back, with the fields of a finished run: trajectories, end states, fates, drivers."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import anndata as ad
import numpy as np
import pandas as pd
from anndata import AnnData

from embryo import fields, fit, simulate
from embryo.core import field as laws
from embryo.core import provenance, schema, store
from embryo.core.errors import ConfigError, EmbryoError, Problem
from embryo.core.frame import BODY, Frame
from embryo.core.trajectory import Trajectory
from embryo.pipeline import places, results, rollouts, starts
from embryo.pipeline.folder import RunFolder
from embryo.pipeline.rollouts import Tick

END = "end.h5ad"


def roll(
    path: Path,
    start: Path,
    out: Path | None = None,
    *,
    until_h: float | None = None,
    overrides: tuple[str, ...] = (),
    tick: Tick | None = None,
) -> str:
    """Roll the cells of a file with every seed of a run's fields.

    Parameters
    ----------
    path
        A run folder with fitted fields.
    start
        Cells of one time, with the genes (and positions) that the run needs; not modified.
    out
        Folder for the results; ``START-rolled`` beside the run's fields by default. An interrupted roll-out goes on.
    until_h
        End, hours; before the time of the cells it goes back. The last training time by default.
    overrides
        Of the section ``simulate``, such as ``simulate.growth=particles``, for this roll-out only.
    tick
        Called with (what, done, of).

    Returns
    -------
    str
        What was done and where it lies: ``seed-N.zarr`` per seed, and ``end.h5ad`` with one row per start cell: mean
        over seeds of its descendants at the end, their number, how far seeds disagree, fate probabilities and drivers
        under CellRank's keys.

    Raises
    ------
    EmbryoError
        If the run has no field, the cells are not of its kind, or the end is their own time.
    """
    _require_of_simulate(overrides)
    run = RunFolder.open(path, overrides)
    target = out or run.path / "new" / f"{start.stem}-rolled"
    places.require(target, "cells rolled out", ["seed-*.zarr", END])
    starts.require_fitted(run)
    adata = ad.read_h5ad(run.path / "cells.h5ad")
    adata = rollouts.placed(run, adata)
    new = starts.cells(run, adata, start)
    times = _times(run, adata, new, until_h, start.name)
    target.mkdir(parents=True, exist_ok=True)
    paths, members = [], []
    for k, seed in enumerate(rollouts.seeds(run.config)):
        paths.append(target / f"seed-{seed}.zarr")
        members.append(_member(run, new, times, seed, paths[-1]))
        if tick is not None:
            tick("roll out", k + 1, run.config.seeds)
    end = _end(run, adata, new, members)
    with store.atomic(target / END) as partial:
        end.write_h5ad(partial)
    made = provenance.provenance(run.config.seed, run.config.model_dump(mode="json"), {"start": start.name})
    store.write_json(made, target / "provenance.json")
    alive = float(members[0].at(-1).mass.sum())
    number = f"{new.n_obs:,} cells" if alive == new.n_obs else f"{new.n_obs:,} cells, {alive:,.0f} at the end (seed 0)"
    lines = [f"{number}, {times[0]:g} to {times[-1]:g} h, {len(members)} seeds, growth as {run.config.simulate.growth}"]
    return "\n".join([*lines, *_beyond(adata, times), *map(str, paths), str(target / END)])


def _beyond(adata: AnnData, times: Sequence[float]) -> list[str]:
    """Say so where a roll-out leaves the times of the run's cells."""
    first, last = float(adata.obs[schema.TIME].min()), float(adata.obs[schema.TIME].max())
    inside = first - schema.SAME_TIME_H <= min(times) and max(times) <= last + schema.SAME_TIME_H
    return [] if inside else [f"beyond the times of the run, {first:g} to {last:g} h: nothing was fitted there"]


def _require_of_simulate(overrides: Sequence[str]) -> None:
    other = [text for text in overrides if not text.startswith("simulate.")]
    cure = "leave it out, or change the run itself: embryo fit RUN -s ..."
    problems = [Problem(f"{t!r} for fields that are fitted", "settings of the section simulate", cure) for t in other]
    if problems:
        raise ConfigError(*problems, subject="overrides")


def _times(run: RunFolder, adata: AnnData, new: AnnData, until_h: float | None, subject: str) -> list[float]:
    t0 = float(new.obs[schema.TIME].iloc[0])
    end = float(adata.obs[schema.TIME].max()) if until_h is None else until_h
    starts.require_finite(end, subject)
    if abs(end - t0) < schema.SAME_TIME_H:
        found = f"cells at {t0:g} h to be rolled to {end:g} h"
        last = f"an end before or after that; the last time of the run is {float(adata.obs[schema.TIME].max()):g} h"
        raise EmbryoError(Problem(found, last, "give --until-h"), subject=subject)
    if end < t0 and run.config.simulate.growth == "particles":
        found = f"particles from {t0:g} h back to {end:g} h"
        cure = "roll back with simulate.growth=mass: nobody knows who died before"
        raise EmbryoError(Problem(found, "a later end", cure), subject=subject)
    steps = max(round(abs(end - t0) / run.config.simulate.save_every_h), 1)
    return [float(t) for t in np.linspace(t0, end, steps + 1)]


def _member(run: RunFolder, new: AnnData, times: Sequence[float], seed: int, path: Path) -> Trajectory:
    """Roll out with one seed, keep it all, and return its first and last moment."""
    s = run.config.simulate
    field, _ = fields.load(run.path / f"fields/seed-{seed}.safetensors")
    how: dict[str, Any] = {
        "step_h": s.step_h, "method": s.method, "panel": tuple(map(str, schema.meta(new)["panel"])),
        "frame": Frame(BODY), "cells": tuple(new.obs_names), "device": s.device,
        "provenance": {"seed": seed, "start": str(path.parent.name)},
    }  # fmt: skip
    state = fit.states(new)
    law = laws.begun(field, state, times[0])
    kept: Trajectory | store.Stored
    if s.growth == "particles":
        kept = simulate.particles(law, state, times, seed=seed, **how)
        store.write_trajectory(kept, path)
    else:
        kept = simulate.record(law, state, times, path, **how)
    return Trajectory.of(
        kept.times_h[[0, -1]], [kept.at(0), kept.at(-1)],
        panel=kept.panel, frame=kept.frame, cells=kept.cells, provenance=kept.provenance,
    )  # fmt: skip


def _end(run: RunFolder, adata: AnnData, new: AnnData, members: Sequence[Trajectory]) -> AnnData:
    """Return one row per start cell: what became of it, as the seeds agree and disagree."""
    read = results.fates(run, adata)
    genes = [str(g) for g in schema.meta(new)["panel"]]
    fates = simulate.fates(members, read.proba, read.fates)
    if len(members) > 1:
        found = simulate.ensemble(members)
        z, g, x, mass = (part[-1] for part in (found.z, found.g, found.x, found.mass))
        apart = {name: values[-1] for name, values in found.disagreement.items()}
    else:
        z, g, x, log_mass = (part.double().numpy() for part in members[0].at(-1).parts())
        mass, apart = np.exp(log_mass), {}
    keep = [c for c in (schema.EMBRYO, schema.CELL, schema.CELL_TYPE) if c in new.obs]
    obs = new.obs[keep].assign(**{schema.TIME: float(members[0].times_h[-1]), "mass": mass}, **apart)
    end = AnnData(g, obs=obs, var=pd.DataFrame(index=pd.Index(genes, dtype=str)), obsm={schema.EMBED: z})
    if x.shape[1]:
        end.obsm[schema.ALIGNED] = end.obsm[schema.SPATIAL] = x
    fates.write(end)
    if new.n_obs >= 4:
        found_drivers = simulate.drivers(np.asarray(new.obsm[schema.PANEL], dtype=float), fates, genes)
        end.varm[schema.DRIVERS] = found_drivers.set_index(end.var_names)
    end.uns[schema.META] = {"time_unit": "h", "space_unit": "um", "frame": BODY, "expression": "log1p"}
    return end
