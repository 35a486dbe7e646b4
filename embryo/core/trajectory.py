"""Trajectory: states over time, with units, frame and provenance."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from embryo.core.axes import disagreements
from embryo.core.errors import Problem, SchemaError
from embryo.core.frame import Frame
from embryo.core.state import State

AXES = {
    "times_h": ("times",),
    "z": ("times", "cells", "dims"),
    "g": ("times", "cells", "genes"),
    "x": ("times", "cells", "space"),
    "log_mass": ("times", "cells"),
    "panel": ("genes",),
    "cells": ("cells",),
}


@dataclass(frozen=True, eq=False)
class Trajectory:
    """The same particles at every time.

    Parameters
    ----------
    times_h
        Times in hours, strictly increasing (decreasing for a backward roll-out).
    z, g, x, log_mass
        As in `State`, with time as the first axis; x in µm.
    panel
        Names of the genes of g; empty where they have none.
    frame
        Frame of x.
    cells
        Names of the particles.
    provenance
        Seed, method, step, config, versions: whatever is needed to make it again.

    Raises
    ------
    SchemaError
        Listing every axis on which the parts disagree, and times that do not run one way.
    """

    times_h: Float[Tensor, " times"]
    z: Float[Tensor, "times cells dims"]
    g: Float[Tensor, "times cells genes"]
    x: Float[Tensor, "times cells space"]
    log_mass: Float[Tensor, "times cells"]
    panel: tuple[str, ...]
    frame: Frame
    cells: tuple[str, ...]
    provenance: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        shapes = {name: tuple(getattr(self, name).shape) for name in ("times_h", "z", "g", "x", "log_mass")}
        names = {"panel": (len(self.panel),), "cells": (len(self.cells),)}
        problems = disagreements(shapes | (names if self.panel else {"cells": names["cells"]}), AXES)
        problems += _times(self.times_h)
        if problems:
            raise SchemaError(*problems, subject="trajectory")

    def __len__(self) -> int:
        return len(self.times_h)

    def at(self, k: int) -> State:
        """Return the state at the k-th time."""
        return State(self.z[k], self.g[k], self.x[k], self.log_mass[k])

    def nearest(self, t_h: float) -> State:
        """Return the state at the stored time nearest to `t_h`."""
        return self.at(int((self.times_h - t_h).abs().argmin()))

    def gene(self, name: str) -> Float[Tensor, "times cells"]:
        """Return one panel gene over time.

        Raises
        ------
        SchemaError
            If the panel does not hold the gene.
        """
        if name not in self.panel:
            near = get_close_matches(name, self.panel)
            cure = (
                f"write {' or '.join(near)} if that is meant"
                if near
                else "name a gene of the panel, or add it to the panel"
            )
            shown = ", ".join(self.panel[:12]) + (", ..." if len(self.panel) > 12 else "")
            expected = f"one of the {len(self.panel)} genes of the panel: {shown}"
            raise SchemaError(Problem(f"gene {name!r}", expected, cure), subject="trajectory")
        return self.g[:, :, self.panel.index(name)]

    def moved(self, x: Float[Tensor, "times cells space"], frame: Frame) -> "Trajectory":
        """Return a copy with other positions in another frame."""
        return replace(self, x=x, frame=frame)

    @classmethod
    def of(
        cls,
        times_h: Float[Tensor, " times"],
        states: list[State],
        *,
        panel: tuple[str, ...],
        frame: Frame,
        cells: tuple[str, ...] | None = None,
        provenance: Mapping[str, Any] | None = None,
    ) -> "Trajectory":
        """Stack states, one per time; cells without names are numbered.

        Raises
        ------
        SchemaError
            If there is no state, or the states differ in shape.
        """
        shapes = {tuple(tuple(part.shape) for part in s.parts()) for s in states}
        if len(shapes) != 1:
            found = f"{len(states)} states of {len(shapes)} different shapes"
            problem = Problem(found, "one state per time, all of the same cells", "stack the states of one roll-out")
            raise SchemaError(problem, subject="trajectory")
        z, g, x, log_mass = (torch.stack(part) for part in zip(*(s.parts() for s in states), strict=True))
        names = cells if cells is not None else tuple(str(i) for i in range(z.shape[1]))
        return cls(times_h, z, g, x, log_mass, panel, frame, names, dict(provenance or {}))


def _times(times_h: Tensor) -> list[Problem]:
    steps = times_h.diff()
    one_way = bool((steps > 0).all()) or bool((steps < 0).all())
    if len(times_h) and one_way and bool(times_h.isfinite().all()):
        return []
    found = f"times {[round(t, 6) for t in times_h.tolist()[:12]]} h"
    return [Problem(found, "one or more finite times, strictly rising or falling", "sort them and drop repeats")]
