"""The middle stages of a run: couple, fit, simulate, perturb; each seed and embryo is a file of its own."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from math import inf

import numpy as np
import torch
from anndata import AnnData
from jaxtyping import Float
from torch import Tensor

from embryo import couple, encoders, fields, fit, perturb, simulate
from embryo.config import Config, Couple, Fit
from embryo.core import field as laws
from embryo.core import schema, store
from embryo.core.coupling import Coupling
from embryo.core.edit import Edit
from embryo.core.errors import StoreError
from embryo.core.frame import BODY, Frame
from embryo.core.state import State
from embryo.core.trajectory import Trajectory
from embryo.evaluate import Rollout
from embryo.evaluate.population import at_time
from embryo.pipeline import cells, places
from embryo.pipeline.folder import RunFolder

CONTROL, EDITED = "control", "edited"
Tick = Callable[[str, int, int], None]


def couple_all(run: RunFolder, adata: AnnData) -> tuple[list[str], str]:
    """Couple consecutive times of the training embryos and keep the couplings."""
    c = run.config.couple
    rows = np.flatnonzero((adata.obs[cells.SPLIT] == cells.TRAIN).to_numpy())
    couplings = couple.series(adata[rows], method=c.method, transport=transport(c), seed=run.config.seed)
    outputs = []
    for k, coupling in enumerate(couplings):
        outputs.append(f"couplings/{k:03d}.zarr")
        store.write_coupling(_in_rows_of(coupling, rows), run.path / outputs[-1])
    return outputs, couple.summary(couplings)


def transport(c: Couple) -> couple.Transport:
    """Return the options of optimal transport that a config asks for."""
    n = c.niche
    niche = couple.Niche(n.weight, n.of, n.neighbours, tuple(n.pairs)) if n.weight > 0 else None
    return couple.Transport(
        solver=c.solver, space_weight=c.space_weight, epsilon=c.epsilon, tau=c.tau, tau_target=c.tau_target or inf,
        max_cells=c.max_cells, counts_grow=c.counts_grow, align=c.align, niche=niche,
        transitions=c.transitions or None,
    )  # fmt: skip


def _in_rows_of(c: Coupling, rows: np.ndarray) -> Coupling:
    """Return the coupling with the cells of a subset numbered as in the whole."""
    return Coupling(c.t0_h, c.t1_h, c.plan, rows[c.sources], rows[c.targets], c.diagnostics)


def couplings(run: RunFolder) -> list[Coupling]:
    """Read the couplings of a run."""
    return [store.read_coupling(run.path / o) for o in run.stages["couple"]["outputs"]]


def placed(run: RunFolder, adata: AnnData) -> AnnData:
    """Return the cells where the couplings have turned them (``couple.align``)."""
    return adata if run.config.couple.align == "no" else couple.placed(adata, couplings(run))


def seeds(config: Config) -> range:
    """Return the seeds of the fits."""
    return range(config.seed, config.seed + config.seeds)


def fit_one(
    run: RunFolder, adata: AnnData, pairs: Callable[[], fit.Pairs], seed: int, tick: Tick
) -> tuple[list[str], str]:
    """Fit one field and keep it."""
    f = run.config.fit
    training = fit.Training(
        steps=f.steps, batch=f.batch, learning_rate=f.learning_rate, ema=f.ema, weight_decay=f.weight_decay,
        width_of_paths=f.width_of_paths, pull=f.pull, delta=f.delta, smooth=f.smooth,
        geodesic=f.geodesic, diffusion=f.diffusion, reads=tuple(f.reads),
        time=f.time, width=f.width, depth=f.depth, head_depth=f.head_depth, seed=seed, device=f.device,
    )  # fmt: skip
    losses: list[float] = []

    def progress(step: int, steps: int, loss: float) -> None:
        losses.append(loss)
        tick(f"fit, seed {seed}", step, steps)

    field = _law(run, adata, pairs, training, progress)
    out = f"fields/seed-{seed}.safetensors"
    fields.save(field, run.path / out, seed=seed, loss=losses[-1])
    return [out], f"{f.steps} steps, loss {losses[-1]:.3f} of the targets' mean square{_of_circuit(field, f)}"


def _of_circuit(law: fields.Learned, asked: Fit) -> str:
    """Return what the fit of a circuit came to: genes whose law wild type refutes, and whether forces were kept."""
    if not isinstance(law, fields.Regulated):
        return ""
    wrong = law.refuted
    said = ["circuit not tested" if wrong is None else f"wild type refutes the law of {', '.join(wrong) or 'no gene'}"]
    said += [f"learned from {', '.join(law.training_edits)}"] if law.training_edits else []
    if asked.forces:
        said.append("forces move cells" if law.forces is not None else "forces refuted: cells move as the tissue does")
    return "; " + "; ".join(said)


def _law(
    run: RunFolder, adata: AnnData, pairs: Callable[[], fit.Pairs], training: fit.Training, progress: fit.Progress
) -> fields.Learned:
    """Fit the law that the config asks for: body by body, to stages, with a circuit, or to pairs; on training cells."""
    f, train = run.config.fit, (adata.obs[cells.SPLIT] == cells.TRAIN).to_numpy()
    again = f.bootstrap and training.seed > run.config.seed
    if f.neighbours:
        tissue = fit.Tissue(neighbours=f.neighbours, attention=f.attention)
        return fit.spatial_flow(adata, couplings(run), training, tissue, progress=progress)
    if f.structure == "matching":
        times, stages = _stages(fit.drawn(adata[train], training.seed) if again else adata[train])
        options = fit.Matching(steps=f.steps, width=f.width, depth=f.depth, time=f.time, seed=training.seed)
        return fit.match(times, stages, options, progress=progress)
    if f.structure.startswith("circuit"):
        names, dims = tuple(str(g) for g in schema.meta(adata)["panel"]), adata.obsm[schema.EMBED].shape[1]
        led = fit.Marginals(steps=f.marginal_steps) if f.marginal_steps else None
        free = f.residual if f.structure == "circuit+residual" else None
        forces = fit.Forces(tuple(f.sticky), tuple(f.motile)) if f.forces else None
        wiring = fit.Wiring(
            tuple(f.ligands), f.ligand_um, posed=f.posed, led=led, residual=free, drawn=again, forces=forces,
            cycling=tuple(f.cycling), prior=tuple(f.prior), settings=fit.Settings() if f.posed else fit.UNPOSED,
        )  # fmt: skip
        return fit.regulated(
            adata[train].copy(), pairs(), training, wiring, response(run, names, dims),
            trained=cells.learned(adata, run.config), progress=progress,
        )  # fmt: skip
    return fit.regress(pairs(), training, progress=progress)


def _stages(adata: AnnData) -> tuple[list[float], list[State]]:
    """Return the cells of each time, all embryos together, each stage with the same mass: numbers are not compared."""
    state, t = fit.states(adata), adata.obs[schema.TIME].to_numpy(float)
    times = np.unique(t)
    stages = [state[torch.as_tensor(np.flatnonzero(t == u))] for u in times]
    return times.tolist(), [replace(s, log_mass=s.log_mass - float(np.log(len(s)))) for s in stages]


def times_to_judge(adata: AnnData, config: Config, most: int = 3) -> list[float]:
    """Return up to `most` observed times of held-out embryos between the start and the end, evenly, the last too."""
    seen = adata.obs.loc[(adata.obs[cells.SPLIT] == cells.HELD_OUT).to_numpy(), schema.TIME].to_numpy(float)
    begin, end = cells.start_h(adata, config), _end_h(adata, config)
    times = np.unique(seen[(seen > begin + schema.SAME_TIME_H) & (seen <= end + 1e-9)])
    chosen = np.linspace(0, len(times) - 1, most + 1).round().astype(int)[1:] if len(times) > most else slice(None)
    return [float(t) for t in times[chosen]]


def _end_h(adata: AnnData, config: Config) -> float:
    if config.split.end_h is not None:
        return config.split.end_h
    return float(adata.obs.loc[(adata.obs[cells.SPLIT] == cells.TRAIN).to_numpy(), schema.TIME].max())


def times_h(adata: AnnData, config: Config, embryo: str) -> list[float]:
    """Return the times that a roll-out of `embryo` keeps: every so often, the horizons, and the times to judge."""
    own = adata.obs.loc[(adata.obs[schema.EMBRYO].astype(str) == embryo).to_numpy(), schema.TIME].to_numpy(float)
    wanted = cells.start_h(adata, config)
    start = float(own[np.abs(own - wanted).argmin()])
    end = _end_h(adata, config)
    grid = np.arange(start, end, config.simulate.save_every_h)
    horizons = [start + h for h in config.measure.horizons_h if start + h <= end + 1e-9]
    judged = [t for most in (3, 4) for t in times_to_judge(adata, config, most) if t > start]
    return sorted({round(float(t), 9) for t in [*grid, *horizons, *judged, end]})


def targets(adata: AnnData) -> list[str]:
    """Return the embryos that are rolled forward: the held-out ones, else the first one.

    A fixed embryo of a later stage is no start: it is what others are held against.
    """
    held = cells.embryos(adata, cells.HELD_OUT)
    times = adata.obs[schema.TIME].groupby(adata.obs[schema.EMBRYO].astype(str)).agg(["min", "nunique"])
    early = times["min"] <= times.loc[held, "min"].min() + schema.SAME_TIME_H
    return [name for name in held if early[name] or times.loc[name, "nunique"] > 1] or cells.embryos(
        adata, cells.TRAIN
    )[:1]


def start(adata: AnnData, config: Config, embryo: str, t_h: float) -> tuple[np.ndarray, State]:
    """Return the rows and the state of an embryo at its observed time nearest to `t_h`.

    More cells than ``simulate.max_cells`` are subsampled with the seed, each standing for several.
    """
    rows = at_time(adata, [embryo], t_h, tolerance_h=np.inf)
    total = len(rows)
    if total > config.simulate.max_cells:
        rows = np.sort(np.random.default_rng(config.seed).choice(rows, config.simulate.max_cells, replace=False))
    state = fit.states(adata[rows])
    log_mass = torch.full_like(state.log_mass, float(np.log(total / len(rows))))
    return rows, State(state.z, state.g, state.x, log_mass)


def context(run: RunFolder, adata: AnnData, rows: np.ndarray) -> perturb.Context:
    """Return what an edit needs to know: panel, encoder response, decay and types."""
    names = tuple(str(g) for g in adata.uns[schema.META]["panel"])
    types = adata.obs[schema.CELL_TYPE].astype(str).to_numpy()[rows] if schema.CELL_TYPE in adata.obs else None
    return perturb.Context(
        panel=names,
        response=response(run, names, adata.obsm[schema.EMBED].shape[1]),
        decay_per_h=run.config.perturb.decay_per_h,
        cell_types=tuple(types) if types is not None else None,
        seed=run.config.seed,
    )


def response(run: RunFolder, panel: Sequence[str], dims: int) -> Float[Tensor, "genes dims"]:
    """Return dz/dg of each panel gene; zeros for a precomputed embedding, which no edit can reach."""
    path = run.path / "encoder.safetensors"
    if run.config.embed.encoder == "precomputed":
        return torch.zeros(len(panel), dims)
    return torch.as_tensor(encoders.load(path).response(panel), dtype=torch.float32)


def roll(run: RunFolder, adata: AnnData, arm: str, edits: Sequence[Edit], tick: Tick) -> tuple[list[str], str]:
    """Roll every target forward with every seed, with `edits` held through the whole run."""
    s, outputs = run.config.simulate, []
    if alike := places.alike(targets(adata), "embryo"):
        raise StoreError(*alike, subject="roll-outs")
    jobs = [(e, seed) for e in targets(adata) for seed in seeds(run.config)]
    for k, (embryo, seed) in enumerate(jobs):
        field, _ = fields.load(run.path / f"fields/seed-{seed}.safetensors")
        times = times_h(adata, run.config, embryo)
        rows, state = start(adata, run.config, embryo, times[0])
        bound = laws.begun(field, state, times[0])
        law, begin = perturb.apply(bound, state, edits, context(run, adata, rows), t0_h=times[0])
        trajectory = simulate.forward(
            law, begin, times, step_h=s.step_h, method=s.method, panel=tuple(map(str, adata.uns[schema.META]["panel"])),
            frame=Frame(BODY), cells=tuple(names(adata, rows)), device=s.device,
            provenance={"seed": seed, "embryo": embryo, "rows": rows.tolist(), "edits": [e.to_json() for e in edits]},
        )  # fmt: skip
        outputs.append(f"trajectories/{arm}/{places.slug(embryo)}/seed-{seed}.zarr")
        store.write_trajectory(trajectory, run.path / outputs[-1])
        tick(f"roll out {arm}", k + 1, len(jobs))
    what = ", ".join(e.label for e in edits) or "wild type"
    return outputs, f"{what}: {len(targets(adata))} embryos x {run.config.seeds} seeds, {times[0]:g} to {times[-1]:g} h"


def names(adata: AnnData, rows: np.ndarray) -> list[str]:
    """Return the names of cells: their own where they have one, else their row's."""
    column = adata.obs[schema.CELL].astype(str) if schema.CELL in adata.obs else adata.obs_names.to_series()
    return list(column.to_numpy()[rows])


def rollouts(run: RunFolder, stage: str) -> list[Rollout]:
    """Read the roll-outs that a stage left."""
    out = []
    for path in run.stages[stage]["outputs"]:
        t = store.read_trajectory(run.path / path)
        out.append(Rollout(str(t.provenance["embryo"]), int(t.provenance["seed"]), np.asarray(t.provenance["rows"]), t))
    return out


def by_seed(found: Sequence[Rollout], embryo: str) -> list[Trajectory]:
    """Return the trajectories of one embryo in order of seed."""
    return [r.trajectory for r in sorted(found, key=lambda r: r.seed) if r.embryo == embryo]
