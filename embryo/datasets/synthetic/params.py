"""The numbers of the synthetic embryo, in µm and hours, and the two laws that have no file of their own."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Float

from embryo.core.errors import ConfigError, Problem
from embryo.datasets.synthetic.circuit import Circuit
from embryo.datasets.synthetic.ligand import Ligand
from embryo.datasets.synthetic.mechanics import Mechanics


@dataclass(frozen=True)
class Maternal:
    """Gradients laid down in the egg: they ride with the tissue and fade.

    With X the position at time 0, L and b the half-length and half-height of the egg, and one dose per embryo and
    gradient, lognormal(0, `dose_sd`):

        maternal_a = dose_a exp(-(X_1 + L) / length_a) exp(-t / lifetime)     from the anterior pole
        maternal_p = dose_p exp(-(L - X_1) / length_p) exp(-t / lifetime)     from the posterior pole
        maternal_v = dose_v exp(-(X_3 + b) / length_v) exp(-t / lifetime)     from the ventral side

    Parameters
    ----------
    lengths_um
        length_a, length_p, length_v.
    lifetime_h
        Time over which the gradients fade.
    dose_sd
        Spread of the log dose between embryos.
    """

    lengths_um: tuple[float, float, float] = (75.0, 75.0, 27.5)
    lifetime_h: float = 9.0
    dose_sd: float = 0.2

    def levels(
        self, origin: Float[np.ndarray, "cells 3"], semi_axes_um: tuple[float, float, float], t_h: float
    ) -> Float[np.ndarray, "cells 3"]:
        """Return the three gradients at dose 1 for cells that stem from `origin` (µm, body frame)."""
        half_length, _, half_height = semi_axes_um
        away = np.stack([origin[:, 0] + half_length, half_length - origin[:, 0], origin[:, 2] + half_height], axis=1)
        levels: np.ndarray = np.exp(-away / np.array(self.lengths_um) - t_h / self.lifetime_h)
        return levels


@dataclass(frozen=True)
class Growth:
    """Division with hazard ``base_per_h + gene_per_h * growth``.

    Each cell draws one exponential number at birth and divides when its summed hazard passes it, which is the exact law
    of that hazard and leaves a cell's luck untouched by what others do.

    Parameters
    ----------
    base_per_h, gene_per_h
        Hazard without, and added by, a fully expressed growth gene.
    every_steps
        Divisions happen every so many steps.
    partition_sd
        Relative spread of what each daughter inherits.
    offset_um
        Distance between newborn daughters.
    max_cells
        Divisions stop here.
    """

    base_per_h: float = 0.012
    gene_per_h: float = 0.115
    every_steps: int = 5
    partition_sd: float = 0.05
    offset_um: float = 3.0
    max_cells: int = 30_000


@dataclass(frozen=True)
class Params:
    """The synthetic embryo's numbers, in µm and hours.

    Parameters
    ----------
    n_cells
        At the start.
    semi_axes_um
        Of the starting ellipsoid: half-length along the anterior-posterior axis x (anterior at -x), half-width along y,
        half-height along the ventral-dorsal axis z (ventral at -z).
    dt_h
        Step.
    molecules
        Molecules in a cell at expression 1; sets the chemical-Langevin noise, whose variance per hour is
        (production + decay) / molecules.
    circuit, maternal, ligand
        Their own numbers.
    mechanics, growth
        Their own numbers; None for a tissue that does not move, or does not divide.
    """

    n_cells: int = 1200
    semi_axes_um: tuple[float, float, float] = (110.0, 50.0, 50.0)
    dt_h: float = 0.1
    molecules: float = 1600.0
    circuit: Circuit = field(default_factory=Circuit)
    maternal: Maternal = field(default_factory=Maternal)
    ligand: Ligand = field(default_factory=Ligand)
    mechanics: Mechanics | None = field(default_factory=Mechanics)
    growth: Growth | None = field(default_factory=Growth)


DEFAULT = Params()
DURATION_H = 16.0


def steps(params: Params, times_h: Sequence[float]) -> set[int]:
    """Step numbers of the times; refuses times and numbers that cannot be simulated."""
    problems = [
        Problem(f"{name} = {value:g}", "a number above 0", f"give {name} a positive value")
        for name, value in (
            ("n_cells", params.n_cells),
            ("dt_h", params.dt_h),
            ("molecules", params.molecules),
            ("smallest decay_per_h", params.circuit.decay_per_h.min()),
            ("smallest semi-axis", min(params.semi_axes_um)),
        )
        if not value > 0
    ]
    if not len(times_h):
        problems.append(Problem("no times", "at least one time", "give times_h, such as (0, 4, 8, 12, 16)"))
    off = [t for t in times_h if params.dt_h > 0 and not _on_grid(t, params.dt_h)]
    if off:
        problems.append(Problem(f"times {off} h", f"multiples of dt_h = {params.dt_h:g} h from 0", "round them"))
    if problems:
        raise ConfigError(*problems, subject="synthetic embryo")
    return {round(t / params.dt_h) for t in times_h}


def _on_grid(t_h: float, dt_h: float) -> bool:
    return t_h >= 0 and abs(t_h / dt_h - round(t_h / dt_h)) < 1e-6
