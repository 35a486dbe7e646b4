"""The embryos of an atlas at one start: laid on each other, their deviations, and how these carry on."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy.spatial import cKDTree

from embryo.core.errors import FrameError, Problem, SchemaError
from embryo.core.frame import Rigid, best
from embryo.fields.naming import Slots

_ROUNDS = 4  # of laying all embryos on their mean
_REACH = 2.0  # of the smoother over neighbours, in units of the spacing of cells
_OWN = 0.5  # variance of a cell's own deviation, in units of what it shares with its neighbours
_RARE = 0.05  # cells alive in a smaller share of the embryos are not looked for
_POOLED = 0.2  # how far the spread of a cell is drawn to that of all

Kind = Literal["position", "displacement", "regression"]


@dataclass(frozen=True)
class Rule:
    """How deviations from the mean embryo at the start carry on.

    Parameters
    ----------
    t0_h, t1_h
        Start and end, hours.
    kind
        ``"position"``: not at all, the forecast is the mean place of the named cell. ``"displacement"``: whole, the
        forecast is the start plus the mean displacement of the named cell. ``"regression"``: as the embryos say.
    penalty
        Of the ridge regression on the whole pattern, in units of the mean squared pattern; inf leaves it out.
    """

    t0_h: float
    t1_h: float
    kind: Kind = "regression"
    penalty: float = 1.0


class Departure:
    """Embryos of an atlas at one time, each carried onto their mean by one proper rigid motion.

    Parameters
    ----------
    cells, descent
        Names of all cells, and who descends from whom (see `lineage`).
    x
        Places at the start, µm; NaN where unknown.
    alive
        Which cells live then.

    Raises
    ------
    SchemaError
        If fewer than two embryos are seen then.
    FrameError
        If an embryo's cells leave its pose open.
    """

    def __init__(
        self,
        cells: Sequence[str],
        descent: Bool[np.ndarray, "all all"],
        x: Float[np.ndarray, "embryos all space"],
        alive: Bool[np.ndarray, "embryos all"],
    ) -> None:
        self.seen = alive.any(axis=1)
        share = alive[self.seen].mean(axis=0) if self.seen.any() else np.zeros(len(cells))
        self.index = np.flatnonzero(share >= _RARE)
        if self.seen.sum() < 2 or not len(self.index):
            found = f"{int(self.seen.sum())} embryos with cells at the start"
            raise SchemaError(Problem(found, "two or more", "choose a time that embryos share"), subject="atlas")
        self.cells = tuple(cells[j] for j in self.index.tolist())
        self._every = descent
        self.descent = descent[np.ix_(self.index, self.index)]
        self._number = {name: j for j, name in enumerate(cells)}
        self.motions, placed = _laid_on_mean(x[self.seen][:, self.index])
        self.mean = np.nanmean(placed, axis=0)
        self.deviations = np.nan_to_num(placed - self.mean)
        spread = np.einsum("eci,ecj->cij", self.deviations, self.deviations) / len(placed)
        cov = (1 - _POOLED) * spread + _POOLED * spread.mean(axis=0)
        cov += 1e-6 * np.trace(cov.mean(axis=0)) * np.eye(x.shape[2])
        self.slots = Slots(self.mean, cov, share[self.index])
        self.smoother = _smoother(self.mean)
        self._slots: dict[str, int] = {}

    def placed(
        self, x: Float[np.ndarray, "cells space"], names: Sequence[str]
    ) -> tuple[Int[np.ndarray, " cells"], Rigid]:
        """Return the slot of each named cell, and the motion that lays the embryo on the mean.

        A name that is not there at the start is its nearest relative in line; one that the atlas does not know is
        whatever lies nearest.

        Raises
        ------
        SchemaError
            If fewer than three (in the plane two) names are known.
        FrameError
            If the known cells leave the pose open.
        """
        slot = np.array([self._slot(str(name)) for name in names])
        known = slot >= 0
        if known.sum() < x.shape[1]:
            found = f"{int(known.sum())} of {len(slot)} names that the atlas knows"
            raise SchemaError(
                Problem(found, f"at least {x.shape[1]}", "use names of the atlas, or hide them (names=None)"),
                subject="atlas",
            )
        motion = _motion(x[known], self.mean[slot[known]])
        if not known.all():
            slot[~known] = cKDTree(self.mean).query(motion(x[~known]))[1]
        return slot, motion

    def pattern(
        self, x: Float[np.ndarray, "cells space"], slot: Int[np.ndarray, " cells"]
    ) -> Float[np.ndarray, "slots space"]:
        """Deviation of every slot; one without a cell takes its descendants' mean, its nearest ancestor, or 0."""
        held = np.zeros(len(self.mean))
        total = np.zeros_like(self.mean)
        np.add.at(held, slot, 1)
        np.add.at(total, slot, x)
        own = np.divide(total, held[:, None], out=np.full_like(total, np.nan), where=held[:, None] > 0)
        full = held > 0
        below = self.descent[:, full]
        count = below.sum(axis=1)
        out = np.where(count[:, None] > 0, (below @ own[full]) / np.maximum(count, 1)[:, None], np.nan)
        out[full] = own[full]
        for j in np.flatnonzero(count == 0):
            above = np.flatnonzero(self.descent[:, j] & full)
            if len(above):
                out[j] = own[self._lowest(above)]
        return np.asarray(np.nan_to_num(out - self.mean))

    def _slot(self, name: str) -> int:
        if name not in self._slots:
            self._slots[name] = self._found(name)
        return self._slots[name]

    def _found(self, name: str) -> int:
        """Slot of a cell: its own, of its nearest ancestor that has one, of a descendant; -1 without any."""
        j = self._number.get(name)
        if j is None:
            return -1
        above = np.flatnonzero(self._every[self.index, j])  # slots that it is or descends from
        below = np.flatnonzero(self._every[j, self.index])
        return self._lowest(above) if len(above) else int(below[0]) if len(below) else -1

    def _lowest(self, line: Int[np.ndarray, " line"]) -> int:
        """Return the last born of slots that descend from each other."""
        return int(line[self.descent[np.ix_(line, line)].sum(axis=1).argmin()])


