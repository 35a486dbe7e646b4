"""The last stages of a run: measure, render, report."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pandas as pd
from anndata import AnnData

from embryo import evaluate, fit, measure, render
from embryo.core import schema, store
from embryo.core.state import State
from embryo.core.trajectory import Trajectory
from embryo.evaluate import Rollout
from embryo.evaluate.edits import truth_embryos
from embryo.evaluate.population import at_time
from embryo.measure.moment import least
from embryo.pipeline import cells, rollouts
from embryo.pipeline.folder import RunFolder
from embryo.render.moments import Colour

TABLES = {
    "positions": "Where each cell of the held-out embryos is, µm from the truth",
    "populations": "The held-out embryos as a whole",
    "edits": "The edited roll-out against embryos that truly carry the edit",
    "difference": "What the edit changes in the model",
}


def fates(run: RunFolder, adata: AnnData) -> measure.FateClassifier:
    """Return the read-out of fates, fitted on training cells."""
    train = (adata.obs[cells.SPLIT] == cells.TRAIN).to_numpy()
    labels = (
        adata.obs[schema.CELL_TYPE].astype(str).to_numpy()
        if schema.CELL_TYPE in adata.obs
        else np.full(len(train), "cell")
    )
    embryo = adata.obs[schema.EMBRYO].astype(str).to_numpy()
    z = np.asarray(adata.obsm[schema.EMBED], dtype=float)
    m = run.config.measure
    return measure.fates(
        z[train], labels[train], neighbours=m.neighbours, groups=embryo[train], max_cells=m.read_out_cells,
        seed=run.config.seed,
    )  # fmt: skip


def measure_all(run: RunFolder, adata: AnnData) -> tuple[list[str], str]:
    """Score the roll-outs and the edit, and keep the tables."""
    control, edited = (rollouts.rollouts(run, stage) for stage in ("simulate", "perturb"))
    fate = fates(run, adata)
    results = {name: r for name, r in _results(run, adata, control, edited, fate).items() if len(r.table)}
    outputs = []
    for name, result in results.items():
        outputs.append(f"tables/{name}.csv")
        store.write_table(result.table, run.path / outputs[-1])
    sentences = {name: list(r.sentences) for name, r in results.items()}
    store.write_json({"sentences": sentences, "read_out": str(fate)}, run.path / "tables/sentences.json")
    end = measure.per_cell(control[0].trajectory, edited[0].trajectory, fate)
    with store.atomic(run.path / "tables/cells.h5ad") as partial:
        end.write_h5ad(partial)
    return [*outputs, "tables/sentences.json", "tables/cells.h5ad"], f"{', '.join(results)}; {fate}"


def _results(
    run: RunFolder, adata: AnnData, control: Sequence[Rollout], edited: Sequence[Rollout], fate: measure.FateClassifier
) -> dict[str, evaluate.Result]:
    m = run.config.measure
    training, held_out = (cells.embryos(adata, part) for part in (cells.TRAIN, cells.HELD_OUT))
    results = {}
    if held_out:
        judged = rollouts.times_to_judge(adata, run.config)
        results["populations"] = evaluate.populations(
            adata, control, training, judged, fate, tolerance_h=schema.SAME_TIME_H, max_cells=m.max_cells
        )
        if schema.CELL in adata.obs and schema.SPATIAL in adata.obsm and "tracks" in run.stages["couple"]["summary"]:
            results["positions"] = evaluate.positions(
                adata, control, training, m.horizons_h, tolerance_h=schema.SAME_TIME_H
            )
    if run.config.perturb.edits:
        found = evaluate.edits(
            adata, edited, control, training, label(run), fate, tolerance_h=schema.SAME_TIME_H, max_cells=m.max_cells
        )
        results["edits"] = replace(found, sentences=(*_learned(run), *found.sentences))
    embryo = control[0].embryo
    one, two = (rollouts.by_seed(found, embryo) for found in (control, edited))
    wild = np.random.default_rng(run.config.seed).permutation([*training, *held_out])[: m.repeats]
    repeats = [_by_time(adata, str(e)) for e in sorted(wild)]
    observed = [float(one[0].times_h[0]), *rollouts.times_to_judge(adata, run.config, most=4)]
    times = observed if held_out else None
    seed = run.config.seed
    effect = measure.difference(one, two, fate=fate, repeats=repeats, times_h=times, board=label(run), seed=seed)
    results["difference"] = evaluate.Result(effect)
    return results


def label(run: RunFolder) -> str:
    """Return the name of the run's edits, as it stands in ``obs["perturbation"]`` of embryos that carry them."""
    return " + ".join(e.label for e in run.config.perturb.records()) or "no edit"


