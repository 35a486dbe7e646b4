"""Several roll-outs of one start, one per field or seed: what they agree on, and how far they do not."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float, Int

from embryo.core.errors import EmbryoError, Problem
from embryo.core.table import interval, row, table
from embryo.core.trajectory import Trajectory

FOUNDER = "founder"  # provenance of a roll-out with divisions: the row of the start that each particle comes from
_UNITS = {"cells": "cells", "disagreement_z": "1", "disagreement_um": "µm", "disagreement_mass": "1"}


def founder(trajectory: Trajectory) -> Int[np.ndarray, " cells"]:
    """Return which particle of the start each particle comes from: itself, where growth is carried as mass."""
    known = trajectory.provenance.get(FOUNDER)
    return np.arange(len(trajectory.cells)) if known is None else np.asarray(known, dtype=np.int64)


def per_founder(
    values: Float[np.ndarray, "cells columns"], mass: Float[np.ndarray, " cells"], rows: Int[np.ndarray, " cells"]
) -> tuple[Float[np.ndarray, "founders columns"], Float[np.ndarray, " founders"]]:
    """Return the mean of each founder's descendants, weighted by mass (NaN where none lives), and their mass."""
    founders = int(rows.max(initial=-1)) + 1
    total = np.bincount(rows, weights=mass, minlength=founders)
    sums = [np.bincount(rows, weights=mass * column, minlength=founders) for column in values.T]
    with np.errstate(invalid="ignore", divide="ignore"):
        means = np.stack(sums, axis=1) / total[:, None] if sums else np.zeros((founders, 0))
    return means, total


@dataclass(frozen=True, eq=False)
class Ensemble:
    """What `ensemble` returns: moments over the members, for each founder at each time.

    Parameters
    ----------
    times_h
        Of all members.
    z, g, x
        Mean over the members of the mean of the founder's descendants; NaN where none lives in any member.
    mass
        Mean over the members of the founder's number of descendants.
    disagreement
        ``disagreement_z``, ``disagreement_um``, ``disagreement_mass``: standard deviation over the members, of the
        place in z (root of the summed variances), of the position in µm, and of the mass.
    table
        One row per time and quantity, in the form of `embryo.core.table`: number of cells, and the mean over founders
        of each disagreement. For ``cells`` low and high are the t-interval over the members; for a disagreement, which
        belongs to all members together, that of leaving out one member in turn (jackknife).
    """

    times_h: Float[np.ndarray, " times"]
    z: Float[np.ndarray, "times founders dims"]
    g: Float[np.ndarray, "times founders genes"]
    x: Float[np.ndarray, "times founders space"]
    mass: Float[np.ndarray, "times founders"]
    disagreement: dict[str, Float[np.ndarray, "times founders"]]
    table: pd.DataFrame = field(repr=False)


def ensemble(members: Sequence[Trajectory], *, board: str = "ensemble") -> Ensemble:
    """Summarise roll-outs of one start: by several fields, by several seeds, or both.

    Parameters
    ----------
    members
        Two or more, from `forward` or `particles`, of the same start at the same times in the same frame.
    board
        Name in the table.

    Raises
    ------
    FrameError
        If frames differ.
    EmbryoError
        If there are fewer than two, or times or numbers of founders differ.
    """
    _require(members)
    times_h = members[0].times_h.detach().cpu().double().numpy()
    means: dict[str, list[np.ndarray]] = {name: [] for name in ("z", "g", "x", "mass")}
    spread: dict[str, list[np.ndarray]] = {name: [] for name in _UNITS if name != "cells"}
    rows = []
    for k, t_h in enumerate(times_h):
        stacks = _stacks(members, k)
        for name, stack in stacks.items():
            means[name].append(_mean(stack))
        disagreements = {"disagreement_z": stacks["z"], "disagreement_mass": stacks["mass"][..., None]}
        if members[0].x.shape[2]:
            disagreements["disagreement_um"] = stacks["x"]
        values: dict[str, np.ndarray] = {"cells": stacks["mass"].sum(axis=1)}
        for name, stack in disagreements.items():
            spread[name].append(_deviation(stack))
            values[name] = _pseudovalues(stack)
        about = {"board": board, "split": f"t={t_h:g} h", "model": "ensemble", "role": "ours"}
        means_h = {m: interval(v).within(0.0) for m, v in values.items()}  # no number, no disagreement is negative
        rows += [row(metric=m, unit=_UNITS[m], values=v, **about) | {"time_h": t_h} for m, v in means_h.items()]  # type: ignore[arg-type]
    stacked = {name: np.stack(parts) for name, parts in means.items()}
    apart = {name: np.stack(parts) for name, parts in spread.items() if parts}
    return Ensemble(times_h, **stacked, disagreement=apart, table=table(rows))


def _stacks(members: Sequence[Trajectory], k: int) -> dict[str, np.ndarray]:
    """Return for each quantity an array of shape (members, founders, columns), mass of shape (members, founders)."""
    out: dict[str, list[np.ndarray]] = {"z": [], "g": [], "x": [], "mass": []}
    for member in members:
        z, g, x, log_mass = (part.detach().cpu().double().numpy() for part in member.at(k).parts())
        columns = np.cumsum([z.shape[1], g.shape[1]])
        mean, mass = per_founder(np.concatenate([z, g, x], axis=1), np.exp(log_mass), founder(member))
        for name, part in zip(("z", "g", "x"), np.split(mean, columns, axis=1), strict=True):
            out[name].append(part)
        out["mass"].append(mass)
    return {name: np.stack(parts) for name, parts in out.items()}


def _mean(stack: np.ndarray) -> np.ndarray:
    there = ~np.isnan(stack)
    with np.errstate(invalid="ignore"):
        return np.asarray(np.where(there, stack, 0).sum(axis=0) / there.sum(axis=0))


def _deviation(stack: np.ndarray) -> np.ndarray:
    """Root of the summed variances over the members in which a founder has descendants; NaN with fewer than two."""
    there = ~np.isnan(stack).any(axis=2)
    n = there.sum(axis=0)
    apart = np.where(there[..., None], stack - _mean(np.where(there[..., None], stack, np.nan)), 0)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(np.where(n > 1, np.sqrt((apart**2).sum(axis=(0, 2)) / (n - 1)), np.nan))


def _pseudovalues(stack: np.ndarray) -> np.ndarray:
    """Return the jackknife's pseudovalues over the members of the mean disagreement (Tukey 1958)."""
    n = len(stack)
    whole = _over_founders(_deviation(stack))
    if n < 3:
        return np.array([whole])
    without = np.array([_over_founders(_deviation(np.delete(stack, m, axis=0))) for m in range(n)])
    return n * whole - (n - 1) * without


def _over_founders(values: np.ndarray) -> float:
    known = values[~np.isnan(values)]
    return float(known.mean()) if len(known) else float("nan")


def _require(members: Sequence[Trajectory]) -> None:
    problems = []
    if len(members) < 2:
        problems.append(Problem(f"{len(members)} roll-outs", "two or more", "roll out with several fields or seeds"))
    for member in members[1:]:
        members[0].frame.require_same(member.frame)
        if len(member) != len(members[0]) or not torch.equal(member.times_h, members[0].times_h):
            problems.append(Problem("roll-outs at different times", "one time grid", "simulate all with one times_h"))
            break
    founders = {int(founder(m).max(initial=-1)) + 1 for m in members}
    if len(founders) > 1:
        problems.append(Problem(f"starts of {sorted(founders)} particles", "one start", "roll out from one state"))
    if problems:
        raise EmbryoError(*problems, subject="ensemble")