class Onward:
    """How deviations at a start carry on to one later time.

    Parameters
    ----------
    begin
        The start.
    x1
        Places of all cells of the atlas at the end, µm; NaN where unknown.
    """

    def __init__(self, begin: Departure, x1: Float[np.ndarray, "embryos all space"]) -> None:
        self.begin = begin
        later = x1[begin.seen][:, begin.index]
        self.ends = np.stack([motion(x) for motion, x in zip(begin.motions, later, strict=True)])
        self.mean = _mean(self.ends)
        lost = np.isnan(self.mean).any(axis=1)  # never seen at the end: it stays where it is
        self.mean[lost] = begin.mean[lost]
        used = np.isfinite(self.ends).any(axis=(1, 2))
        known, left = begin.deviations[used], np.nan_to_num(self.ends[used] - self.mean)
        features = np.stack([known, begin.smoother @ known])
        gram = np.einsum("iecs,jecs->ij", features, features)
        self.pooled = np.linalg.lstsq(gram, np.einsum("iecs,ecs->i", features, left), rcond=None)[0]
        self._left = (left - np.einsum("i,iecs->ecs", self.pooled, features)).reshape(len(known), -1)
        self._known = known.reshape(len(known), -1)
        self._values, self._vectors = np.linalg.eigh(self._known @ self._known.T)

    def carried(
        self, x: Float[np.ndarray, "cells space"], slot: Int[np.ndarray, " cells"], rule: Rule
    ) -> Float[np.ndarray, "cells space"]:
        """Return where cells at `x`, in the frame of the mean, are at the end.

        Parameters
        ----------
        x, slot
            Places at the start, µm, and who the cells are.
        rule
            How deviations carry on.
        """
        if rule.kind == "position":
            return np.asarray(self.mean[slot])
        if rule.kind == "displacement":
            return np.asarray(x + (self.mean - self.begin.mean)[slot])
        d = self.begin.pattern(x, slot)
        own = self.pooled[0] * d + self.pooled[1] * (self.begin.smoother @ d)
        return np.asarray((self.mean + own + self._whole(d, rule.penalty))[slot])

    def _whole(self, d: Float[np.ndarray, "slots space"], penalty: float) -> Float[np.ndarray, "slots space"]:
        """Ridge regression on the whole pattern, in the space of embryos."""
        scale = float(self._values.mean()) if len(self._values) else 0.0
        if not np.isfinite(penalty) or not scale > 0:
            return np.zeros_like(d)
        alike = self._vectors.T @ (self._known @ d.ravel()) / (self._values + penalty * scale)
        return np.asarray((self._vectors @ alike @ self._left).reshape(d.shape))


