"""From states and loose arrays to checked float64 clouds of cells."""

import numpy as np
from jaxtyping import Float

from embryo.core.errors import Problem, SchemaError
from embryo.core.state import State


def arrays(
    state: State,
) -> tuple[Float[np.ndarray, "cells dims"], Float[np.ndarray, "cells space"], Float[np.ndarray, " cells"]]:
    """Return embedding z, position x (µm) and mass (cells) of a state as float64 arrays."""
    z, x, log_mass = (part.detach().cpu().double().numpy() for part in (state.z, state.x, state.log_mass))
    return z, x, np.exp(log_mass)


def cloud(
    points: Float[np.ndarray, "cells dims"], mass: Float[np.ndarray, " cells"] | None, subject: str
) -> tuple[Float[np.ndarray, "cells dims"], Float[np.ndarray, " cells"]]:
    """Return points and masses in float64, after checking them; every particle counts once where `mass` is None.

    Raises
    ------
    SchemaError
        If there are no cells, no mass, or numbers that are not finite; all problems at once.
    """
    points = np.asarray(points, dtype=float)
    weights = np.ones(len(points)) if mass is None else np.asarray(mass, dtype=float)
    problems = []
    bad = int((~np.isfinite(points).all(axis=1)).sum())
    if bad:
        problems.append(Problem(f"{bad} cells with NaN or infinite numbers", "finite numbers", "leave these cells out"))
    if len(weights) != len(points):
        problems.append(Problem(f"{len(weights)} masses for {len(points)} cells", "one each", "give one mass per cell"))
    if not np.isfinite(weights).all() or (weights < 0).any():
        problems.append(Problem("masses below 0, NaN or infinite", "masses of 0 or more", "give exp(log_mass)"))
    elif not weights.sum() > 0:
        problems.append(Problem("no cells, or none with mass", "at least one cell", "measure a time with living cells"))
    if problems:
        raise SchemaError(*problems, subject=subject)
    return points, weights