def _learned(run: RunFolder) -> list[str]:
    """Say so where the embryos that judge an edit are those that it was learned from."""
    told = label(run) in run.config.fit.knockouts
    return [f"The law was fitted to these embryos ({label(run)}): its score is no forecast."] if told else []


def _by_time(adata: AnnData, embryo: str) -> dict[float, State]:
    rows = np.flatnonzero((adata.obs[schema.EMBRYO].astype(str) == embryo).to_numpy())
    t = adata.obs[schema.TIME].to_numpy(float)[rows]
    return {float(u): fit.states(adata[rows[t == u]]) for u in np.unique(t)}


def render_all(run: RunFolder, adata: AnnData) -> tuple[list[str], str]:
    """Draw control beside edit, the measured embryos beside them where there are any, a film and the curves."""
    fate = fates(run, adata)
    control, edited = (rollouts.rollouts(run, stage)[0] for stage in ("simulate", "perturb"))
    outputs = ["pictures/curves.png"]
    table = store.read_table(run.path / "tables/difference.csv")
    render.curves(curve_table(table), run.path / outputs[0])
    if control.trajectory.x.shape[2] < 2:
        return outputs, "curves only: the data have no positions"
    name = label(run)
    colour, what, unit = colouring(run, control.trajectory, fate)
    moments = render.Moments({"control": control.trajectory, name: edited.trajectory}, colour, name=what, unit=unit)
    outputs.append("pictures/embryos.png")
    truth = _measured_panels(run, adata, control, moments[-1], colour)
    render.picture([*moments[-1], *truth], run.path / outputs[-1], rows=2 if truth else 1)
    if run.config.render.film:
        film = render.film(moments, run.path / "film.mp4", times_h=moments.times_h, fps=run.config.render.fps)
        outputs.append(film.name)
    return outputs, f"{len(outputs)} files; control beside {name}, coloured by {what}"


def colouring(run: RunFolder, t: Trajectory, fate: measure.FateClassifier) -> tuple[Colour, str, str]:
    """Return what colours the cells: the fate that their embedding reads as, or a panel gene."""
    if run.config.render.colour in t.panel:
        return render.gene(t, run.config.render.colour), run.config.render.colour, "log1p"
    return (lambda state: fate.predict(state.z.numpy().astype(float))), "fate", ""


def _measured_panels(
    run: RunFolder, adata: AnnData, control: Rollout, simulated: Sequence[render.Panel], colour: Colour
) -> list[render.Panel]:
    """Return the measured held-out embryo and one with the edit, at the end; none where either is absent."""
    carriers = truth_embryos(adata, label(run))
    t = float(control.trajectory.times_h[-1])
    out = []
    for embryo, title in zip(
        [control.embryo, *carriers[:1]], ("measured wild type", f"measured {label(run)}"), strict=False
    ):
        rows = at_time(adata, [embryo], t, schema.SAME_TIME_H)
        if len(rows):
            state = fit.states(adata[rows])
            x = state.x.numpy().astype(float)
            shown = np.asarray(colour(state))
            numbers = np.issubdtype(shown.dtype, np.floating)
            labels, values = (None, shown) if numbers else (shown, None)
            like = simulated[0]
            out.append(render.Panel(title, x, labels, values, like.name, like.unit, axes=like.axes))
    return out if len(out) == 2 else []


def curve_table(table: pd.DataFrame) -> pd.DataFrame:
    """Return control and edit over time, with the spread of wild-type embryos around the control."""
    shown = table[table["role"].isin(["control", "edited"])].copy()
    shown["model"] = shown["role"]
    shown = shown[shown.groupby("metric")["value"].transform(lambda values: bool((values != 0).any()))]
    spread = table[(table["role"] == "repeat") & (table["model"] == "wild-type embryos")]
    width = spread.set_index(["metric", "time_h"])["high"].to_dict()
    half = [width.get((m, t), np.nan) for m, t in zip(shown["metric"], shown["time_h"], strict=True)]
    band = np.where(shown["role"] == "control", half, np.nan)
    shown["low"] = np.maximum(shown["value"] - band, shown["metric"].map(least))
    shown["high"] = shown["value"] + band
    return shown
