"""The synthetic embryo through time: circuit, signal, forces, growth and division, one step after the other."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Bool, Float, Int

from embryo.core import pedigree
from embryo.core.edit import Edit
from embryo.core.luck import KeyedRandom, Purpose
from embryo.datasets.synthetic import interventions
from embryo.datasets.synthetic.circuit import INDEX, PANEL
from embryo.datasets.synthetic.ligand import signal
from embryo.datasets.synthetic.mechanics import (
    Mechanics,
    Neighbours,
    bonds,
    neighbours,
    pair_velocity,
    single_velocity,
)
from embryo.datasets.synthetic.params import DEFAULT, Growth, Params, steps

_PACKING_STEPS = 40


@dataclass(frozen=True, eq=False)
class Snapshot:
    """The true embryo at one time, one row per cell, in the body frame.

    Parameters
    ----------
    t_h
        Time.
    g
        Expression of `PANEL`, 1 = saturated.
    x
        Position, µm.
    inputs
        What the circuit sees besides g: `INPUTS`.
    dg, dx
        Deterministic velocity of g per hour and of x in µm/h, without noise.
    cell, parent, clone
        Cell number, mother (-1 for founders) and founder, as in `embryo.core.pedigree`.
    mutant
        Whether the cell carries any edit.
    """

    t_h: float
    g: Float[np.ndarray, "cells genes"]
    x: Float[np.ndarray, "cells 3"]
    inputs: Float[np.ndarray, "cells inputs"]
    dg: Float[np.ndarray, "cells genes"]
    dx: Float[np.ndarray, "cells 3"]
    cell: Int[np.ndarray, " cells"]
    parent: Int[np.ndarray, " cells"]
    clone: Int[np.ndarray, " cells"]
    mutant: Bool[np.ndarray, " cells"]


@dataclass(frozen=True, eq=False)
class Embryo:
    """One simulated embryo.

    Parameters
    ----------
    snapshots
        In the order of time.
    seed, edits
        What made it.
    doses
        Of the three maternal gradients.
    """

    snapshots: tuple[Snapshot, ...]
    seed: int
    edits: tuple[Edit, ...]
    doses: tuple[float, float, float]

    @property
    def times_h(self) -> tuple[float, ...]:
        """Times of the snapshots."""
        return tuple(snapshot.t_h for snapshot in self.snapshots)

    def at(self, t_h: float) -> Snapshot:
        """Return the snapshot nearest to `t_h`."""
        return min(self.snapshots, key=lambda snapshot: abs(snapshot.t_h - t_h))


def simulate(params: Params = DEFAULT, *, seed: int, edits: Sequence[Edit] = (), times_h: Sequence[float]) -> Embryo:
    """Grow one embryo from the egg to the last of `times_h`.

    Parameters
    ----------
    params
        The embryo's numbers.
    seed
        Same seed, same embryo: bit for bit. Embryos of one seed with different edits share doses, founders and, cell by
        cell, their noise.
    edits
        True edits, applied to the generator itself; doses in units of a gene's saturated level.
    times_h
        When to record; multiples of the step.

    Returns
    -------
    Embryo

    Raises
    ------
    EditError
        If an edit names an unknown gene or a cell type.
    ConfigError
        If a time is negative or lies between two steps, or a number of `params` is out of range.
    """
    interventions.check(edits)
    wanted = steps(params, times_h)
    run = _Run.prepare(params, seed, tuple(edits))
    tissue = run.start()
    snapshots = []
    for step in range(max(wanted) + 1):
        tissue = run.hold(step, tissue)
        rates = run.rates(step, tissue)
        if step in wanted:
            snapshots.append(run.snapshot(step, tissue, rates))
        if step < max(wanted):
            tissue = run.advance(step, tissue, rates)
    return Embryo(tuple(snapshots), seed, tuple(edits), run.doses)


@dataclass(frozen=True, eq=False)
class _Tissue:
    """Cells between two steps; `hazard` is the division hazard summed since birth, `origin` the place in the egg."""

    cell: Int[np.ndarray, " cells"]
    g: Float[np.ndarray, "cells genes"]
    x: Float[np.ndarray, "cells 3"]
    origin: Float[np.ndarray, "cells 3"]
    hazard: Float[np.ndarray, " cells"]

    def chosen(self, rows: np.ndarray) -> "_Tissue":
        return _Tissue(self.cell[rows], self.g[rows], self.x[rows], self.origin[rows], self.hazard[rows])

    def beside(self, other: "_Tissue") -> "_Tissue":
        pairs = ((getattr(self, name), getattr(other, name)) for name in self.__dataclass_fields__)
        return _Tissue(*(np.concatenate(pair) for pair in pairs))


@dataclass(frozen=True, eq=False)
class _Forces:
    """What moves the cells within one step: only their positions change while it lasts."""

    mechanics: Mechanics
    near: Neighbours
    strengths: tuple[Float[np.ndarray, " pairs"], Float[np.ndarray, " pairs"]]
    single: Float[np.ndarray, "cells 3"]

    @classmethod
    def between(cls, mechanics: Mechanics, tissue: _Tissue, slope: np.ndarray) -> "_Forces":
        near = neighbours(mechanics, tissue.x)
        single = single_velocity(mechanics, tissue.x, tissue.g, slope)
        return cls(mechanics, near, bonds(mechanics, tissue.g, near), single)

    def __call__(self, x: Float[np.ndarray, "cells 3"]) -> Float[np.ndarray, "cells 3"]:
        return np.asarray(self.single + pair_velocity(self.mechanics, x, self.near, self.strengths))


@dataclass(frozen=True, eq=False)
class _Rates:
    """What the circuit sees and makes, and the velocities that follow."""

    inputs: Float[np.ndarray, "cells inputs"]
    production: Float[np.ndarray, "cells genes"]
    forces: _Forces | None
    dx: Float[np.ndarray, "cells 3"]


@dataclass(frozen=True, eq=False)
class _Run:
    """One embryo's fixed numbers and luck, and the steps of its development."""

    params: Params
    random: KeyedRandom
    edits: tuple[Edit, ...]
    doses: tuple[float, float, float]
    founders: _Tissue
    carried_by_clone: Bool[np.ndarray, "edits clones"]

    @classmethod
    def prepare(cls, params: Params, seed: int, edits: tuple[Edit, ...]) -> "_Run":
        rng = np.random.default_rng(seed)
        a, p, v = np.exp(params.maternal.dose_sd * rng.normal(size=3)).tolist()
        x = _packed_ellipsoid(params, rng)
        g = np.abs(rng.normal(0, 0.02, (params.n_cells, len(PANEL))))
        cell = pedigree.founders(params.n_cells)
        founders = _Tissue(cell, g, x, x, np.zeros(params.n_cells))
        random = KeyedRandom(seed)
        lots = random.uniform(Purpose.MOSAIC, 0, cell, 1)[:, 0]
        return cls(params, random, edits, (a, p, v), founders, interventions.carriers(edits, lots))

    def carried(self, tissue: _Tissue) -> Bool[np.ndarray, "edits cells"]:
        carried: np.ndarray = self.carried_by_clone[:, pedigree.clone(tissue.cell)]
        return carried

    def start(self) -> _Tissue:
        return replace(self.founders, g=interventions.start_levels(self.edits, self.carried_by_clone, self.founders.g))

    def time_h(self, step: int) -> float:
        return round(step * self.params.dt_h, 9)

    def hold(self, step: int, tissue: _Tissue) -> _Tissue:
        held = interventions.clamped_levels(self.edits, self.time_h(step), self.carried(tissue), tissue.g)
        return replace(tissue, g=held)

    def rates(self, step: int, tissue: _Tissue) -> _Rates:
        params, t_h = self.params, self.time_h(step)
        gradients = params.maternal.levels(tissue.origin, params.semi_axes_um, t_h) * self.doses
        level, slope = signal(params.ligand, tissue.x, tissue.g[:, INDEX["ligand"]])
        inputs = np.column_stack([gradients, level])
        production = interventions.edited_production(
            self.edits,
            t_h,
            self.carried(tissue),
            params.circuit.production(tissue.g, inputs),
            params.circuit.decay_per_h,
        )
        if params.mechanics is None:
            return _Rates(inputs, production, None, np.zeros_like(tissue.x))
        forces = _Forces.between(params.mechanics, tissue, slope)
        return _Rates(inputs, production, forces, forces(tissue.x))

    def snapshot(self, step: int, tissue: _Tissue, rates: _Rates) -> Snapshot:
        cell = tissue.cell
        return Snapshot(
            t_h=self.time_h(step),
            g=tissue.g,
            x=tissue.x,
            inputs=rates.inputs,
            dg=rates.production - self.params.circuit.decay_per_h * tissue.g,
            dx=rates.dx,
            cell=cell,
            parent=pedigree.parent(cell),
            clone=pedigree.clone(cell),
            mutant=np.asarray(self.carried(tissue).any(axis=0)),
        )

    def advance(self, step: int, tissue: _Tissue, rates: _Rates) -> _Tissue:
        growth = self.params.growth
        moved = replace(tissue, g=self._express(step, tissue, rates.production), x=self._move(step, tissue, rates))
        if growth is None:
            return moved
        hazard = growth.base_per_h + growth.gene_per_h * tissue.g[:, INDEX["growth"]]
        moved = replace(moved, hazard=tissue.hazard + hazard * self.params.dt_h)
        return self._divide(moved, growth) if (step + 1) % growth.every_steps == 0 else moved

    def _express(self, step: int, tissue: _Tissue, production: np.ndarray) -> np.ndarray:
        """One step of the chemical Langevin equation (Gillespie 2000, J. Chem. Phys. 113:297).

        Mean and variance are exact while the production is constant, so that a gene at rest is Poisson in molecules.
        """
        dt, decay = self.params.dt_h, self.params.circuit.decay_per_h
        left = np.exp(-decay * dt)
        time = (1 - left**2) / (2 * decay)
        spread = np.sqrt((production + decay * tissue.g) * time / self.params.molecules)
        noise = self.random.normal(Purpose.EXPRESSION, step, tissue.cell, tissue.g.shape[1])
        return np.asarray(np.maximum(tissue.g * left + production * (1 - left) / decay + spread * noise, 0))

    def _move(self, step: int, tissue: _Tissue, rates: _Rates) -> np.ndarray:
        """Euler-Maruyama steps of the overdamped forces, several within one step of the circuit."""
        if rates.forces is None:
            return tissue.x
        mechanics, dt = rates.forces.mechanics, self.params.dt_h
        substeps = int(np.ceil(dt / mechanics.stable_step_h - 1e-9))
        x = tissue.x + dt / substeps * rates.dx
        for _ in range(substeps - 1):
            x = x + dt / substeps * rates.forces(x)
        stride = np.sqrt(2 * mechanics.diffusivity_um2_per_h * dt)
        return np.asarray(x + stride * self.random.normal(Purpose.MOTION, step, tissue.cell, 3))

    def _divide(self, tissue: _Tissue, growth: Growth) -> _Tissue:
        due = -np.log(self.random.uniform(Purpose.CYCLE, 0, tissue.cell, 1)[:, 0])
        divides = (tissue.hazard > due) & pedigree.divisible(tissue.cell)
        if not divides.any() or len(tissue.cell) + divides.sum() > growth.max_cells:
            return tissue
        mother = replace(tissue, hazard=tissue.hazard - due).chosen(divides)
        axis = self.random.normal(Purpose.AXIS, 0, mother.cell, 3)
        axis *= 0.5 * growth.offset_um / np.linalg.norm(axis, axis=1, keepdims=True)
        born = [
            self._daughter(mother, growth, cell, shift)
            for cell, shift in zip(pedigree.daughters(mother.cell), (axis, -axis), strict=True)
        ]
        return tissue.chosen(~divides).beside(born[0]).beside(born[1])

    def _daughter(self, mother: _Tissue, growth: Growth, cell: np.ndarray, shift: np.ndarray) -> _Tissue:
        share = 1 + growth.partition_sd * self.random.normal(Purpose.PARTITION, 0, cell, mother.g.shape[1])
        return replace(mother, cell=cell, g=mother.g * np.maximum(share, 0), x=mother.x + shift)


def _packed_ellipsoid(params: Params, rng: np.random.Generator) -> Float[np.ndarray, "cells 3"]:
    """Positions uniform in the ellipsoid, let go until neighbours no longer overlap much."""
    mechanics = params.mechanics or Mechanics()
    x = rng.normal(size=(params.n_cells, 3))
    x *= rng.uniform(size=(params.n_cells, 1)) ** (1 / 3) / np.linalg.norm(x, axis=1, keepdims=True)
    x *= params.semi_axes_um
    for _ in range(_PACKING_STEPS):
        near = neighbours(mechanics, x)
        none = np.zeros(len(near.first))
        x = x + mechanics.stable_step_h * pair_velocity(mechanics, x, near, (none, none))
    return x
