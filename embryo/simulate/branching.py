"""Growth as cells that divide and die: the roll-out whose number of particles changes.

Agrees in distribution with `rollout.forward`, which carries the same growth as mass, on two conditions: the law reads
each cell alone, and daughters start at one place (``spacing_um=0``). Then the expected number of descendants of a
particle is exp of the integrated growth along its path. Daughters put apart leave it, by half the spacing at each
division: where the law moves and grows all cells alike, a cell of n divisions lies at most n / 2 spacings from the path
of its founder, and sqrt(n) / 2 of them in the root mean square; elsewhere the law carries that on. A law that reads
neighbours (crowding, contact) meets more of them as cells divide, which mass does not show: there the two are different
models.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from scipy.spatial import cKDTree
from torch import Tensor

from embryo.core import field as laws
from embryo.core import pedigree
from embryo.core.errors import EmbryoError, Problem
from embryo.core.field import Field
from embryo.core.frame import Frame
from embryo.core.state import State
from embryo.core.trajectory import Trajectory
from embryo.simulate.division import Brood, Division
from embryo.simulate.ensembles import FOUNDER
from embryo.simulate.rollout import numbered
from embryo.simulate.steps import BLOCK, Method, Steps, advance, grid, ready, require_finite, require_times

MAX_CELLS = 1_000_000


def particles(  # noqa: PLR0913  a roll-out needs all of these, all but three by name
    field: Field,
    start: State,
    times_h: Sequence[float],
    *,
    seed: int,
    spacing_um: float | None = None,
    turnover_per_h: float = 0.0,
    max_cells: int = MAX_CELLS,
    step_h: float = 0.1,
    method: Method = "rk4",
    panel: tuple[str, ...] = (),
    frame: Frame | None = None,
    cells: tuple[str, ...] | None = None,
    provenance: Mapping[str, Any] | None = None,
    on_step: Callable[[float], None] | None = None,
    device: torch.device | str | None = None,
    block: int = BLOCK,
) -> Trajectory:
    """Roll `start` forward along `field` with cells that divide and die.

    The field's growth is birth minus death. By default it is all birth where it is positive and all death where it is
    negative, the fewest events that give it; `turnover_per_h` adds to both. A particle that stands for several cells
    divides and dies as one.

    Parameters
    ----------
    field, start, step_h, method, panel, frame, cells, provenance, on_step, device, block
        As of `rollout.forward`.
    times_h
        Times to keep, hours; strictly increasing: nobody knows who died before.
    seed
        Of divisions and deaths. Luck hangs on the cell and its pedigree, so that control and edit of one seed share it
        until the edit itself makes them differ.
    spacing_um
        How far daughters are put apart, along a random axis. By default the median distance of the start's particles
        to their nearest neighbours, so that daughters do not lie in one place; 0 agrees with growth as mass.
    turnover_per_h
        Births that deaths make up for, 1/h.
    max_cells
        Living particles beyond which the roll-out is stopped.

    Returns
    -------
    Trajectory
        One row for every particle that lived at a kept time, founders and descendants, sorted by pedigree; daughters
        of ``p`` are ``pa`` and ``pb``. Where a row does not live its ``log_mass`` is -inf, so that it weighs nothing:
        before its birth it lies where its ancestor was, afterwards where it was last seen (see `State.alive`).

    Raises
    ------
    DivergedError
        If any number stops being finite.
    EmbryoError
        If times do not increase, a rate or distance is negative, or there are more than `max_cells`.
    """
    steps = Steps(step_h, method, block, on_step)
    apart = _spacing(start) if spacing_um is None else spacing_um
    _require(times_h, steps, apart, turnover_per_h)
    law, now = ready(field, start, device)
    times = torch.as_tensor(list(times_h), dtype=start.x.dtype, device=now.x.device)
    tissue = _Tissue(law, now, Division(seed, apart).begin(len(start), start.x.shape[1]))
    seen = [tissue]
    rules = _Rules(Division(seed, apart), steps, turnover_per_h, max_cells)
    for k in range(1, len(times)):
        points = grid(times[k - 1 : k + 1], min(step_h, laws.longest_step_h(field)), laws.breaks_h(field))
        for j in range(1, len(points)):
            tissue = rules.advance(tissue, points[j - 1 : j + 1])
        require_finite(tissue.state, float(times[k]))
        seen.append(tissue)
    names = cells or numbered(len(start))
    every, states = _aligned(seen)
    record = {
        "method": method, "step_h": step_h, "growth": "particles", "luck": seed, "spacing_um": apart,
        "turnover_per_h": turnover_per_h, FOUNDER: pedigree.clone(every).tolist(), **(provenance or {}),
    }  # fmt: skip
    kept = [s.to(start.x.device) for s in states]
    called = tuple(map(str, pedigree.names(every, names)))
    return Trajectory.of(
        times.to(start.x.device), kept, panel=panel, frame=frame or Frame(), cells=called, provenance=record
    )


@dataclass(frozen=True, eq=False)
class _Tissue:
    """The living cells between two steps; `law` is that of the founders."""

    law: Field
    state: State
    brood: Brood


@dataclass(frozen=True)
class _Rules:
    """What carries a tissue over one step."""

    division: Division
    steps: Steps
    turnover_per_h: float
    max_cells: int

    def advance(self, tissue: _Tissue, span: Float[Tensor, "2"]) -> _Tissue:
        old = tissue.state
        if not len(old):
            return tissue
        founder = torch.from_numpy(pedigree.clone(tissue.brood.cell)).to(old.x.device)
        new = advance(laws.rows(tissue.law, founder), old, span, self.steps)
        require_finite(new, float(span[1]))
        growth = (new.log_mass - old.log_mass).cpu().double().numpy()
        both = self.turnover_per_h * float(span[1] - span[0])
        births, deaths = growth.clip(min=0.0) + both, (-growth).clip(min=0.0) + both
        brood, events = self.division.step(tissue.brood, births, deaths)
        if len(brood.cell) > self.max_cells:
            self._refuse(len(brood.cell), float(span[1]))
        moved = State(new.z, new.g, new.x, old.log_mass)
        if not events:
            return _Tissue(tissue.law, moved, brood)
        moved = moved[torch.from_numpy(brood.row).to(old.x.device)]
        shift = torch.from_numpy(brood.shift).to(moved.x)
        return _Tissue(tissue.law, State(moved.z, moved.g, moved.x + shift, moved.log_mass), brood)

    def _refuse(self, cells: int, t_h: float) -> None:
        problem = Problem(
            f"{cells:,} living particles at t = {t_h:.3g} h",
            f"at most max_cells = {self.max_cells:,}",
            "carry growth as mass (simulate.forward), start with fewer particles, or raise max_cells",
        )
        raise EmbryoError(problem, subject="roll-out with divisions")


def _aligned(seen: Sequence[_Tissue]) -> tuple[Int[np.ndarray, " every"], list[State]]:
    """Return every cell that was seen, and the states with one row for each: see `particles`."""
    every = np.unique(np.concatenate([tissue.brood.cell for tissue in seen]))
    last: State | None = None
    states = []
    for tissue in seen:
        cell, state = tissue.brood.cell, tissue.state
        order = np.argsort(cell)
        row, alive = _places(cell[order], every)
        ancestor, unborn = every, ~alive
        for _ in range(int(pedigree.generation(every).max(initial=0))):
            ancestor = np.where(unborn, pedigree.parent(ancestor), ancestor)
            found, there = _places(cell[order], ancestor)
            row, unborn = np.where(unborn & there, found, row), unborn & ~there
        gone = torch.from_numpy(unborn).to(state.x.device)  # neither here nor anyone's ancestor: it was before
        rows = torch.from_numpy(np.append(order, 0)[np.where(unborn, 0, row)]).to(state.x.device)
        z, g, x, log_mass = (_taken(part, rows) for part in state.parts())
        if last is not None:
            z, g, x = (torch.where(gone[:, None], b, a) for a, b in zip((z, g, x), last.parts()[:3], strict=True))
        weight = torch.where(torch.from_numpy(alive).to(log_mass.device), log_mass, -torch.inf)
        last = State(z, g, x, weight)
        states.append(last)
    return every, states


def _places(
    among: Int[np.ndarray, " living"], wanted: Int[np.ndarray, " cells"]
) -> tuple[Int[np.ndarray, " cells"], np.ndarray]:
    """Return where each wanted number lies among sorted ones, and whether it does."""
    place = np.searchsorted(among, wanted).clip(max=max(0, len(among) - 1))
    return place, among[place] == wanted if len(among) else np.zeros(len(wanted), dtype=bool)


def _taken(part: Tensor, rows: Int[Tensor, " cells"]) -> Tensor:
    return part[rows] if len(part) else part.new_zeros((len(rows), *part.shape[1:]))


def _spacing(start: State) -> float:
    x = start.x.detach().cpu().double().numpy()
    if len(x) < 2 or not x.shape[1]:
        return 0.0
    return float(np.median(cKDTree(x).query(x, k=2)[0][:, 1]))


def _require(times_h: Sequence[float], steps: Steps, spacing_um: float, turnover_per_h: float) -> None:
    require_times(times_h, steps)
    problems = []
    if times_h[-1] < times_h[0]:
        cure = "go back with growth as mass (simulate.forward)"
        problems.append(Problem(f"times from {times_h[0]:g} back to {times_h[-1]:g} h", "times that increase", cure))
    if not (spacing_um >= 0 and turnover_per_h >= 0):
        found = f"spacing {spacing_um:g} µm and turnover {turnover_per_h:g} per h"
        problems.append(Problem(found, "0 or more", "set both to 0 or above"))
    if problems:
        raise EmbryoError(*problems, subject="roll-out with divisions")
