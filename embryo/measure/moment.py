"""Every quantity of the table of a perturbation: of one embryo at one time, and between two."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float, Shaped

from embryo.core.state import State
from embryo.measure.arrays import arrays
from embryo.measure.composition import FateClassifier, bray_curtis, composition
from embryo.measure.distance import chamfer_um, energy_distance
from embryo.measure.form import d2_shape, form_overlap
from embryo.measure.neighbourhood import mixing
from embryo.measure.shape import SIZE_UNITS, size

_MAX_CELLS = 1000  # for the energy distances: they are taken between every pair of embryos
_PAIRS = 5_000  # of cells, for the distances within a body
_UNITS = SIZE_UNITS | {
    "fraction": "1",
    "mixing": "1",
    "switched": "1",
    "bray_curtis": "1",
    "energy_distance[z]": "1",
    "energy_distance[x]": "µm",
    "chamfer_um": "µm",
    "d2": "RMS radii",
    "form_mismatch": "1",
    "displacement_um": "µm",
}
_SIGNED = ("mixing", "energy_distance[z]", "energy_distance[x]")  # all others cannot be negative


@dataclass(frozen=True)
class Moment:
    """One embryo at one time, as arrays and with its fates read.

    Parameters
    ----------
    state
        The state itself.
    z, x, mass
        Its embedding, position (µm) and cells per particle, float64.
    fate
        Fate of each particle.
    share
        Composition of the embryo.
    cells
        Names of the particles of a roll-out; None for a measured embryo, whose cells are nobody else's.
    """

    state: State
    z: Float[np.ndarray, "cells dims"]
    x: Float[np.ndarray, "cells space"]
    mass: Float[np.ndarray, " cells"]
    fate: Shaped[np.ndarray, " cells"]
    share: pd.Series
    cells: tuple[str, ...] | None


def moment(state: State, fate: FateClassifier, cells: tuple[str, ...] | None = None) -> Moment:
    """Read the fates of a state and hold it ready for measurement."""
    z, x, mass = arrays(state)
    label = fate.predict(z)
    return Moment(state, z, x, mass, label, composition(label, mass, fate.fates), cells)


def unit(metric: str) -> str:
    """Return the unit of a quantity of `of_one` or `of_two`."""
    return _UNITS[metric] if metric in _UNITS else _UNITS[metric.split("[", maxsplit=1)[0]]


def least(metric: str) -> float:
    """Return what a quantity of `of_one` or `of_two` cannot fall below; its difference between two embryos can."""
    return -np.inf if metric in _SIGNED else 0.0


def of_one(m: Moment) -> dict[str, float]:
    """Return the quantities of one embryo: ``fraction[FATE]``, those of `size`, and ``mixing`` of the fates."""
    result = {f"fraction[{name}]": float(share) for name, share in m.share.items()}
    result |= {str(name): float(value) for name, value in size(m.state).items()}
    if m.x.shape[1]:
        result["mixing"] = mixing(m.x, m.fate, m.mass)
    return result


def of_two(a: Moment, b: Moment, seed: int) -> dict[str, float]:
    """Return the distances between two embryos; cell by cell as well where both are roll-outs of the same cells.

    ``bray_curtis[fates]``, ``energy_distance[z]``, and with space ``energy_distance[x]``, ``chamfer_um``, ``d2`` (form
    whatever the pose and scale) and ``form_mismatch`` (share of the room on the principal axes that is not common,
    never mirrored). Of the same cells ``switched`` (share of cells whose fate differs), ``displacement_um`` and
    ``displacement_um[FATE]`` (the fate in a), means weighted by the masses of a.
    """
    same = a.cells is not None and a.cells == b.cells
    how: dict[str, Any] = {"paired": same, "max_cells": _MAX_CELLS, "seed": seed}
    result = {
        "bray_curtis[fates]": bray_curtis(a.share, b.share),
        "energy_distance[z]": energy_distance(a.z, b.z, a.mass, b.mass, **how),
    }
    if a.x.shape[1]:
        result["energy_distance[x]"] = energy_distance(a.x, b.x, a.mass, b.mass, **how)
        result["chamfer_um"] = chamfer_um(a.x, b.x, a.mass, b.mass)
        result["d2"] = d2_shape(a.x, b.x, a.mass, b.mass, pairs=_PAIRS, seed=seed, paired=same).value
        result["form_mismatch"] = 1 - form_overlap(a.x[a.mass > 0], b.x[b.mass > 0])
    if same:
        result |= _cell_by_cell(a, b)
    return result


def _cell_by_cell(a: Moment, b: Moment) -> dict[str, float]:
    result = {"switched": float(np.average(a.fate != b.fate, weights=a.mass))}
    if a.x.shape[1]:
        apart = np.linalg.norm(b.x - a.x, axis=1)
        result["displacement_um"] = float(np.average(apart, weights=a.mass))
        for name in a.share.index:
            mass = a.mass * (a.fate == name)
            result[f"displacement_um[{name}]"] = float(apart @ mass / mass.sum()) if mass.sum() > 0 else float("nan")
    return result
