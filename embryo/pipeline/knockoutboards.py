"""The embryos that predicted knock-outs are judged on: simulated with known truth, or a chimera; the truth is kept.

::

    out/truth/DIGEST/train.h5ad truth.h5ad law.h5ad made.json    what was simulated, shared by boards of the same dials
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import anndata as ad
import numpy as np
import pandas as pd
import torch
from anndata import AnnData
from jaxtyping import Float
from torch import Tensor

from embryo import embed, fit
from embryo.core import schema, store
from embryo.core.edit import Edit
from embryo.core.errors import ConfigError, Problem
from embryo.core.state import State
from embryo.datasets import synthetic
from embryo.evaluate.perturbation import EndPopulation, Trial
from embryo.pipeline import boards, chosen, knockouttruth
from embryo.pipeline.folder import cells_digest, fingerprint
from embryo.pipeline.knockoutdials import ChimeraBoard, KnockoutBoard, SyntheticBoard
from embryo.pipeline.rollouts import Tick

_NOT_SIMULATED = {"name", "models", "notes", "embed", "prior", "hard_prior", "inputs", "forces"}


@dataclass(frozen=True, eq=False)
class Known:
    """All that a predictor of ours may learn from; no cell of the truth is in it.

    Parameters
    ----------
    board
        Its name.
    train
        Wild-type cells, and those of training perturbations (``obs["perturbation"]`` is their label, else empty), with
        ``X_embed``, ``X_panel`` and, with space, ``spatial_aligned``. ``obsm["inputs"]`` where inputs are known;
        ``obsm["velocity_levels"]`` (d/dt of ``expm1(g)``, per hour) and ``obsm["velocity_spatial"]`` (µm/h)
        where velocities are. ``uns["embryo"]["panel"]`` names the genes.
    unit
        A gene's own scale of ``expm1(g)``: the 99th percentile over training cells.
    numbers
        By time: wild-type cells per embryo, before any were drawn.
    start_h, end_h
        Between which a prediction runs.
    response
        dz/dg of each panel gene, for `embryo.perturb.Context`.
    fates
        Names of the fates.
    inputs_at
        The measured inputs (doses 1) of cells that were at x (µm) at the start, at a time in hours; None where unknown.
    prior
        Columns source, target, sign; the sources may be inputs. None without.
    hard_prior
        Whether it forbids all other edges.
    forces
        Whether a law may let genes move cells.
    seed
        Of the board.
    """

    board: str
    train: AnnData
    unit: Float[np.ndarray, " genes"]
    numbers: Mapping[float, float]
    start_h: float
    end_h: float
    response: Float[Tensor, "genes dims"]
    fates: tuple[str, ...]
    inputs_at: Callable[[Float[np.ndarray, "cells 3"], float], Float[np.ndarray, "cells inputs"]] | None = None
    prior: pd.DataFrame | None = None
    hard_prior: bool = False
    forces: bool = False
    seed: int = 0
    _readers: dict[str, Any] = field(default_factory=dict, init=False)

    @property
    def panel(self) -> tuple[str, ...]:
        """Names of the genes of g."""
        return tuple(map(str, schema.meta(self.train)["panel"]))

    @cached_property
    def wild(self) -> AnnData:
        """Wild-type training cells."""
        return self.train[(self.train.obs[schema.PERTURBATION].astype(str) == "").to_numpy()]

    def start(self, seed: int, most: int) -> tuple[AnnData, State]:
        """Return wild-type cells of all embryos at the start, with their share of the mass of one.

        At most as many as one embryo has, and as `most`: the 400 that are measured of one are a small sample, and what
        they have too much of at the start grows.
        """
        wild = self.wild
        first = np.flatnonzero(np.abs(wild.obs[schema.TIME].to_numpy(float) - self.start_h) < schema.SAME_TIME_H)
        number = self.numbers[self.start_h]
        drawn = min(len(first), most, round(number))
        cells = wild[np.sort(np.random.default_rng(seed).choice(first, drawn, replace=False))].copy()
        state = fit.states(cells)
        return cells, replace(state, log_mass=torch.full_like(state.log_mass, float(np.log(number / drawn))))

    def fates_of(self, slot: str, values: Float[np.ndarray, "cells dims"]) -> np.ndarray:
        """Return the commonest fate of the 15 nearest training cells, in ``X_embed`` or ``X_panel``."""
        from sklearn.neighbors import KNeighborsClassifier  # noqa: PLC0415  slow to import

        if slot not in self._readers:
            labels = self.train.obs[schema.CELL_TYPE].astype(str).to_numpy()
            model = KNeighborsClassifier(min(15, self.train.n_obs)).fit(np.asarray(self.train.obsm[slot]), labels)
            self._readers[slot] = model
        return np.asarray(self._readers[slot].predict(values))


@dataclass(frozen=True, eq=False)
class Loaded:
    """A board made ready: what predictors may know, the truth, and what is to be said of both."""

    known: Known
    trial: Trial
    facts: str
    digest: str
    notes: tuple[str, ...]
    law: Mapping[str, EndPopulation] = field(default_factory=dict)


def load(board: KnockoutBoard, out: Path, commit: str, *, seed: int, seeds: int, tick: Tick) -> Loaded:
    """Return a board: read, or simulated (once: the truth is kept in the folder), embedded on training cells.

    Raises
    ------
    EmbryoError
        If data are absent, or a gene is unknown or hidden.
    """
    if isinstance(board, ChimeraBoard):
        return _chimera(board, seed)
    _require(board)
    dials = board.model_dump(mode="json", exclude=_NOT_SIMULATED)
    mark = fingerprint(commit, dials, seed, seeds)
    folder = out / "truth" / mark
    made = folder / "made.json"
    if not made.is_file() or store.read_json(made) != {"fingerprint": mark}:
        folder.mkdir(parents=True, exist_ok=True)
        for name, adata in knockouttruth.simulated(board, seed, seeds, tick).items():
            with store.atomic(folder / f"{name}.h5ad") as partial:
                adata.write_h5ad(partial)
        store.write_json({"fingerprint": mark}, made)
    parts = {name: ad.read_h5ad(folder / f"{name}.h5ad") for name in ("train", "truth", "law")}
    return _synthetic(board, parts, seed)


def _require(board: SyntheticBoard) -> None:
    named = [*board.edits, *board.training_knockouts, *board.hidden]
    problems = [
        Problem(f"gene {g!r}", f"one of {', '.join(synthetic.PANEL)}", "correct the name")
        for g in dict.fromkeys(named)
        if g not in synthetic.PANEL
    ]
    both = [g for g in board.edits if g in (*board.training_knockouts, *board.hidden)]
    problems += [
        Problem(f"{g} is judged and also hidden or trained on", "one of these", "take it off one list") for g in both
    ]
    steps = (board.end_h - board.start_h) / board.spacing_h
    if steps < 1 or abs(steps - round(steps)) > 1e-9:
        found = f"stages every {board.spacing_h:g} h from {board.start_h:g} to {board.end_h:g} h"
        problems.append(Problem(found, "a whole number of steps", "change spacing_h"))
    if problems:
        raise ConfigError(*problems, subject=f"board {board.name}")


def _synthetic(board: SyntheticBoard, parts: Mapping[str, AnnData], seed: int) -> Loaded:
    digest = fingerprint([cells_digest(parts[name]) for name in ("train", "truth")])
    genes = [g for g in synthetic.PANEL if g not in board.hidden]
    response = _embedded(board, parts, genes, seed)
    unit = fit.unit_of(np.asarray(parts["train"].obsm[schema.PANEL], dtype=float))
    for part in parts.values():
        part.obsm[schema.ALIGNED] = np.asarray(part.obsm[schema.SPATIAL])
    train = knockouttruth.blinded(parts["train"], inputs=board.inputs == "known")
    numbers = {float(k): float(v) for k, v in train.uns["numbers"].items()}
    known = Known(
        board.name, train, unit, numbers, board.start_h, board.end_h, response, synthetic.FATES,
        knockouttruth.maternal if board.inputs == "known" else None,
        knockouttruth.prior(board.prior, seed), board.hard_prior, board.forces, seed,
    )  # fmt: skip
    trial = _trial(board, known, parts["truth"])
    law = _by_label(parts["law"])
    cells = f"{known.wild.n_obs:,} wild-type cells of {board.n_embryos} embryos at {len(numbers)} stages"
    facts = f"{cells}; {len(trial.labels)} knock-outs x {board.n_truth} embryos at {board.end_h:g} h"
    return Loaded(known, trial, facts, digest, (*_dials(board), *board.notes), law)


def _dials(board: SyntheticBoard) -> list[str]:
    counts = "expression as it is" if board.counts_per_unit is None else f"{board.counts_per_unit:g} counts per unit"
    trained = ", ".join(board.training_knockouts) or "none"
    hard = "hard" if board.hard_prior else "soft"
    said = [
        f"stages {board.spacing_h:g} decay times apart", f"inputs {board.inputs}", counts, board.velocity,
        f"training knock-outs: {trained}", "decay rates not given", "static" if board.static else "moving and growing",
        f"prior: {board.prior if board.prior == 'none' else f'{board.prior}, {hard}'}",
    ]  # fmt: skip
    said += ["genes may move cells"] if board.forces else []
    said += [f"hidden: {', '.join(board.hidden)}"] if board.hidden else []
    return [f"Dials: {'; '.join(said)}."]


def _embedded(board: SyntheticBoard, parts: Mapping[str, AnnData], genes: Sequence[str], seed: int) -> Tensor:
    """Write z and g of all parts, fitted on training cells; returns dz/dg."""
    if board.counts_per_unit is None:
        return knockouttruth.embed_levels(parts, genes, board.embed.dims or 10, seed)
    encoder = chosen.fitted(board.embed, parts["train"], seed=seed, spare=1)
    for part in parts.values():
        embed.cells(part, encoder)
    steady = embed.steady(parts["train"], seed=seed)
    for part in parts.values():
        embed.panel(part, genes, steady=steady)
    return torch.as_tensor(encoder.response(tuple(genes)), dtype=torch.float32)


def _trial(board: SyntheticBoard, known: Known, truth: AnnData) -> Trial:
    stages = sorted(known.numbers)
    times = known.wild.obs[schema.TIME].to_numpy(float)
    earlier = {
        t: _as_many(EndPopulation.of_rows(known.wild, np.flatnonzero(times == t)), known.numbers[t])
        for t in stages[1:-1]
    }
    trained = known.train[(known.train.obs[schema.TIME] == stages[-1]).to_numpy()]
    training = {k: p for k, p in _by_label(trained).items() if k}
    edits = {Edit(g).label: Edit(g) for g in board.edits}
    ends = _by_label(truth)
    wild = ends.pop("")
    return Trial(board.name, known.fates, known.panel, known.unit, wild, ends, edits, training, earlier)


def _as_many(population: EndPopulation, number: float) -> EndPopulation:
    """Return the cells with the masses that their embryos had before some were drawn (on average)."""
    own = population.mass.sum() / len(population.embryos)
    return replace(population, mass=population.mass * number / own)


def _by_label(adata: AnnData) -> dict[str, EndPopulation]:
    labels = adata.obs[schema.PERTURBATION].astype(str).to_numpy()
    return {k: EndPopulation.of_rows(adata, np.flatnonzero(labels == k)) for k in dict.fromkeys(labels.tolist())}


def _chimera(board: ChimeraBoard, seed: int) -> Loaded:
    adata = boards.source(board.read, needs=schema.SNAPSHOT, subject=f"board {board.name}")
    if board.embryo not in adata.obs or schema.PERTURBATION not in adata.obs:
        found = f"columns {', '.join(adata.obs)}"
        problem = Problem(found, f"{board.embryo} and {schema.PERTURBATION}", "name the column of samples")
        raise ConfigError(problem, subject=f"board {board.name}")
    adata = adata[:, ~adata.var_names.isin(board.drop_genes)].copy()
    adata.obs[schema.EMBRYO] = adata.obs[board.embryo].astype(str)
    labels = adata.obs[schema.PERTURBATION].astype(str).to_numpy()
    own = f"knockout {board.gene}"
    if own not in labels or "" not in labels:
        found = f"perturbations {sorted(set(labels))}"
        raise ConfigError(Problem(found, f"{own!r} and wild-type cells", "correct gene"), subject=f"board {board.name}")
    digest = cells_digest(adata)
    host = adata[labels == ""].copy()
    encoder = chosen.fitted(board.embed, host, seed=seed, spare=1)
    genes = list(map(str, adata.var_names))
    for part in (adata, host):
        embed.cells(part, encoder)
        embed.panel(part, genes)
    t = float(host.obs[schema.TIME].iloc[0])
    fates = tuple(sorted(adata.obs[schema.CELL_TYPE].astype(str).unique()))
    response = torch.as_tensor(encoder.response(tuple(genes)), dtype=torch.float32)
    numbers = {t: float(host.n_obs / host.obs[schema.EMBRYO].nunique())}
    unit = fit.unit_of(np.asarray(host.obsm[schema.PANEL], dtype=float))
    known = Known(board.name, host, unit, numbers, t, t, response, fates, seed=seed)
    edit = Edit(board.panel_gene or board.gene)
    rows = [np.flatnonzero(labels == label) for label in ("", own)]
    wild, truth = (EndPopulation.of_rows(adata, r) for r in rows)
    trial = Trial(
        board.name, fates, known.panel, known.unit, wild, {edit.label: truth}, {edit.label: edit}, {}, {}, board.unit
    )
    facts = f"{len(rows[1]):,} cells with the edit in {len(truth.embryos)} {board.unit}, {len(rows[0]):,} host cells"
    return Loaded(known, trial, f"{facts} in {len(wild.embryos)}; {len(genes)} genes", digest, tuple(board.notes))
