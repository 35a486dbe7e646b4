"""States as scores see them: float64 clouds with masses, thinned where they are large."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from embryo import measure
from embryo.core.errors import Problem, SchemaError
from embryo.core.state import State


@dataclass(frozen=True, eq=False)
class Cloud:
    """Cells at one time.

    Parameters
    ----------
    z, x, mass
        States, positions (µm; zero columns without space), cells per particle.
    """

    z: Float[np.ndarray, "cells dims"]
    x: Float[np.ndarray, "cells space"]
    mass: Float[np.ndarray, " cells"]

    @classmethod
    def of(cls, state: State, subject: str) -> "Cloud":
        """Return a state as a cloud.

        Raises
        ------
        SchemaError
            If it has no mass, or numbers that are not finite.
        """
        z, x, log_mass = (part.detach().cpu().double().numpy() for part in (state.z, state.x, state.log_mass))
        mass = np.exp(log_mass)
        finite = np.isfinite(z).all() and np.isfinite(x).all() and np.isfinite(mass).all()
        if not (finite and mass.sum() > 0):
            found = "no mass, or numbers that are NaN or infinite"
            raise SchemaError(Problem(found, "finite states with mass", "look at the roll-out"), subject=subject)
        return cls(z, x, mass)

    def __len__(self) -> int:
        return len(self.z)

    def __getitem__(self, rows: np.ndarray) -> "Cloud":
        return Cloud(self.z[rows], self.x[rows], self.mass[rows])

    def thin(self, most: int) -> "Cloud":
        """Return at most so many particles, drawn in proportion to mass."""
        rows, mass = measure.thin(self.mass, most)
        return Cloud(self.z[rows], self.x[rows], mass)

    def level(self) -> "Cloud":
        """Return the cloud with every particle that has mass counting once."""
        kept = self[self.mass > 0]
        return Cloud(kept.z, kept.x, np.ones(len(kept)))

    @property
    def even(self) -> bool:
        """Whether all masses are the same."""
        return bool(np.ptp(self.mass) <= 1e-6 * self.mass.max())


@dataclass(frozen=True)
class Score:
    """One number, and how each true cell bears on it.

    Parameters
    ----------
    value
        The score.
    influence
        How it answers, to first order, to weight on each cell of the truth, mean 0; None where the truth is a single
        number.
    """

    value: float
    influence: Float[np.ndarray, " cells"] | None = None


@dataclass(frozen=True, eq=False)
class Held:
    """The held-out stage, every cell of it counting once, and the units it is measured in.

    Parameters
    ----------
    cells
        The truth.
    labels, groups
        Type (``""`` where unknown) and embryo of every cell.
    spread_z, spread_x
        RMS radius of the training stages, in states and in space.
    """

    cells: Cloud
    labels: np.ndarray
    groups: np.ndarray
    spread_z: float
    spread_x: float


def spread(points: list[Float[np.ndarray, "..."]]) -> float:
    """Return the RMS radius of stages laid together, each weighing the same; 1 where all points coincide."""
    mean = np.mean([p.mean(axis=0) for p in points], axis=0)
    square = np.mean([((p - mean) ** 2).sum(axis=1).mean() for p in points])
    return float(np.sqrt(square)) or 1.0
