"""States of an embryo at several times -> the series of levels that circuits are fitted to."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from embryo.core.state import State
from embryo.fields.circuit import Ligands
from embryo.fit.moments import Series, Stage

_SATURATED = 99.0


@dataclass(frozen=True, eq=False)
class Riding:
    """What rides with the cells of one stage.

    Parameters
    ----------
    material
        Coordinates of the tissue: origins of tracked cells, or positions carried back to one stage.
    inputs
        Inputs measured in every cell; None where they are unknown.
    growth_per_h
        Birth minus death of every cell; None for none.
    dy
        Measured velocity of levels, per hour; NaN where a gene has none in a cell, None where nothing was measured.
    counted
        Levels before they were shrunk; None where they were not.
    """

    material: Float[Tensor, "cells axes"]
    inputs: Float[Tensor, "cells inputs"] | None = None
    growth_per_h: Float[Tensor, " cells"] | None = None
    dy: Float[Tensor, "cells genes"] | None = None
    counted: Float[Tensor, "cells genes"] | None = None


def unit_of(g: Float[np.ndarray, "cells genes"]) -> Float[np.ndarray, " genes"]:
    """Return each gene's own scale: the 99th percentile of expm1(g) over cells; 1 where that is 0."""
    top = np.percentile(np.expm1(g), _SATURATED, axis=0)
    return np.asarray(np.where(top > 0, top, 1.0))


def series(
    times_h: Sequence[float],
    states: Sequence[State],
    embryos: Sequence[Int[Tensor, " _"]],
    riding: Sequence[Riding],
    unit: Float[Tensor, " genes"],
    ligands: Ligands | None = None,
    silenced: tuple[int, ...] = (),
) -> Series:
    """Return levels, inputs and received signals of every stage, in double precision.

    Parameters
    ----------
    times_h, states
        Of the stages, in the order of time; positions in µm.
    embryos
        Which embryo each cell is of: signals do not pass between embryos.
    riding
        Material coordinates, inputs and growth.
    unit
        As `unit_of` gives it, or as a circuit holds it.
    ligands
        What is secreted.
    silenced
        Columns of genes that make nothing: those of a knock-out.
    """
    stages = []
    for t_h, state, embryo, own in zip(times_h, states, embryos, riding, strict=True):
        y = torch.expm1(state.g.double()) / unit.double()
        none = y.new_zeros(len(y), 0)
        received = y.new_zeros(len(y), len(ligands.columns) if ligands else 0)
        if ligands is not None:
            for one in embryo.unique():
                rows = embryo == one
                received[rows] = ligands(y[rows], state.x[rows].double(), state.mass[rows].double())
        growth = None if own.growth_per_h is None else own.growth_per_h.double()
        inputs = none if own.inputs is None else own.inputs.double()
        stages.append(
            Stage(float(t_h), y, inputs, received, own.material.double(), embryo, growth, own.dy, own.counted)
        )
    return Series(tuple(stages), silenced)
