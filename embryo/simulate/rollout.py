"""Field + State -> Trajectory: the embryo rolled forward, or back, with its growth carried as mass."""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from embryo.core.field import Field
from embryo.core.frame import Frame
from embryo.core.state import State
from embryo.core.store import Head, Stored, open_trajectory, recording
from embryo.core.trajectory import Trajectory
from embryo.simulate.steps import BLOCK, Method, Steps, blocks, frames, ready, require_times


def forward(  # noqa: PLR0913  a roll-out needs all of these, all but three by name
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
    device: torch.device | str | None = None,
    block: int = BLOCK,
) -> Trajectory:
    """Roll `start` along `field` through `times_h`; growth is carried as mass, the particles stay the same.

    Parameters
    ----------
    field
        Law of motion; see `embryo.core.field.Field` for what it may say about itself.
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
    device
        Where to compute: cpu, cuda, cuda:1, mps; where the start lies by default.
    block
        Particles integrated together, where the field reads each by itself.

    Returns
    -------
    Trajectory
        Shape (times, cells, ...), on the device of `start`.

    Raises
    ------
    DivergedError
        If any number stops being finite; names the first such time and how many cells.
    EmbryoError
        If `times_h` is not strictly monotone or the step is not positive.
    """
    steps = Steps(step_h, method, block, on_step)
    require_times(times_h, steps)
    law, begin = ready(field, start, device)
    times = torch.as_tensor(list(times_h), dtype=start.x.dtype, device=begin.x.device)
    kept = [part.new_empty((len(times), *part.shape)) for part in start.parts()]
    for k, state in frames(law, begin, times, steps):
        for whole, part in zip(kept, state.parts(), strict=True):
            whole[k] = part
    z, g, x, log_mass = kept
    record = {"method": method, "step_h": step_h, **(provenance or {})}
    return Trajectory(
        times.to(start.x.device), z, g, x, log_mass, panel, frame or Frame(), cells or numbered(len(start)), record
    )


def record(  # noqa: PLR0913  as of forward
    field: Field,
    start: State,
    times_h: Sequence[float],
    path: str | Path,
    *,
    step_h: float = 0.1,
    method: Method = "rk4",
    panel: tuple[str, ...] = (),
    frame: Frame | None = None,
    cells: tuple[str, ...] | None = None,
    provenance: Mapping[str, Any] | None = None,
    on_step: Callable[[float], None] | None = None,
    device: torch.device | str | None = None,
    block: int = BLOCK,
) -> Stored:
    """Roll `start` forward as `forward` does, and write each kept time to `path` as soon as it is known.

    Memory holds two moments, however many are kept, and the numbers are those of `forward` bit for bit. The same call
    goes on where an interrupted one stopped, if start, times, solver, provenance and law are the same; the law is known
    by its velocities of the start at three times.

    Parameters
    ----------
    field, start, times_h, step_h, method, panel, frame, cells, provenance, on_step, device, block
        As of `forward`.
    path
        Folder to write, ``.zarr`` by habit, whole or not at all; `embryo.core.store.read_trajectory` reads it too.

    Returns
    -------
    Stored
        Reads one moment at a time.

    Raises
    ------
    DivergedError, EmbryoError
        As `forward`.
    StoreError
        If the place cannot be written, or another process writes there.
    """
    steps = Steps(step_h, method, block, on_step)
    require_times(times_h, steps)
    law, begin = ready(field, start, device)
    times = torch.as_tensor(list(times_h), dtype=start.x.dtype, device=begin.x.device)
    made = {"method": method, "step_h": step_h, **(provenance or {})}
    head = Head(times, cells or numbered(len(start)), panel, frame or Frame(), made)
    with recording(path, head, begin, law=_digest(law, begin, times, block)) as ongoing:
        known = ongoing.done - 1
        now = ongoing.last().to(begin.x.device) if known else begin
        for k, state in frames(law, now, times, steps, done=known):
            if k > known:
                ongoing.write(state)
    return open_trajectory(path)


def _digest(field: Field, start: State, times: Float[Tensor, " times"], block: int) -> str:
    """Return a digest of the velocities of the start at the first, middle and last time, and of the block."""
    digest = hashlib.sha256(str(block).encode())
    with torch.no_grad():
        for t in times[[0, len(times) // 2, -1]]:
            for rows, law in blocks(field, len(start), block):
                for part in law(t, start[rows]).parts():
                    digest.update(np.ascontiguousarray(part.cpu().numpy()).data)
    return digest.hexdigest()


def numbered(cells: int) -> tuple[str, ...]:
    """Return the names of particles that have none."""
    return tuple(str(i) for i in range(cells))
