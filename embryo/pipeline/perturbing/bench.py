"""Everything that edits of one start share: cells, laws, controls, read-out, support."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import anndata as ad
import numpy as np
import pandas as pd
from anndata import AnnData

from embryo import fields, fit, measure, perturb, read
from embryo.core import field as laws
from embryo.core import schema, store
from embryo.core.edit import CELL_OPERATIONS, Edit, Operation
from embryo.core.errors import EditError, EmbryoError, Problem
from embryo.core.field import Field
from embryo.core.frame import Rigid, best
from embryo.core.state import State
from embryo.core.trajectory import Trajectory
from embryo.pipeline import boards, cells, results, rollouts, starts
from embryo.pipeline.folder import RunFolder, contents, fingerprint
from embryo.pipeline.perturbing import arms, encoded, wildtype
from embryo.pipeline.perturbing.support import Support

FOLDER = "perturbations"
_FEW = 3  # held-out embryos of one time below which training embryos stand in


@dataclass
class Bench:
    """One start of one run, ready to be edited as often as one likes.

    Parameters
    ----------
    run, adata
        The run and its cells, in the body frame.
    new
        Cells of the start, one row per particle.
    state
        Of these.
    times_h
        Stored times, from that of the start on.
    measured
        The same embryo as it was measured at later of these times.
    name
        Of the start.
    """

    run: RunFolder
    adata: AnnData
    new: AnnData
    state: State
    times_h: list[float]
    measured: Mapping[float, State] = field(default_factory=dict)
    name: str = ""

    @classmethod
    def open(cls, path: Path, start: Path | None = None, *, until_h: float | None = None) -> "Bench":
        """Open a run, with its first held-out embryo or the cells of a file as the start.

        Parameters
        ----------
        path
            A run folder with fitted fields.
        start
            Cells of an embryo. Of several times the first is the start; the later ones are the measured wild type that
            effects are added to (difference in differences).
        until_h
            End of the roll-outs, hours; the run's last training time by default.

        Raises
        ------
        EmbryoError
            If the run has no field, the cells are not of its kind, or the end does not come after the start.
        """
        run = RunFolder.open(path)
        starts.require_fitted(run)
        adata = rollouts.placed(run, ad.read_h5ad(run.path / "cells.h5ad"))
        if start is None:
            embryo = rollouts.targets(adata)[0]
            t0 = rollouts.times_h(adata, run.config, embryo)[0]
            rows, state = rollouts.start(adata, run.config, embryo, t0)
            new, name = adata[rows].copy(), embryo
            own = (adata.obs[schema.EMBRYO].astype(str) == embryo).to_numpy()
            later = {t: fit.states(part) for t, part in _by_time(adata[own], above_h=t0)}
        else:
            whole = read.auto(start, boards.keys(run.config.read), needs=schema.SNAPSHOT)
            parts = [(t, starts.prepared(run, adata, part.copy(), start)) for t, part in _by_time(whole)]
            (t0, new), name = parts[0], start.stem
            state, later = fit.states(new), {t: fit.states(part) for t, part in parts[1:]}
        end = _trained_h(adata)[1] if until_h is None else until_h
        starts.require_finite(end, name)
        if end - t0 < schema.SAME_TIME_H:
            problem = Problem(f"cells at {t0:g} h to be rolled to {end:g} h", "an end after that", "give --until-h")
            raise EmbryoError(problem, subject=name)
        later = {t: s for t, s in later.items() if t <= end + schema.SAME_TIME_H}
        steps = max(round((end - t0) / run.config.simulate.save_every_h), 1)
        grid = [t for t in np.linspace(t0, end, steps + 1) if all(abs(t - u) > schema.SAME_TIME_H for u in later)]
        return cls(run, adata, new, state, sorted(round(float(t), 9) for t in [*grid, *later]), later, name)

    @cached_property
    def seeds(self) -> list[int]:
        """Seeds of the run's fits."""
        return list(rollouts.seeds(self.run.config))

    @cached_property
    def panel(self) -> tuple[str, ...]:
        """Names of the panel's genes."""
        return tuple(map(str, schema.meta(self.adata)["panel"]))

    @cached_property
    def names(self) -> tuple[str, ...]:
        """Names of the particles."""
        return tuple(rollouts.names(self.new, np.arange(self.new.n_obs)))

    @cached_property
    def laws(self) -> list[Field]:
        """The law of every seed, bound to the start."""
        found = [fields.load(self.run.path / f"fields/seed-{seed}.safetensors")[0] for seed in self.seeds]
        return [laws.begun(law, self.state, self.times_h[0]) for law in found]

    @cached_property
    def controls(self) -> list[Trajectory]:
        """The unedited roll-out of every seed, made once per start and kept with the run."""
        files = [contents(self.run.path / f"fields/seed-{seed}.safetensors") for seed in self.seeds]
        parts = [part.double().sum(0).tolist() for part in self.state.parts()]
        key = fingerprint(files, parts, self.times_h, self.run.config.simulate.model_dump(mode="json"), self.names)
        folder = self.run.path / FOLDER / "controls" / key
        out = []
        for seed, law in zip(self.seeds, self.laws, strict=True):
            path = folder / f"seed-{seed}.zarr"
            if not path.exists():
                how = self.how(seed, ())
                store.write_trajectory(arms.plain(law, self.state, self.times_h, seed, self.growth, how), path)
            out.append(store.read_trajectory(path))
        return out

    @property
    def growth(self) -> str:
        """How growth is carried: as mass or as particles."""
        return str(self.run.config.simulate.growth)

    @cached_property
    def fate(self) -> measure.FateClassifier:
        """The read-out of fates."""
        return results.fates(self.run, self.adata)

    @property
    def trained_h(self) -> tuple[float, float]:
        """First and last time of the training cells, hours."""
        return _trained_h(self.adata)

    @cached_property
    def asked(self) -> encoded.Asked | str:
        """The measured cells of the end that the encoder is asked about; or why it cannot be asked."""
        return encoded.Asked.of(self.run, self.adata, self.times_h[-1], self.fate)

    @cached_property
    def support(self) -> Support:
        """The training states, and how near they lie to each other."""
        train = self.adata[(self.adata.obs[cells.SPLIT] == cells.TRAIN).to_numpy()]
        moments = [fit.states(part) for _, part in _by_embryo_and_time(train)]
        return Support.of(moments, seed=self.run.config.seed)

    @cached_property
    def repeats(self) -> list[dict[float, State]]:
        """Measured wild-type embryos of the run."""
        wild = self.adata[(self.adata.obs[cells.SPLIT] != cells.EDITED).to_numpy()]
        embryo = wild.obs[schema.EMBRYO].astype(str).to_numpy()
        names = np.random.default_rng(self.run.config.seed).permutation(np.unique(embryo))
        chosen = sorted(names[: self.run.config.measure.repeats])
        return [{t: fit.states(part) for t, part in _by_time(wild[embryo == name])} for name in chosen]

    @property
    def posed(self) -> bool:
        """Whether the embryos of the run lie in one pose."""
        return bool(schema.meta(self.adata).get("posed", True))

    @cached_property
    def wild(self) -> tuple[dict[float, list[State]], str]:
        """Wild-type embryos measured after the start, by time, and which they are.

        Of each time those that nothing was fitted to, or the training embryos where they are fewer than `_FEW`; never
        the start itself.
        """
        embryo = self.adata.obs[schema.EMBRYO].astype(str).to_numpy()
        part = self.adata.obs[cells.SPLIT].astype(str).to_numpy()
        usable = (part != cells.EDITED) & (embryo != self.name)
        out: dict[float, list[State]] = {}
        fitted = 0
        for t, at in _by_time(self.adata[usable], above_h=self.times_h[0]):
            held = at[(at.obs[cells.SPLIT] == cells.HELD_OUT).to_numpy()]
            few = held.obs[schema.EMBRYO].nunique() < _FEW
            fitted += few
            out[t] = [fit.states(one) for _, one in _by_embryo_and_time(at if few else held)]
        whose = "held-out embryos" if not fitted else f"wild-type embryos (at {fitted} of them fitted on)"
        return out, whose

    @cached_property
    def beside(self) -> pd.DataFrame:
        """The controls beside wild type measured later: one table for all edits of the start."""
        return wildtype.rows(self.controls, self.wild[0], self.fate)

    @cached_property
    def motion(self) -> Rigid | None:
        """From the start's own frame to the body frame; None without positions."""
        if schema.SPATIAL not in self.new.obsm:
            return None
        raw, body = (np.asarray(self.new.obsm[k], dtype=float) for k in (schema.SPATIAL, schema.ALIGNED))
        a, b = raw.mean(axis=0), body.mean(axis=0)
        return best(a, b, (raw - a).T @ (body - b))

    @cached_property
    def _response(self) -> Any:
        return rollouts.response(self.run, self.panel, self.state.z.shape[1])

    def context(self, seed: int) -> perturb.Context:
        """Return what an edit needs to know; mosaics are drawn with the seed of the member."""
        known = schema.CELL_TYPE in self.new.obs
        types = tuple(self.new.obs[schema.CELL_TYPE].astype(str)) if known else None
        decay = self.run.config.perturb.decay_per_h
        return perturb.Context(self.panel, self._response, decay, types, seed, self.names)

    def how(self, seed: int, edits: Sequence[Edit]) -> dict[str, Any]:
        """Return what a roll-out is told beside law, start and times."""
        s = self.run.config.simulate
        about = {"seed": seed, "start": self.name, "edits": [e.to_json() for e in edits]}
        return {
            "step_h": s.step_h, "method": s.method, "panel": self.panel, "frame": self.frame, "cells": self.names,
            "device": s.device, "provenance": about,
        }  # fmt: skip

    def rolled(
        self, k: int, edits: Sequence[Edit], donors: Sequence[arms.Donors] = (), law: Field | None = None
    ) -> Trajectory:
        """Return the edited roll-out of the k-th seed, under its own law or the one that is given."""
        context, how = self.context(self.seeds[k]), self.how(self.seeds[k], edits)
        field = self.laws[k] if law is None else law
        return arms.edited(field, self.state, self.times_h, edits, context, donors, growth=self.growth, how=how)

    @property
    def frame(self) -> Any:
        """The body frame."""
        return arms.BODY_FRAME

    def graft(self, file: str) -> tuple[State, AnnData]:
        """Return the donor cells of a file: its positions are in the frame of the start's own positions.

        Raises
        ------
        EmbryoError
            If the file cannot be read or lacks what the run needs.
        """
        path = Path(file)
        donors = read.auto(path, boards.keys(self.run.config.read), needs=schema.SNAPSHOT)
        donors = starts.prepared(self.run, self.adata, donors, path)
        if self.motion is not None:
            donors.obsm[schema.ALIGNED] = self.motion(np.asarray(donors.obsm[schema.SPATIAL], dtype=float))
        return fit.states(donors), donors

    def check(self, edits: Sequence[Edit]) -> None:
        """Raise unless start, times and law hold what the edits ask for.

        Raises
        ------
        EditError
            With all problems of all edits.
        """
        problems: list[Problem] = []
        context = self.context(self.seeds[0])
        if not edits:
            problems.append(Problem("no edit", "at least one", "give --knockout GENE or another one"))
        try:
            perturb.check(edits, context, self.laws[0])
        except EditError as error:
            problems += error.problems
        for edit in edits:
            problems += self._of_time_and_place(edit, context)
        if problems:
            raise EditError(*dict.fromkeys(problems), subject="perturb")

    def _of_time_and_place(self, edit: Edit, context: perturb.Context) -> list[Problem]:
        begin, end, problems = self.times_h[0], self.times_h[-1], []
        if edit.t_on_h >= end or edit.t_off_h <= begin:
            found = f"{edit.label} from {edit.t_on_h:g} to {edit.t_off_h:g} h"
            expected = f"a window that meets the roll-out, {begin:g} to {end:g} h"
            problems.append(Problem(found, expected, "move --from and --to, or roll further with --until-h"))
        if edit.operation in CELL_OPERATIONS and self.growth == "particles":
            found = f"{edit.label} with growth as particles"
            problems.append(Problem(found, "growth as mass", "fit with simulate.growth=mass"))
        if edit.operation is Operation.GRAFT and not Path(edit.file or "").is_file():
            problems.append(Problem(f"no file {edit.file}", "cells to graft, h5ad", "check the path"))
        try:
            carried = perturb.carriers([edit], self.state, context)
        except EditError as error:
            return [*problems, *error.problems]
        if edit.region is not None and not bool(carried.any()):
            problems.append(Problem(f"no cell of the start in {edit.words}", "at least one", "widen the region"))
        if edit.operation is Operation.ABLATE and bool(carried.all()):
            problems.append(Problem(f"{edit.label}: every cell", "some cells left", "ablate fewer"))
        return problems


def _trained_h(adata: AnnData) -> tuple[float, float]:
    t = adata.obs.loc[(adata.obs[cells.SPLIT] == cells.TRAIN).to_numpy(), schema.TIME].to_numpy(float)
    return float(t.min()), float(t.max())


def _by_time(adata: AnnData, above_h: float = -np.inf) -> list[tuple[float, AnnData]]:
    t = adata.obs[schema.TIME].to_numpy(float)
    return [(float(u), adata[t == u]) for u in np.unique(t) if u > above_h + schema.SAME_TIME_H]


def _by_embryo_and_time(adata: AnnData) -> list[tuple[float, AnnData]]:
    embryo = adata.obs[schema.EMBRYO].astype(str).to_numpy()
    return [pair for name in np.unique(embryo) for pair in _by_time(adata[embryo == name])]
