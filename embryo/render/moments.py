"""Moments: from states and trajectories to panels, so that control and edit stand side by side with one call."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Shaped

from embryo.core.errors import Problem
from embryo.core.frame import Frame
from embryo.core.state import State
from embryo.core.trajectory import Trajectory
from embryo.render.panel import Panel, RenderError

Colour = Callable[[State], Shaped[np.ndarray, " cells"]]


@dataclass(frozen=True)
class Moments:
    """Roll-outs beside each other, one tuple of panels per time; can be iterated as often as one likes, lazily.

    The first roll-out is the control: its outline is drawn over the others.

    Parameters
    ----------
    trajectories
        Title to roll-out, control first; all at the same times and in the same frame.
    colour
        A function of a `State` that returns a label or a number per cell (a fate classifier); None for plain cells.
    name, unit
        What the colours mean, for the legend.
    masses
        Whether particles are drawn with the volume of the cells that they stand for.

    Raises
    ------
    RenderError
        If there is no roll-out, or their times differ.
    FrameError
        If they are in different frames.
    """

    trajectories: Mapping[str, Trajectory]
    colour: Colour | None = None
    name: str = ""
    unit: str = ""
    masses: bool = True

    def __post_init__(self) -> None:
        if not self.trajectories:
            problem = Problem("no trajectories", "at least the control", "hand over {'control': trajectory}")
            raise RenderError(problem, subject="moments")
        control, *others = self.trajectories.values()
        for other in others:
            control.frame.require_same(other.frame)
            if not np.array_equal(control.times_h.numpy(), other.times_h.numpy()):
                problem = Problem("roll-outs at different times", "one time grid", "simulate all with the same times_h")
                raise RenderError(problem, subject="moments")

    @property
    def times_h(self) -> list[float]:
        """Time of each tuple of panels, hours."""
        return [float(t) for t in next(iter(self.trajectories.values())).times_h]

    def __len__(self) -> int:
        return len(self.times_h)

    def __getitem__(self, k: int) -> tuple[Panel, ...]:
        """Return the panels of the k-th time; -1 is the last."""
        k = range(len(self))[k]
        (title, control), *others = self.trajectories.items()
        first = self._panel(title, control.at(k), control.frame)
        return (first, *(self._panel(t, other.at(k), other.frame, ghost=first) for t, other in others))

    def __iter__(self) -> Iterator[Sequence[Panel]]:
        return (self[k] for k in range(len(self)))

    def _panel(self, title: str, state: State, frame: Frame, ghost: Panel | None = None) -> Panel:
        extra: dict[str, Any] = _coloured(self.colour, state)
        if ghost is not None:
            extra |= {"ghost": ghost.x, "ghost_name": ghost.title}
        if self.masses and bool((state.log_mass != 0).any()):
            extra |= {"mass": _array(state.mass)}
        return Panel(title, _array(state.x), name=self.name, unit=self.unit, axes=frame.axes, **extra)


def gene(trajectory: Trajectory, name: str) -> Colour:
    """Return the colour function that shows panel gene `name`, log1p.

    Raises
    ------
    SchemaError
        If the panel does not hold the gene.
    """
    trajectory.gene(name)
    column = trajectory.panel.index(name)
    return lambda state: _array(state.g[:, column])


def _coloured(colour: Colour | None, state: State) -> dict[str, Any]:
    if colour is None:
        return {}
    shown = np.asarray(colour(state))
    if np.issubdtype(shown.dtype, np.floating):
        return {"values": shown.astype(float)}
    return {"labels": shown}


def _array(tensor: Any) -> np.ndarray:
    return np.asarray(tensor.detach().cpu().double().numpy())
