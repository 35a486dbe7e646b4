"""Steps: how a state is carried from one time to another along a field.

The grid is fixed on purpose. An adaptive solver takes one step size for the whole batch, so a cell's path would depend
on its batch-mates and an edited run would differ from its control by solver noise.

A field that reads each particle by itself is integrated in blocks of particles small enough for the processor's cache;
one that reads neighbours is integrated in one piece. The steps are torchdiffeq's; steps of our own were no faster in
blocks of this size (docs/speed-of-rollouts.md). Its adaptive ``dopri5`` is there to check a grid against.
"""

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Final, Literal

import torch
from jaxtyping import Float
from torch import Tensor
from torchdiffeq import odeint

from embryo.core import field as laws
from embryo.core.errors import DivergedError, EmbryoError, Problem
from embryo.core.field import Field
from embryo.core.state import State, Velocity

Method = Literal["euler", "midpoint", "rk4", "dopri5"]

BLOCK = 2048  # particles: see docs/speed-of-rollouts.md

_ADAPTIVE: Final = "dopri5"
_TOLERANCE = 1e-6  # relative and absolute, of the adaptive solver


@dataclass(frozen=True)
class Steps:
    """The numbers of an integration.

    Parameters
    ----------
    step_h
        Largest step; every interval is divided into equal steps not longer than this.
    method
        ``euler``, ``midpoint`` or ``rk4`` (3/8 rule): orders 1, 2, 4. ``dopri5`` (torchdiffeq) chooses its steps to a
        tolerance of 1e-6, one size for all particles together: a check of the grid, not a way to compare an edit with
        its control. It still stops at the grid's points.
    block
        Particles integrated together where the field allows it.
    on_step
        Called with the time (h) at every evaluation of the field, for progress.

    Raises
    ------
    EmbryoError
        If the step is not positive.
    """

    step_h: float = 0.1
    method: Method = "rk4"
    block: int = BLOCK
    on_step: Callable[[float], None] | None = None


def ready(field: Field, start: State, device: torch.device | str | None) -> tuple[Field, State]:
    """Return field and start on a device (None: where they are), the field made ready for many evaluations."""
    if device is None:
        return laws.fast(field), start
    return laws.fast(laws.to(field, device)), start.to(device)


def advance(field: Field, state: State, span: Float[Tensor, "2"], steps: Steps) -> State:
    """Carry a state along a field from ``span[0]`` to ``span[1]`` (h), forwards or backwards in time.

    Returns
    -------
    State
        A new one, on the same device.
    """
    points = grid(span, min(steps.step_h, laws.longest_step_h(field)), laws.breaks_h(field))
    end = state.map(torch.empty_like)
    with torch.no_grad():
        together = len(state) if steps.method == _ADAPTIVE else steps.block
        for rows, law in blocks(field, len(state), together):
            for whole, part in zip(end.parts(), _integrate(law, state[rows], points, steps).parts(), strict=True):
                whole[rows] = part
    return end


def blocks(field: Field, cells: int, block: int) -> Iterator[tuple[slice, Field]]:
    """Yield the particles that a field may be asked about together, and the law for them."""
    size = block if laws.alone(field) else cells
    for start in range(0, cells, max(1, size)):
        rows = slice(start, start + size)
        yield rows, laws.rows(field, rows)


def _integrate(field: Field, state: State, points: Float[Tensor, " grid"], steps: Steps) -> State:
    columns = [*(part.shape[1] for part in state.parts()[:3]), 1]

    def rates(t: Tensor, now: Tensor) -> Tensor:
        if steps.on_step is not None:
            steps.on_step(float(t))
        inner = _state(now, columns)
        if not bool(inner.x.sum().isfinite()):  # a law that looks for neighbours cannot even be asked
            require_finite(replace(inner, log_mass=torch.zeros_like(inner.log_mass)), float(t))
        return _wide(field(t, inner))

    y = _wide(state)
    if steps.method == _ADAPTIVE:
        return _state(_adaptive(rates, y, points), columns)
    # perturb: each step sees only its own side of a switch that lies on its edge
    return _state(odeint(rates, y, points, method=steps.method, options={"perturb": True})[-1], columns)


