"""An atlas of named cells: where each lies in many embryos, and how an embryo's own deviations carry on.

For a species with a stereotyped lineage the mean place of the same-named cell is a forecast that is hard to beat. What
is left is the embryo's own: its deviations at the start are carried on by a regression over the embryos of the atlas,

    x_c(t1) = mean_c(t1) + a d_c + b (S d)_c + (W d)_c,

with d the deviations of all cells at the start, S a smoother over neighbours, a and b pooled over cells, and W a ridge
regression on the whole pattern (Hoerl & Kennard, Technometrics 12:55, 1970), fitted to what a and b leave.
Every prediction starts with one proper rigid motion from the given frame into that of the atlas, found from the cells
known at the start, and ends with its inverse: the frame of the embryo does not matter.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Float32

from embryo.core import store
from embryo.core.errors import Problem, SchemaError, StoreError
from embryo.core.state import State
from embryo.fields.departure import Departure, Onward, Rule, lineage
from embryo.fields.naming import Naming, identify

_KIND = "atlas"
_EXACT = 0.01  # least share of a feature's variance that counts as noise


@dataclass(frozen=True, eq=False)
class Atlas:
    """Named cells of many embryos, in one frame, on one clock; made by `embryo.fit.atlas`.

    Parameters
    ----------
    cells, parents
        Names of cells and of their mothers; "" where unknown.
    embryos
        Names of the embryos.
    times_h
        Times, strictly increasing. Between them places are interpolated.
    x
        Place of each named cell, µm: the mean of its living descendants once it has divided, its nearest living
        ancestor before it is born; NaN where there is neither.
    alive
        Whether the cell of this very name lives then.
    z
        Mean embedding of each named cell, NaN where it is not seen; no columns where there is none.
    noise
        Standard deviation of the embedding between embryos, within a named cell.
    rules
        How deviations carry on, by start and end; that of the nearest times is used.
    """

    cells: tuple[str, ...]
    parents: tuple[str, ...]
    embryos: tuple[str, ...]
    times_h: Float[np.ndarray, " times"]
    x: Float32[np.ndarray, "embryos times cells space"]
    alive: Bool[np.ndarray, "embryos times cells"]
    z: Float32[np.ndarray, "times cells dims"]
    noise: Float32[np.ndarray, " dims"]
    rules: tuple[Rule, ...] = ()

    @cached_property
    def _departures(self) -> dict[float, Departure]:
        return {}

    @cached_property
    def _onwards(self) -> dict[tuple[float, float], Onward]:
        return {}

    @cached_property
    def _descent(self) -> Bool[np.ndarray, "cells cells"]:
        return lineage(self.cells, self.parents)

    def only(self, chosen: Bool[np.ndarray, " embryos"]) -> "Atlas":
        """Return the atlas of some of the embryos, with the same embedding and rules."""
        names = tuple(np.array(self.embryos)[chosen].tolist())
        return replace(self, embryos=names, x=self.x[chosen], alive=self.alive[chosen])

    def departure(self, t0_h: float) -> Departure:
        """Return the embryos of the atlas laid on each other at `t0_h`.

        Raises
        ------
        SchemaError
            If the time lies outside the atlas, or fewer than two embryos are seen then.
        """
        if t0_h not in self._departures:
            alive = self.alive[:, self._nearest(t0_h)]
            self._departures[t0_h] = Departure(self.cells, self._descent, self.at(t0_h), alive)
        return self._departures[t0_h]

    def onward(self, t0_h: float, t1_h: float) -> Onward:
        """Return how deviations at `t0_h` carry on to `t1_h`.

        Raises
        ------
        SchemaError
            If a time lies outside the atlas, or fewer than two embryos are seen at the start.
        """
        if (t0_h, t1_h) not in self._onwards:
            self._onwards[t0_h, t1_h] = Onward(self.departure(t0_h), self.at(t1_h))
        return self._onwards[t0_h, t1_h]

    def at(self, t_h: float) -> Float[np.ndarray, "embryos cells space"]:
        """Return the places at a time, interpolated between the two nearest.

        Raises
        ------
        SchemaError
            If the time lies outside the atlas.
        """
        t = self.times_h
        if not t[0] - 1e-6 <= t_h <= t[-1] + 1e-6:
            found = f"the time {t_h:g} h"
            problem = Problem(found, f"a time from {t[0]:g} to {t[-1]:g} h", "fit the atlas on a longer stretch")
            raise SchemaError(problem, subject="atlas")
        right = int(np.clip(np.searchsorted(t, t_h), 1, len(t) - 1)) if len(t) > 1 else 0
        left = max(right - 1, 0)
        s = 0.0 if right == left else float(np.clip((t_h - t[left]) / (t[right] - t[left]), 0, 1))
        if s in (0.0, 1.0):  # no neighbour's gap reaches a stored time
            return self.x[:, left if s == 0.0 else right].astype(float)
        return (1 - s) * self.x[:, left].astype(float) + s * self.x[:, right].astype(float)

    def numbers(self, t_h: float) -> Float[np.ndarray, " cells"]:
        """Return how many living descendants (or itself) each named cell has, on average over embryos seen then."""
        alive = self.alive[:, self._nearest(t_h)]
        return np.asarray(alive[alive.any(axis=1)].mean(axis=0) @ self._descent.T, dtype=float)

    def rule(self, t0_h: float, t1_h: float) -> Rule:
        """Return the rule chosen for the nearest start and end."""
        if not self.rules:
            return Rule(t0_h, t1_h)
        return min(self.rules, key=lambda r: (abs(r.t0_h - t0_h) + abs(r.t1_h - t1_h), r.t1_h))

    def place(
        self, start: State, names: Sequence[str] | None = None, *, t0_h: float, by_expression: bool = False
    ) -> Naming:
        """Say who the cells of an embryo are, and find the motion that lays it on the mean of the atlas.

        Parameters
        ----------
        start
            The embryo at `t0_h`; x in µm in any right-handed frame.
        names
            Name of each cell. None hides them: cells are then recognised by where they lie, in an unknown pose.
        t0_h
            Time on the clock of the atlas, hours.
        by_expression
            Whether hidden names are also recognised by z. A gene vector that was assembled by name gives the name away.

        Raises
        ------
        SchemaError
            If the time lies outside the atlas, or too few cells (or known names) are given.
        FrameError
            If the cells leave the pose open: on one line.
        """
        x, begin = start.x.detach().cpu().numpy().astype(float), self.departure(t0_h)
        if len(x) <= x.shape[1]:
            found = f"{len(x)} cells at the start"
            raise SchemaError(Problem(found, f"more than {x.shape[1]}", "start later"), subject="atlas")
        if names is not None:
            slot, motion = begin.placed(x, names)
            return Naming(slot, np.ones(len(x)), motion, 0.0)
        unlike = self._unlike(start.z.detach().cpu().numpy(), t0_h, begin) if by_expression else None
        return identify(x, begin.slots, unlike)

    def carry(self, start: State, placed: Naming, *, t0_h: float, t1_h: float, rule: Rule | None = None) -> State:
        """Say where the cells of a placed embryo, or their descendants, will be.

        Parameters
        ----------
        start, placed
            The embryo at `t0_h`, and what `place` said of it.
        t0_h, t1_h
            Start and end on the clock of the atlas, hours.
        rule
            How deviations carry on; the one of the atlas by default.

        Returns
        -------
        State
            One row per cell of the start, in its frame: x the mean place of the living descendants (µm), log_mass with
            the log of how many they are; z and g as at the start.

        Raises
        ------
        SchemaError
            If a time lies outside the atlas.
        """
        x = placed.motion(start.x.detach().cpu().numpy().astype(float))
        y = self.onward(t0_h, t1_h).carried(x, placed.slot, rule or self.rule(t0_h, t1_h))
        number = np.maximum(self.numbers(t1_h), 0.5 / len(self.embryos))[self.departure(t0_h).index[placed.slot]]
        log_mass = start.log_mass + torch.as_tensor(np.log(number), dtype=torch.float32)
        return State(start.z, start.g, torch.as_tensor(placed.motion.inverse()(y), dtype=torch.float32), log_mass)

    def predict(
        self,
        start: State,
        names: Sequence[str] | None = None,
        *,
        t0_h: float,
        t1_h: float,
        by_expression: bool = False,
    ) -> State:
        """Place an embryo and carry it on; see `place` and `carry`, whose errors these are."""
        placed = self.place(start, names, t0_h=t0_h, by_expression=by_expression)
        return self.carry(start, placed, t0_h=t0_h, t1_h=t1_h)

    def save(self, path: Path) -> None:
        """Write the atlas to `path` (safetensors with a JSON record)."""
        tensors = {"times_h": self.times_h, "x": self.x, "alive": self.alive, "z": self.z, "noise": self.noise}
        record: dict[str, Any] = {
            "kind": _KIND, "cells": self.cells, "parents": self.parents, "embryos": self.embryos,
            "rules": [vars(rule) for rule in self.rules],
        }  # fmt: skip
        store.write_tensors(path, {name: torch.as_tensor(value) for name, value in tensors.items()}, record)

    @classmethod
    def load(cls, path: Path) -> "Atlas":
        """Read an atlas written by `save`.

        Raises
        ------
        StoreError
            If the file is missing, damaged, or no atlas.
        """
        tensors, record = store.read_tensors(path)
        if record.get("kind") != _KIND:
            problem = Problem(f"a file of kind {record.get('kind')!r}", _KIND, "make one with fit.atlas")
            raise StoreError(problem, subject=str(path.name))
        parts: dict[str, Any] = {name: tensor.numpy() for name, tensor in tensors.items()}
        parts |= {key: tuple(record[key]) for key in ("cells", "parents", "embryos")}
        return cls(**parts, rules=tuple(Rule(**rule) for rule in record["rules"]))

    def _nearest(self, t_h: float) -> int:
        return int(np.abs(self.times_h - t_h).argmin())

    def _unlike(
        self, z: Float32[np.ndarray, "cells dims"], t0_h: float, begin: Departure
    ) -> Float[np.ndarray, "cells slots"]:
        """Cost of each pair by expression, nats; no more than its noise allows where even the nearest are far."""
        own = self.z[self._nearest(t0_h)][begin.index]
        if not z.shape[1] or z.shape[1] != own.shape[1] or np.isnan(own).all():
            found = f"an embedding of {z.shape[1]} numbers, and one of {own.shape[1]} in the atlas"
            cure = "embed both with one encoder, or leave by_expression out"
            raise SchemaError(Problem(found, "the same embedding in both", cure), subject="atlas")
        noise = np.sqrt(self.noise**2 + _EXACT * np.nanvar(own, axis=0) + np.finfo(np.float32).tiny)
        unlike = (((z[:, None] - own) / noise) ** 2).sum(axis=2) / 2
        unlike = np.where(np.isnan(unlike), np.nanmedian(unlike, axis=1, keepdims=True), unlike)
        nearest = float(np.median(unlike.min(axis=1)))
        return np.asarray(unlike / max(1.0, nearest / (z.shape[1] / 2)), dtype=float)