def lineage(cells: Sequence[str], parents: Sequence[str]) -> Bool[np.ndarray, "cells cells"]:
    """Return whether cell j (column) is cell i (row) or descends from it."""
    number = {name: j for j, name in enumerate(cells)}
    mother = {name: parent for name, parent in zip(cells, parents, strict=True) if parent and parent != name}
    out = np.eye(len(cells), dtype=bool)
    for j, name in enumerate(cells):
        above, passed = mother.get(name), {name}
        while above is not None and above not in passed:
            if above in number:
                out[number[above], j] = True
            passed.add(above)
            above = mother.get(above)
    return out


def _motion(x: Float[np.ndarray, "points space"], y: Float[np.ndarray, "points space"]) -> Rigid:
    a, b = x.mean(axis=0), y.mean(axis=0)
    found = best(a, b, (x - a).T @ (y - b))
    if found is None:
        problem = Problem(f"{len(x)} known cells on one line", "cells that span a plane", "use a time with more cells")
        raise FrameError(problem, subject="atlas")
    return found


def _laid_on_mean(
    x: Float[np.ndarray, "embryos slots space"],
) -> tuple[list[Rigid], Float[np.ndarray, "embryos slots space"]]:
    """Lay embryos on their mean in turn (generalised Procrustes, Gower, Psychometrika 40:33, 1975; no scaling)."""
    known = np.isfinite(x).all(axis=2)
    motions = [Rigid.identity(x.shape[2])] * len(x)
    placed = x
    for _ in range(_ROUNDS):
        mean = np.nanmean(placed, axis=0)
        motions = [_motion(one[seen], mean[seen]) for one, seen in zip(x, known, strict=True)]
        placed = np.stack([motion(one) for motion, one in zip(motions, x, strict=True)])
    return motions, placed


def _mean(x: Float[np.ndarray, "embryos slots space"]) -> Float[np.ndarray, "slots space"]:
    known = np.isfinite(x).all(axis=2)
    count = known.sum(axis=0)[:, None]
    total = np.where(known[:, :, None], x, 0).sum(axis=0)
    return np.asarray(np.divide(total, count, out=np.full_like(total, np.nan), where=count > 0))


def _smoother(mean: Float[np.ndarray, "slots space"]) -> Float[np.ndarray, "slots slots"]:
    """Best guess of what a cell's deviation shares with its neighbours' (a Gaussian process of one reach)."""
    apart = ((mean[:, None] - mean) ** 2).sum(axis=2)
    off = np.where(np.eye(len(mean), dtype=bool), np.inf, apart)
    spacing2 = float(np.median(off.min(axis=1))) if len(mean) > 1 else 1.0
    shared = np.exp(-apart / (2 * max(spacing2, 1e-12) * _REACH**2))
    return np.asarray(shared @ np.linalg.inv(shared + _OWN * np.eye(len(mean))))
