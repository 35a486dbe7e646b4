"""Trajectory: states over time, with units, frame and provenance."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from embryo.core.frame import Frame
from embryo.core.state import State


@dataclass(frozen=True)
class Trajectory:
    """The same particles at every time.

    Parameters
    ----------
    times_h
        Times in hours, increasing (decreasing for a backward roll-out).
    z, g, x, log_mass
        As in `State`, with time as the first axis; x in µm.
    panel
        Names of the genes of g.
    frame
        Frame of x.
    cells
        Names of the particles.
    provenance
        Seed, method, step, config, versions: whatever is needed to make it again.
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

    def __len__(self) -> int:
        return len(self.times_h)

    def at(self, k: int) -> State:
        """Return the state at the k-th time."""
        return State(self.z[k], self.g[k], self.x[k], self.log_mass[k])

    def nearest(self, t_h: float) -> State:
        """Return the state at the stored time nearest to `t_h`."""
        return self.at(int((self.times_h - t_h).abs().argmin()))

    def gene(self, name: str) -> Float[Tensor, "times cells"]:
        """Return one panel gene over time."""
        return self.g[:, :, self.panel.index(name)]

    def moved(self, x: Float[Tensor, "times cells space"], frame: Frame) -> "Trajectory":
        """Return a copy with other positions in another frame."""
        return type(self)(
            self.times_h, self.z, self.g, x, self.log_mass, self.panel, frame, self.cells, dict(self.provenance)
        )

    @classmethod
    def of(  # noqa: PLR0913  the seven parts of a trajectory
        cls,
        times_h: Float[Tensor, " times"],
        states: list[State],
        *,
        panel: tuple[str, ...],
        frame: Frame,
        cells: tuple[str, ...] | None = None,
        provenance: Mapping[str, Any] | None = None,
    ) -> "Trajectory":
        """Stack states, one per time."""
        z, g, x, log_mass = (torch.stack(part) for part in zip(*(s.parts() for s in states), strict=True))
        names = cells if cells is not None else tuple(map(str, np.arange(z.shape[1])))
        return cls(times_h, z, g, x, log_mass, panel, frame, names, dict(provenance or {}))
