"""Field + State -> Trajectory: the embryo rolled forward (or back) in time on a fixed grid.

The grid is fixed on purpose. An adaptive solver takes one step size for the whole batch, so a cell's path would depend
on its batch-mates and an edited run would differ from its control by solver noise.
"""

import itertools
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor
from torchdiffeq import odeint

from embryo.core.errors import DivergedError, EmbryoError, Problem
from embryo.core.field import Field
from embryo.core.frame import Frame
from embryo.core.state import State
from embryo.core.trajectory import Trajectory

Method = Literal["euler", "midpoint", "rk4"]
Parts = tuple[Tensor, ...]


def forward(  # noqa: PLR0913  a roll-out needs all of these, six by name
    field: Field,
    start: State,
    times_h: Sequence[float],
    *,
    step_h: float = 0.1,
    method: Method = "rk4",
    panel: tuple[str, ...] = (),
    frame: Frame | None = None,
    cells: tuple[str, ...] | None = None,
    provenance: Mapping[str, Any] | None = None,
    on_step: Callable[[float], None] | None = None,
) -> Trajectory:
    """Roll `start` along `field` through `times_h`.

    Parameters
    ----------
    field
        Law of motion; if it switches at certain times it names them in an attribute ``breaks_h``.
    start
        State at ``times_h[0]``.
    times_h
        Times to keep, hours; strictly increasing, or strictly decreasing to go back.
    step_h
        Largest step; every kept interval is divided into equal steps not longer than this.
    method
        ``euler``, ``midpoint`` or ``rk4`` (3/8 rule): orders 1, 2, 4.
    panel, frame, cells, provenance
        Written into the trajectory.
    on_step
        Called with the time (h) at every evaluation of the field, for progress.

    Returns
    -------
    Trajectory
        Shape (times, cells, ...).

    Raises
    ------
    DivergedError
        If any number stops being finite; names the first such time and how many cells.
    EmbryoError
        If `times_h` is not strictly monotone or the step is not positive.
    """
    times = torch.as_tensor(list(times_h), dtype=start.x.dtype, device=start.x.device)
    _check(times, step_h)

    def rates(t: Tensor, parts: Parts) -> Parts:
        if on_step is not None:
            on_step(float(t))
        return field(t, State(*parts)).parts()

    with torch.no_grad():
        # perturb: each step sees only its own side of a switch that lies on its edge
        options = {"grid_constructor": _grid(step_h, getattr(field, "breaks_h", ())), "perturb": True}
        kept = odeint(rates, start.parts(), times, method=method, options=options)
    _require_finite(kept, times)
    names = cells if cells is not None else tuple(str(i) for i in range(len(start)))
    record = {"method": method, "step_h": step_h, **(provenance or {})}
    z, g, x, log_mass = kept
    return Trajectory(times, z, g, x, log_mass, panel, frame or Frame(), names, record)


def _grid(
    step_h: float, breaks_h: Sequence[float]
) -> Callable[[Any, Any, Float[Tensor, " times"]], Float[Tensor, " grid"]]:
    """Divide every interval between kept times and breaks into equal steps: none is interpolated or straddled."""

    def grid(_func: Any, _y0: Any, t: Float[Tensor, " times"]) -> Float[Tensor, " grid"]:
        inside = [b for b in breaks_h if min(t[0], t[-1]) < b < max(t[0], t[-1])]
        stops = torch.cat([t, t.new_tensor(inside)]).unique()
        stops = stops if t[0] < t[-1] else stops.flip(0)
        pieces = [stops[:1]]
        for a, b in itertools.pairwise(stops):
            steps = max(1, int(torch.ceil((b - a).abs() / step_h - 1e-6)))
            s = torch.arange(1, steps + 1, dtype=t.dtype, device=t.device) / steps
            inner = a + s * (b - a)
            inner[-1] = b
            pieces.append(inner)
        return torch.cat(pieces)

    return grid


def _check(times: Float[Tensor, " times"], step_h: float) -> None:
    problems = []
    d = times.diff()
    if len(times) < 2 or not bool((d > 0).all() or (d < 0).all()):
        problems.append(
            Problem(
                f"times {times.tolist()}",
                "two or more times in strictly rising or falling order",
                "sort them, no repeats",
            )
        )
    if not step_h > 0:
        problems.append(Problem(f"a step of {step_h} h", "a positive step", "set simulate.step_h above 0"))
    if problems:
        raise EmbryoError(*problems, subject="roll-out")


def _require_finite(kept: Parts, times: Float[Tensor, " times"]) -> None:
    good = torch.stack([part.reshape(*part.shape[:2], -1).isfinite().all(-1) for part in kept]).all(0)
    if bool(good.all()):
        return
    k = int((~good).any(1).nonzero()[0])
    bad = f"{int((~good[k]).sum())} of {good.shape[1]} cells with NaN or infinite state"
    raise DivergedError(
        Problem(
            f"{bad} from t = {float(times[k]):.3g} h",
            "finite numbers at every time",
            "lower simulate.step_h, end earlier, or fit longer; far from the training times a learned field is free",
        ),
        subject="roll-out",
    )
