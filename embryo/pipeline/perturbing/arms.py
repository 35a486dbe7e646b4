"""The two arms of a perturbation: one law and start, with and without the edits, with the same luck."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import torch
from jaxtyping import Bool
from torch import Tensor

from embryo import perturb, simulate
from embryo.core import field as laws
from embryo.core.edit import CELL_OPERATIONS, Edit, Operation
from embryo.core.field import Field
from embryo.core.frame import BODY, Frame
from embryo.core.state import State
from embryo.core.trajectory import Trajectory

BODY_FRAME = Frame(BODY)


class Donors(NamedTuple):
    """Cells to graft: what they are, when they come, how they are called."""

    state: State
    t_h: float
    names: tuple[str, ...]
    types: tuple[str, ...]


def plain(
    law: Field, start: State, times_h: Sequence[float], seed: int, growth: str, how: dict[str, Any]
) -> Trajectory:
    """Roll out as the run's config carries growth."""
    if growth == "particles":
        return simulate.particles(law, start, times_h, seed=seed, **how)
    return simulate.forward(law, start, times_h, **how)


def edited(  # noqa: PLR0913  as plain, and what is done
    law: Field,
    start: State,
    times_h: Sequence[float],
    edits: Sequence[Edit],
    context: perturb.Context,
    donors: Sequence[Donors] = (),
    *,
    growth: str,
    how: dict[str, Any],
) -> Trajectory:
    """Roll the start out with edits; cells of a graft follow those of the start as further particles."""
    of_law = [edit for edit in edits if edit.operation not in CELL_OPERATIONS]
    ablations = [edit for edit in edits if edit.operation is Operation.ABLATE]
    if not ablations and not donors:
        held, begin = perturb.apply(law, start, of_law, context, t0_h=times_h[0])
        return plain(held, begin, times_h, context.seed, growth, how)
    whole = start
    for group in donors:
        dead = replace(group.state, log_mass=torch.full_like(group.state.log_mass, -torch.inf))
        whole = State(*(torch.cat(pair) for pair in zip(whole.parts(), dead.parts(), strict=True)))
    names = [*(context.cells or ()), *(name for group in donors for name in group.names)]
    types = [*(context.cell_types or ("",) * len(start)), *(kind for group in donors for kind in group.types)]
    context = replace(context, cells=tuple(names), cell_types=tuple(types))
    bound = laws.begun(law, whole, times_h[0]) if donors else law
    held, begin = perturb.apply(bound, whole, of_law, context, t0_h=times_h[0])
    masks = perturb.carriers(ablations, whole, context)
    events: list[_Event] = [(edit.t_on_h, mask, None) for edit, mask in zip(ablations, masks, strict=True)]
    first = len(start)
    for group in donors:
        rows = torch.zeros(len(whole), dtype=torch.bool)
        rows[first : first + len(group.state)] = True
        first += len(group.state)
        events.append((group.t_h, rows, group.state.log_mass))
    return _in_pieces(held, begin, times_h, events, {**how, "cells": context.cells})


_Event = tuple[float, Bool[Tensor, " cells"], Tensor | None]


def _in_pieces(
    law: Field, now: State, times_h: Sequence[float], events: list[_Event], how: dict[str, Any]
) -> Trajectory:
    """Roll out from event to event; those who are not there keep their place and weigh nothing."""
    stops = sorted({*times_h, *(t for t, _, _ in events if t > times_h[0])})
    kept = []
    how, named = {k: v for k, v in how.items() if k != "cells"}, how["cells"]
    for k, t in enumerate(stops):
        last = stops[k - 1] if k else float("-inf")
        for when, rows, log_mass in events:
            if last < when <= t or (k == 0 and when <= t):
                weight = now.log_mass.clone()
                weight[rows] = -torch.inf if log_mass is None else log_mass
                now = replace(now, log_mass=weight)
        if t in times_h:
            kept.append(now)
        if k + 1 < len(stops):
            there = now.alive.nonzero()[:, 0]
            piece = simulate.forward(laws.rows(law, there), now[there], [t, stops[k + 1]], **how).at(-1)
            parts = [part.clone() for part in now.parts()]
            for part, moved in zip(parts, piece.parts(), strict=True):
                part[there] = moved
            now = State(*parts)
    times = torch.as_tensor(list(times_h), dtype=now.x.dtype)
    return Trajectory.of(
        times, kept, panel=how["panel"], frame=how["frame"], cells=named,
        provenance={"method": how["method"], "step_h": how["step_h"], **how["provenance"]},
    )  # fmt: skip


def paired(control: Trajectory, other: Trajectory) -> tuple[Trajectory, Trajectory]:
    """Return both over the cells of either; a cell that one lacks lies as in the other, weighing nothing."""
    if control.cells == other.cells:
        return control, other
    names = tuple(dict.fromkeys([*control.cells, *other.cells]))
    return _over(control, other, names), _over(other, control, names)


def _over(own: Trajectory, other: Trajectory, names: tuple[str, ...]) -> Trajectory:
    mine, theirs = ({name: k for k, name in enumerate(t.cells)} for t in (own, other))
    here = torch.tensor([mine.get(name, -1) for name in names])
    there = torch.tensor([theirs.get(name, 0) for name in names])
    parts = []
    for part in ("z", "g", "x"):
        a, b = getattr(own, part), getattr(other, part)
        parts.append(torch.where((here >= 0)[None, :, None], a[:, here.clamp(min=0)], b[:, there]))
    weight = torch.where(here >= 0, own.log_mass[:, here.clamp(min=0)], -torch.inf)
    z, g, x = parts
    return Trajectory(own.times_h, z, g, x, weight, own.panel, own.frame, names, own.provenance)