def _adaptive(
    rates: Callable[[Tensor, Tensor], Tensor], y: Float[Tensor, "cells all"], points: Float[Tensor, " grid"]
) -> Float[Tensor, "cells all"]:
    for t0, t1 in itertools.pairwise(points):
        inside = torch.stack([torch.nextafter(t0, t1), torch.nextafter(t1, t0)])
        low, high = inside.aminmax()

        def within(t: Tensor, now: Tensor, low: Tensor = low, high: Tensor = high) -> Tensor:
            return rates(t.clamp(low, high), now)  # rounding must not take it over a switch at the edge

        stop = {"step_t": inside[1:]}
        y = odeint(within, y, inside, rtol=_TOLERANCE, atol=_TOLERANCE, method=_ADAPTIVE, options=stop)[-1]
    return y


def _wide(parts: State | Velocity) -> Float[Tensor, "cells all"]:
    z, g, x, log_mass = parts.parts()
    return torch.cat([z, g, x, log_mass[:, None]], dim=1)


def _state(y: Float[Tensor, "cells all"], columns: list[int]) -> State:
    z, g, x, log_mass = y.split(columns, dim=1)
    return State(z, g, x, log_mass[:, 0])


def grid(times: Float[Tensor, " times"], step_h: float, breaks_h: Sequence[float] = ()) -> Float[Tensor, " grid"]:
    """Divide every interval between times and breaks into equal steps: none is interpolated or straddled."""
    inside = [b for b in breaks_h if min(times[0], times[-1]) < b < max(times[0], times[-1])]
    stops = torch.cat([times, times.new_tensor(inside)]).unique()
    stops = stops if times[0] < times[-1] else stops.flip(0)
    pieces = [stops[:1]]
    for a, b in itertools.pairwise(stops):
        steps = max(1, int(torch.ceil((b - a).abs() / step_h - 1e-6)))
        s = torch.arange(1, steps + 1, dtype=times.dtype, device=times.device) / steps
        inner = a + s * (b - a)
        inner[-1] = b
        pieces.append(inner)
    return torch.cat(pieces)


def require_times(times_h: Sequence[float], steps: Steps) -> None:
    """Raise unless the times run one way and the step is one.

    Raises
    ------
    EmbryoError
        Listing both problems.
    """
    problems = []
    d = torch.as_tensor(list(times_h), dtype=torch.float64).diff()
    if len(d) < 1 or not bool((d > 0).all() or (d < 0).all()):
        problems.append(
            Problem(
                f"times {list(times_h)}",
                "two or more times in strictly rising or falling order",
                "sort them, no repeats",
            )
        )
    if not steps.step_h > 0:
        problems.append(Problem(f"a step of {steps.step_h} h", "a positive step", "set simulate.step_h above 0"))
    if steps.block < 1:
        problems.append(Problem(f"blocks of {steps.block} particles", "one or more", "set simulate.block above 0"))
    if problems:
        raise EmbryoError(*problems, subject="roll-out")


def require_finite(state: State, t_h: float) -> None:
    """Raise unless every number is finite.

    Raises
    ------
    DivergedError
        Naming the time and how many particles have left the finite numbers.
    """
    if all(bool(part.sum().isfinite()) for part in state.parts()):  # one pass; nothing infinite sums to a finite number
        return
    good = torch.stack([part.reshape(len(part), -1).isfinite().all(-1) for part in state.parts()]).all(0)
    if bool(good.all()):
        return
    bad = f"{int((~good).sum())} of {len(good)} cells with NaN or infinite state"
    raise DivergedError(
        Problem(
            f"{bad} from t = {t_h:.3g} h",
            "finite numbers at every time",
            "lower simulate.step_h, end earlier, or fit longer; far from the training times a learned field is free",
        ),
        subject="roll-out",
    )


def frames(
    field: Field, state: State, times: Float[Tensor, " times"], steps: Steps, done: int = 0
) -> Iterator[tuple[int, State]]:
    """Yield the number and the state of each time, one after the other; memory holds two.

    Parameters
    ----------
    field, steps
        Law of motion, and how it is integrated.
    state
        At ``times[done]``.
    times
        Hours, strictly rising or falling.
    done
        The first time that is known.

    Raises
    ------
    DivergedError
        At the first time at which a number is not finite.
    """
    yield done, state
    for k in range(done + 1, len(times)):
        state = advance(field, state, times[k - 1 : k + 1], steps)
        require_finite(state, float(times[k]))
        yield k, state
